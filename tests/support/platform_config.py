"""`config.yaml` as the platform writes it: at a creation, at an import, from a template, and after an edit.

Shapes of its sources, not of what this workspace happens to read.
"""

from __future__ import annotations

__all__ = ["BROKEN", "FORMS", "ODD"]

_CREATED = """\
name: "Backend: API"
description: "Backend engineer"
version: 1.0.0
tier: 3
runtime: codex
model: "gpt-5.5"
provider: 'openai'
runtime_config:
  provider: 'openai'
  timeout: 0
"""
_NOTHING_DERIVED = """\
name: "Backend: API"
description: ""
version: 1.0.0
tier: 3
runtime: codex
model: ""
runtime_config:
  timeout: 0
"""
_IMPORTED = """\
description: Reviews
model: gpt-5.4
name: Reviewer
provider: openai-subscription
runtime: codex
runtime_config: {provider: openai-subscription, timeout: 0}
tier: 2
version: 1.0.0
initial_prompt: |
  From the template.
category_routing:
  security: [Lead]
initial_prompt: |
  Read the repository.
idle_interval_seconds: 600
idle_prompt: |
  Look for open work.
schedules:
  - {name: nightly, cron: "0 3 * * *", timezone: UTC, prompt: "Run the suite", enabled: true}
"""
_SAVED = """\
name: 2025
description: Backend engineer
version: 1.0
tier: 3
runtime: codex
runtime_config:
  provider: openai
  timeout: 0
model: gpt-5.5
skills: []
tools: []
a2a:
  port: 8000
  streaming: true
  push_notifications: true
delegation:
  retry_attempts: 3
  retry_delay: 5
  timeout: 120
  escalate: true
sandbox:
  backend: docker
  memory_limit: 256m
  timeout: 30
effort: high
task_budget: 0
prompt_files:
  - system-prompt.md
"""
_TEMPLATE = """\
name: OpenAI Codex CLI
description: Codex
version: 1.0.0
template_schema_version: 1
runtime: codex
tier: 2
model: gpt-5.5
models:
  - {id: gpt-5.5, name: GPT-5.5, provider: openai-subscription, required_env: [CODEX_AUTH_JSON]}
providers:
  - {name: openai-subscription, auth_mode: chatgpt_subscription, auth_env: [CODEX_AUTH_JSON],
     model_prefixes: [gpt-], model_aliases: [], base_url: null, display_name: ChatGPT}
  - {name: openai-api, auth_mode: openai_api, auth_env: [OPENAI_API_KEY],
     model_prefixes: [gpt-], base_url: null}
  - {name: claude, auth_mode: oauth, auth_env: [CLAUDE_CODE_OAUTH_TOKEN]}
  - {name: anthropic, auth_mode: anthropic_api, auth_env: [ANTHROPIC_API_KEY],
     auth_token_env: ANTHROPIC_AUTH_TOKEN}
  - {name: platform, auth_mode: openai_compat_responses, auth_env: [MOLECULE_LLM_USAGE_TOKEN],
     base_url: "https://api.moleculesai.app/api/v1/internal/llm/openai/v1", wire_api: responses}
runtime_config:
  model: gpt-5.5
  models:
    - {id: gpt-5.5, name: GPT-5.5, required_env: [OPENAI_API_KEY, CODEX_AUTH_JSON]}
  required_env: []
  recommended_env: []
  providers: [openai-subscription, openai-api, platform]
  timeout: 0
skills: []
tools: []
plugins: [browser, {source: "gitea://owner/repo", config: {}}]
env: {required: [], optional: [OPENAI_API_KEY]}
memory: {}
delegation: {retry_attempts: 3}
sandbox: {}
sub_workspaces: []
shared_context: []
a2a: {port: 8000, streaming: true, push_notifications: true}
bridge: {app_server_command: codex, app_server_args: [app-server]}
schedules: [{name: nightly, cron_expr: "0 3 * * *", prompt_file: nightly.md, enabled: false}]
"""

FORMS = {
    "created": _CREATED,
    "created, nothing derived": _NOTHING_DERIVED,
    "imported": _IMPORTED,
    "saved in the editor": _SAVED,
    "from a template": _TEMPLATE,
}
"""Each is a workspace that is ready where there is nothing but an API key of OpenAI's."""

ODD = """\
name: 007
version: 1.10
description:
role:
tier: x
model:
idle_interval_seconds: 0
template_schema_version: "1"
skills:
prompt_files:
a2a:
  # port: 9000
providre: openai
runtime_config: {provider: openai, timeout: never, colour: blue}
"""
"""What hands have left; ready all the same."""

BROKEN = "name: Backend\ndescription: does this: and that\n"
"""A text with a colon, as the editor writes it."""
