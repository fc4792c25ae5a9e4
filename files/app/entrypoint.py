"""The workspace's entry point behind `start.sh`: prepares what the agent owns, and becomes the agent.

`docs/boot.md` describes the order, the exit codes and every line. What people can read is on stderr, one line
a fact; of a secret only its name.

Only the standard library and what reads config.yaml are imported: the time until the runtime runs is the time
that this module needs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import agent_user
import auth_json
import boot_owner
import boot_secrets
import config_document
import inbound_bearer
from codex_binary import CodexNotFoundError, find_codex
from credentials import hand_over, is_credential, without_line_ends
from git_access import git_variables
from launcher import SIGNALS
from proxies import past_the_proxy
from refresh_owner import VARIABLE as OWNER_VARIABLE
from refresh_owner import RefreshOwnerError, refresh_role

if TYPE_CHECKING:
    from agent_user import Agent

__all__ = ["main"]

EXIT_NO_CODEX: Final = 69
EXIT_BROKEN: Final = 70
EXIT_CONFIG: Final = 78
EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NO_COMMAND: Final = 127

_CONFIGS: Final = Path("/configs")
_WORKSPACE: Final = Path("/workspace")
_SOCKET: Final = Path("/var/run/docker.sock")
_IMAGE_CONFIG: Final = Path(__file__).with_name("config.yaml")
_WATCHDOG: Final = "codex_auth_refresh.sh"
_RUNTIME: Final = "molecule-runtime"


class BootError(Exception):
    """The workspace cannot start. The text says what was given, what is allowed and what to do."""

    def __init__(self, message: str, code: int = EXIT_CONFIG) -> None:
        super().__init__(message)
        self.code = code


def say(line: str) -> None:
    """Tell the story of the boot, a line at a time."""
    printable = "".join(each if each.isprintable() else "?" for each in line)
    sys.stderr.write(f"[start] {printable}\n")
    sys.stderr.flush()


def main(command: list[str]) -> int:
    """Prepare, then execute `command` (default: the runtime) as the agent. Returns only on failure."""
    try:
        _start(command)
    except BootError as error:
        say(str(error))
        return error.code


def _start(command: list[str]) -> NoReturn:
    env = without_line_ends(os.environ)
    _check(env)
    try:
        env.update(_told(dict(boot_secrets.of_systemd(env)), "systemd"))
        if is_root := os.geteuid() == 0:
            agent = _root_phase(env)
        else:
            agent = agent_user.myself(env)
            say("not root: the owner of directories and the group of docker.sock are left as they are")
        env.update(_told(boot_secrets.of_loader(env), str(boot_secrets.LOADER)))
    except (boot_secrets.SecretsError, agent_user.AgentError) as error:
        raise BootError(str(error)) from error
    _check(env)
    env["HOME"] = agent.home
    variables = _provider_variables(env)
    env = without_line_ends(env, variables)
    _introduce(env, agent, variables, is_root=is_root)
    home = _codex_home(env)
    env["CODEX_HOME"] = str(home)
    env.update(git_variables(env))
    _sign_in(env, home)
    if command:
        _execute(command, env)
    _guard(env)
    runtime = _runtime(env)
    say(f"codex: {_codex(env)}")
    if auth_json.is_subscription(home):
        _watch(env, variables)
    env.update(past_the_proxy(env))
    for_runtime = hand_over(env, variables, _spent_by_runtime())
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    _execute(runtime, for_runtime)


def _check(env: dict[str, str]) -> None:
    try:
        refresh_role(env)
    except RefreshOwnerError as error:
        raise BootError(str(error)) from error


def _told(secrets: dict[str, str], source: str) -> dict[str, str]:
    if secrets:
        say(f"secrets: {', '.join(sorted(secrets))} from {source}")
    return secrets


# -- root ------------------------------------------------------------------------------------------------


def _root_phase(env: dict[str, str]) -> Agent:
    """All that needs root, and the end of it: from here on this process is the agent. Raises AgentError.

    A volume may be mounted at each of the directories, and comes with root as its owner.
    """
    agent = agent_user.find(env)
    codex_home = _wanted_home(env, agent.home)
    lines = boot_owner.give(_CONFIGS, agent, seeded=True)
    lines += boot_owner.give(_WORKSPACE, agent, seeded=False)
    lines += boot_owner.give(Path(agent.home), agent, seeded=False)
    if os.path.lexists(codex_home):
        lines += boot_owner.give(codex_home, agent, seeded=True)
    if _SOCKET.exists():
        agent, line = boot_owner.join_socket_group(_SOCKET, agent)
        lines.append(line)
    for line in lines:
        say(line)
    agent_user.become(agent)
    return agent


# -- who -------------------------------------------------------------------------------------------------


def _introduce(env: dict[str, str], agent: Agent, variables: set[str], *, is_root: bool) -> None:
    workspace = env.get("WORKSPACE_ID") or "(WORKSPACE_ID is not set)"
    where = env.get("PLATFORM_URL") or "(PLATFORM_URL is not set: its default)"
    say(f"workspace {workspace}, platform {re.sub('//[^/]*@', '//', where)}")
    became = f"root, then {agent.name}" if is_root else agent.name
    say(f"running as {became} (uid {agent.uid}, gid {agent.gid}) on {platform.node()}")
    credentials = sorted(name for name in variables if env.get(name, "").strip())
    others = sorted(name for name in env if is_credential(name, ()) and name not in variables)
    say(f"credentials: {', '.join(credentials) or 'none in the environment'}")
    if others:
        say(f"kept from every process of the agent: {', '.join(others)}")


def _provider_variables(env: dict[str, str]) -> set[str]:
    """Names of the variables that may hold a provider's credential, by the registry in config.yaml.

    A file that cannot be read counts as empty: the runtime says what is wrong with it.
    """
    names = {*auth_json.VARIABLES, "OPENAI_API_KEY"}
    for path in (_IMAGE_CONFIG, Path(env.get("WORKSPACE_CONFIG_PATH") or _CONFIGS)):
        with contextlib.suppress(config_document.ConfigFileError):
            names.update(config_document.load(None, path).credential_variables)
    return names


# -- codex -----------------------------------------------------------------------------------------------


def _wanted_home(env: dict[str, str], home: str) -> Path:
    """CODEX_HOME as it was asked for, absolute: the workspace's programs have several working directories."""
    wanted = env.get("CODEX_HOME") or "~/.codex"
    expanded = Path(home, wanted[2:]) if wanted.startswith("~/") else Path(wanted)
    return Path(os.path.abspath(expanded))  # noqa: PTH100 (resolve would follow links)


