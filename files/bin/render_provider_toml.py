#!/usr/local/bin/workspace-python
"""Write codex's config.toml for the provider that the workspace uses, as the runtime does when it starts.

Without a credential nothing is said of a provider, and the rest is written, the platform's tools among it.

Exit codes: 0 written, or as it should be already; 2 a setting that cannot be used, and nothing was changed.
"""

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In the repository files/bin is beside files/app; installed, the modules are in /app.
APP = next(
    (path for path in (HERE.parent / "app", Path("/app")) if (path / "codex_setup.py").is_file()), None
)


def main() -> int:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--provider", default="", help="name of a provider in config.yaml; default: found")
    parser.add_argument("--model", default="", help="a model, in place of the configured one")
    parser.add_argument(
        "--codex-home", type=Path, help="directory of config.toml; default: $CODEX_HOME, ~/.codex"
    )
    parser.add_argument(
        "--workspace-config",
        type=Path,
        help="config.yaml of the workspace, or its directory; default: $WORKSPACE_CONFIG_PATH, /configs",
    )
    # How codex_mcp_config.sh and codex_minimax_config.sh say who asks.
    parser.add_argument("--as", dest="caller", choices=["codex-mcp", "codex-minimax"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if APP is None:
        return refuse(f"codex_setup.py is neither in {HERE.parent}/app nor in /app")
    sys.path.insert(0, str(APP))
    try:
        return render(given)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        return refuse(str(error))


def render(given: argparse.Namespace) -> int:
    """Do what was asked for, with the secrets and the user of the boot: files of root are of no use there."""
    import structlog  # noqa: PLC0415 (of the application's Python)

    import agent_user  # noqa: PLC0415 (their place is known only now)
    import boot_secrets  # noqa: PLC0415
    import codex_setup  # noqa: PLC0415
    import credentials  # noqa: PLC0415

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    where = given.workspace_config
    if where is not None and not where.exists():
        raise ValueError(f"--workspace-config {where} does not exist: give a config.yaml, or its directory")
    if os.geteuid() == 0:
        agent = agent_user.find(os.environ)
        agent_user.become(agent)
        os.environ["HOME"] = agent.home
    env = credentials.without_line_ends({**os.environ, **boot_secrets.of_loader(os.environ)})
    if given.caller == "codex-minimax" and not env.get(codex_setup.MINIMAX_KEY, "").strip():
        sys.stdout.write(f"[codex-minimax] no {codex_setup.MINIMAX_KEY}: nothing to do\n")
        return 0
    where = where or Path(os.environ.get("WORKSPACE_CONFIG_PATH") or "/configs")
    try:
        prepared = codex_setup.configure(
            env, where, provider=given.provider, model=given.model, home=given.codex_home
        )
    except codex_setup.MissingCredentialError as error:
        if given.provider:
            raise
        home = codex_setup.configure_tools(env, where, home=given.codex_home)
        sys.stdout.write(f"{home}/config.toml: nothing of a provider: {error}\n")
    else:
        home, selection = prepared.home, prepared.selection
        sys.stdout.write(f"{home}/config.toml: provider {selection.provider.name}, model {selection.model}\n")
    if given.caller:
        sys.stderr.write(f"[{given.caller}] wrote {home}/config.toml\n")
    return 0


def refuse(reason: str) -> int:
    """Say why, and give the exit code."""
    sys.stderr.write(f"render_provider_toml: {reason}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
