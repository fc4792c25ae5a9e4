"""From the environment and `config.yaml` to a CODEX_HOME that codex can be started with.

One piece of code for all who configure codex: the adapter, and the commands that the platform knows by name
(`render_provider_toml.py`). Doing it again changes nothing.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

import auth_json
from codex_config import CodexConfig, McpServer, codex_home, expected_endpoint, write_config_toml
from config_document.typed import untold
from credentials import not_for_a_header
from provider_config import NAMED_BY, ProviderError, Selection, missing_credential, resolve_provider
from proxies import NETWORK_VARIABLES
from refresh_owner import refresh_role
from runtime_hooks import configs_dir
from workspace_config import WorkspaceConfig, load_workspace_config

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MINIMAX_KEY",
    "McpPythonError",
    "MissingCredentialError",
    "Prepared",
    "configure",
    "configure_tools",
    "molecule_mcp_server",
]

log = structlog.get_logger(__name__)

MINIMAX_KEY: Final = "MINIMAX_API_KEY"
"""The variable that makes a provider that of MiniMax."""

_MCP_SECONDS: Final = 30.0
_MCP_MODULE: Final = "molecule_runtime.a2a_mcp_server"
_MCP_ENV: Final = (
    "WORKSPACE_ID", "PLATFORM_URL", "MOLECULE_ORG_ID", "WORKSPACE_CONFIG_PATH", "TIER", "MOLECULE_MODEL",
    "MODEL", "MODEL_PROVIDER", "RUNTIME",
)  # fmt: skip
# By name: codex copies their values from its own environment, and a proxy's password stays out of the file.
_MCP_ENV_VARS: Final = ("PYTHONPATH", *NETWORK_VARIABLES)


class McpPythonError(ValueError):
    """A MOLECULE_MCP_PYTHON that codex cannot start anything with."""


class MissingCredentialError(ProviderError):
    """Nothing that the workspace was given logs in anywhere."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What codex was configured with. `endpoint` is what its configuration has to say of the address."""

    config: WorkspaceConfig
    selection: Selection
    home: Path
    endpoint: Mapping[tuple[str, ...], object] = field(default_factory=dict)


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

    Raises ConfigFileError, ProviderError (MissingCredentialError where nothing logs in), AuthJsonError,
    ConfigTomlError, McpPythonError or OSError, each a sentence that says what to change.
    """
    workspace = load_workspace_config(config_path, env=env)
    for warning in untold(workspace.warnings):
        log.warning("config.odd", what=warning)
    named = {name: value for name, value in (("provider", provider), ("model", model)) if value}
    runtime_config = workspace.runtime_config.model_copy(update=named)
    workspace = workspace.model_copy(update={"runtime_config": runtime_config})
    if provider:
        env = {name: value for name, value in env.items() if name not in NAMED_BY}
    home = home or codex_home(env)
    selection = resolve_provider(workspace, env, codex_home=home)
    if problem := missing_credential(selection, workspace.providers):
        raise MissingCredentialError(problem)
    if problem := _unusable(selection, env):
        raise ProviderError(problem)
    selection = _with_minimax_model(selection, env)
    subscription = auth_json.given(env) if selection.provider.auth_mode == "chatgpt_subscription" else None
    if subscription is not None:
        auth_json.check(subscription[1], subscription[0])
    # The agent asks its tools what it runs as, and is to hear what was chosen.
    chosen = {"MODEL": selection.model, "MODEL_PROVIDER": selection.provider.name, "RUNTIME": "codex"}
    mcp = molecule_mcp_server({**env, **chosen}, configs_dir())
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = _wanted(workspace, selection, mcp)
    changed = write_config_toml(home, wanted)
    if subscription is not None:
        auth_json.install(home, subscription[1], subscription[0], withhold=not refresh_role(env).refreshes)
    if selection.provider.auth_mode == "chatgpt_subscription" and env.get("OPENAI_API_KEY", "").strip():
        log.info("credential.unused", variable="OPENAI_API_KEY", reason="the subscription is used")
    endpoint = expected_endpoint(home, wanted)
    log.info(
        "codex.configured",
        **_by_hand(endpoint),
        provider=selection.provider.name,
        model=selection.model,
        credential=selection.credential,
        config_changed=changed,
    )
    return Prepared(workspace, selection, home, endpoint)


def _by_hand(endpoint: Mapping[tuple[str, ...], object]) -> dict[str, str]:
    """Where an address of OpenAI's that somebody wrote into config.toml leads, for the log."""
    hosts = [
        f"{path[0]} at {urlsplit(str(address)).hostname}"
        for path, address in endpoint.items()
        if len(path) == 1 and address
    ]
    return {"address": ", ".join(hosts)} if hosts else {}