def _codex_home(env: dict[str, str]) -> Path:
    """CODEX_HOME with its sessions, made where it is missing; below /configs where the home is read-only."""
    wanted = _wanted_home(env, env["HOME"])
    problems = []
    for home in dict.fromkeys((wanted, _CONFIGS / ".codex")):
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            (home / "sessions").mkdir(mode=0o700, exist_ok=True)
            if os.access(home, os.W_OK | os.X_OK):
                if home != wanted:
                    say(f"{wanted} cannot be written here, so CODEX_HOME is {home}")
                return home
            problems.append(f"{home}: not writable")
        except OSError as error:
            problems.append(f"{home}: {error.strerror}")
    raise BootError(
        f"codex has no directory that it can write ({'; '.join(problems)}): mount a volume or a tmpfs, and "
        "set CODEX_HOME to it"
    )


def _sign_in(env: dict[str, str], home: Path) -> None:
    """Make auth.json of the subscription that was given. What is wrong with it, the runtime serves."""
    withhold = not refresh_role(env).refreshes
    subscription = auth_json.given(env)
    try:
        if subscription is None:
            auth_json.settle(home, withhold=withhold)
            return
        name, text = subscription
        told = {
            "written": f"written from {name}",
            "same": f"as in {name}",
            "kept": f"kept, its tokens are not older than those in {name}",
        }
        say(f"{home}/auth.json: {told[auth_json.install(home, text, name, withhold=withhold)]}")
    except auth_json.AuthJsonError as error:
        say(f"auth.json is left as it is: {error}")
    except OSError as error:
        raise BootError(
            f"{home}/auth.json cannot be written ({error.strerror or error}): make room, or mount a volume"
        ) from error


