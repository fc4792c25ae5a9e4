"""From the environment and `config.yaml` to a CODEX_HOME that codex can be started with.

One piece of code for all who configure codex: the adapter, and the commands that the platform knows by name
(`render_provider_toml.py`). Doing it again changes nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

import auth_json
from codex_config import CodexConfig, McpServer, codex_home, write_config_toml
from config_document.typed import untold
from molecule_runtime import configs_dir
from provider_config import NAMED_BY, ProviderError, Selection, missing_credential, resolve_provider
from workspace_config import WorkspaceConfig, load_workspace_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Prepared", "configure", "molecule_mcp_server"]

log = structlog.get_logger(__name__)

_MCP_MODULE: Final = "molecule_runtime.a2a_mcp_server"
_MCP_ENV: Final = ("WORKSPACE_ID", "PLATFORM_URL", "MOLECULE_ORG_ID", "WORKSPACE_CONFIG_PATH")
_MCP_ENV_VARS: Final = ("PYTHONPATH", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What codex was configured with."""

    config: WorkspaceConfig
    selection: Selection
    home: Path


def configure(
    env: Mapping[str, str],
    config_path: Path,
    *,
    provider: str = "",
    model: str = "",
    home: Path | None = None,
) -> Prepared:
    """Choose provider and model, sign in with a subscription that is given, and write config.toml.

    Args:
        env: The environment with its credentials.
        config_path: The workspace's config.yaml, or its directory.
        provider: Name of a provider of the registry, in place of what is configured.
        model: A model, in place of the configured one.
        home: CODEX_HOME, where it is not the environment's.

    Raises ConfigFileError, ProviderError, AuthJsonError, ConfigTomlError or OSError, each a sentence that
    says what to change.
    """
    workspace = load_workspace_config(config_path, env=env)
    for warning in untold(workspace.warnings):
        log.warning("config.odd", what=warning)
    wanted = {name: value for name, value in (("provider", provider), ("model", model)) if value}
    runtime_config = workspace.runtime_config.model_copy(update=wanted)
    workspace = workspace.model_copy(update={"runtime_config": runtime_config})
    if provider:
        env = {name: value for name, value in env.items() if name not in NAMED_BY}
    home = home or codex_home(env)
    selection = resolve_provider(workspace, env, codex_home=home)
    if problem := missing_credential(selection, workspace.providers):
        raise ProviderError(problem)
    subscription = auth_json.given(env) if selection.provider.auth_mode == "chatgpt_subscription" else None
    if subscription is not None:
        auth_json.check(subscription[1], subscription[0])
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    mcp = molecule_mcp_server(env, configs_dir.resolve())
    changed = write_config_toml(
        home,
        CodexConfig(
            selection=selection,
            sandbox=workspace.bridge.sandbox,
            mcp_servers=[mcp] if mcp is not None else [],
            secret_variables=sorted(workspace.credential_variables),
        ),
    )
    if subscription is not None:
        auth_json.install(home, subscription[1], subscription[0])
    if selection.provider.auth_mode == "chatgpt_subscription" and env.get("OPENAI_API_KEY", "").strip():
        log.info("credential.unused", variable="OPENAI_API_KEY", reason="the subscription is used")
    log.info(
        "codex.configured",
        provider=selection.provider.name,
        model=selection.model,
        credential=selection.credential,
        config_changed=changed,
    )
    return Prepared(workspace, selection, home)


def molecule_mcp_server(env: Mapping[str, str], configs: Path) -> McpServer | None:
    """The platform's tools for codex; None where the runtime has no such server.

    codex gives its MCP children next to nothing of its environment, so everything is literal, the directory
    as it was resolved here: the child must read the same token as the runtime (PLATFORM.md B-1). No value is
    a secret.
    """
    if importlib.util.find_spec(_MCP_MODULE) is None:
        return None
    return McpServer(
        name="molecule",
        command=sys.executable,
        args=("-m", _MCP_MODULE),
        env={"CONFIGS_DIR": str(configs), **{name: env[name] for name in _MCP_ENV if env.get(name)}},
        env_vars=_MCP_ENV_VARS,
    )