def _unusable(selection: Selection, env: Mapping[str, str]) -> str | None:
    """What to say about a key that codex would leave out of its requests without a word."""
    if selection.provider.auth_mode == "chatgpt_subscription" or selection.credential is None:
        return None
    return not_for_a_header(selection.credential, env.get(selection.credential, ""))


def configure_tools(env: Mapping[str, str], config_path: Path, *, home: Path | None = None) -> Path:
    """Write what needs no credential into config.toml, and leave what it says of providers as it is.

    Returns CODEX_HOME. Raises as `configure`.
    """
    workspace = load_workspace_config(config_path, env=env)
    home = home or codex_home(env)
    mcp = molecule_mcp_server(env, configs_dir())
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_config_toml(home, _wanted(workspace, None, mcp))
    return home


def _wanted(workspace: WorkspaceConfig, selection: Selection | None, mcp: McpServer | None) -> CodexConfig:
    return CodexConfig(
        selection=selection,
        sandbox=workspace.bridge.sandbox,
        mcp_servers=[mcp] if mcp is not None else [],
        secret_variables=sorted(workspace.credential_variables),
    )


def _with_minimax_model(selection: Selection, env: Mapping[str, str]) -> Selection:
    """CODEX_MINIMAX_MODEL names the model of MiniMax, whatever the rest of the workspace calls its own."""
    model = env.get("CODEX_MINIMAX_MODEL", "").strip()
    if not model or MINIMAX_KEY not in selection.provider.auth_env:
        return selection
    return replace(selection, model=model)


def _mcp_python(env: Mapping[str, str]) -> str:
    """The Python that has the runtime: this one, unless MOLECULE_MCP_PYTHON names another.

    One that cannot be run from here is taken at its word, and told: it may be there when codex starts it.
    """
    named = env.get("MOLECULE_MCP_PYTHON", "").strip()
    if not named:
        return sys.executable
    if not Path(named).is_absolute():
        raise McpPythonError(
            f"MOLECULE_MCP_PYTHON is {named!r}: it must be the absolute path of a Python that has the A2A "
            "runtime; correct or unset it"
        )
    if not _has_runtime(named):
        log.warning(
            "mcp.python", path=named, reason="cannot import molecule_runtime: the tools will not start"
        )
    return named


def _has_runtime(python: str) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", "import molecule_runtime"], capture_output=True, check=False, timeout=_MCP_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def molecule_mcp_server(env: Mapping[str, str], configs: Path) -> McpServer | None:
    """The platform's tools for codex; None where the runtime has no such server.

    codex gives its MCP children next to nothing of its environment, so everything is literal, the directory
    as it was resolved here: the child must read the same token as the runtime (PLATFORM.md B-1). No value is
    a secret.

    Raises McpPythonError for a MOLECULE_MCP_PYTHON that cannot be used.
    """
    if importlib.util.find_spec(_MCP_MODULE) is None:
        return None
    return McpServer(
        name="molecule",
        command=_mcp_python(env),
        args=("-m", _MCP_MODULE),
        env={"CONFIGS_DIR": str(configs), **{name: env[name] for name in _MCP_ENV if env.get(name)}},
        env_vars=_MCP_ENV_VARS,
    )