def _codex(env: dict[str, str]) -> str:
    """Version and place of codex, which must run."""
    try:
        binary = find_codex(path=env.get("PATH"))
        done = subprocess.run(
            [binary, "--version"],
            env={name: value for name, value in env.items() if name in ("PATH", "HOME", "CODEX_HOME")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=30,
        )
    except CodexNotFoundError as error:
        raise BootError(f"codex is not installed: {error}", EXIT_NO_CODEX) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BootError(f"codex does not run ({error}): install it again", EXIT_NO_CODEX) from error
    if done.returncode != 0:
        raise BootError(
            f"{binary} does not run (exit code {done.returncode}): {done.stderr.strip()[:200]}", EXIT_NO_CODEX
        )
    return f"{done.stdout.strip()} at {binary}"


def _guard(env: dict[str, str]) -> None:
    """Put the token that the workspace asks for where the runtime finds it, if it has to ask."""
    try:
        token, line = inbound_bearer.given_or_made(env, _CONFIGS, _SOCKET)
    except inbound_bearer.BearerError as error:
        raise BootError(str(error)) from error
    if token:
        env[inbound_bearer.VARIABLE] = token
        say(line)


# -- handing over ----------------------------------------------------------------------------------------


def _runtime(env: dict[str, str]) -> list[str]:
    """The command that runs the runtime of this Python, which is the one that has its packages."""
    beside = Path(sys.executable).with_name(_RUNTIME)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(_RUNTIME, path=env.get("PATH"))
    if found is None:
        raise BootError(
            f"no {_RUNTIME} is installed, neither beside {sys.executable} nor on PATH: install it",
            EXIT_BROKEN,
        )
    return [sys.executable, str(Path(__file__).with_name("launcher.py")), found]


def _spent_by_runtime() -> tuple[str, ...]:
    """Credentials that the runtime itself looks for in its environment; each is good for its boot alone.

    The platform's own runtime fetches its configuration with one, and does not start without it.
    """
    try:
        fetches = importlib.util.find_spec("molecule_runtime.config_relay") is not None
    except ImportError:
        fetches = False
    return ("MOLECULE_CONFIG_RELAY_ACK_TOKEN",) if fetches else ()


def _watch(env: dict[str, str], variables: set[str]) -> None:
    """Start the watchdog of the tokens, for as long as the container lives. It is given no credential."""
    role = refresh_role(env)
    if not role.refreshes:
        say(f"OAuth: follower, this workspace refreshes nothing ({role.why})")
        return
    watchdog = Path(__file__).parent.parent / "bin" / _WATCHDOG
    command = str(watchdog) if watchdog.exists() else f"/usr/local/bin/{_WATCHDOG}"
    try:
        subprocess.Popen(
            [command, "--supervise"],
            env={
                **{name: value for name, value in env.items() if not is_credential(name, variables)},
                OWNER_VARIABLE: "1",
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise BootError(
            f"{command} cannot be executed ({error.strerror}): install it", EXIT_BROKEN
        ) from error
    say(f"OAuth: the watchdog keeps auth.json fresh (owner: {role.why})")


def _execute(command: list[str], env: dict[str, str]) -> NoReturn:
    # Python ignores these two, and what is ignored stays so in the next program: `yes | head` would not end.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 (to become another program is what this is for)
    except OSError as error:
        code = EXIT_NO_COMMAND if isinstance(error, FileNotFoundError) else EXIT_NOT_EXECUTABLE
        raise BootError(f"{command[0]} cannot be executed: {error.strerror}", code) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
