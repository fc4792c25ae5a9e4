"""The workspace's entry point behind `start.sh`: prepares what the agent owns, and becomes the agent.

Exit codes before the runtime has the process (its own are 0 to 3): 69 no codex, 78 a setting that cannot be
used. `docs/boot.md` lists them all. What people can read is on stderr, one line a fact; of a secret only its
name.

Only the standard library and PyYAML are imported: the time until the runtime runs is the time that this
module needs.
"""

from __future__ import annotations

import os
import platform
import pwd
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml

import auth_json
import boot_owner
import boot_secrets
from codex_binary import CodexNotFoundError, find_codex
from credentials import hand_over, is_credential

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

EXIT_NO_CODEX: Final = 69
EXIT_CONFIG: Final = 78

_AGENT: Final = "agent"
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


@dataclass(frozen=True, slots=True)
class Agent:
    """Whom the workspace runs as. `groups` are numbers of its supplementary groups."""

    name: str
    uid: int
    gid: int
    home: str
    groups: tuple[int, ...] = ()


def say(line: str) -> None:
    """Tell the story of the boot, a line at a time."""
    sys.stderr.write(f"[start] {line}\n")
    sys.stderr.flush()


def main(command: list[str]) -> int:
    """Prepare, then execute `command` (default: the runtime) as the agent. Returns only on failure."""
    try:
        _start(command)
    except BootError as error:
        say(str(error))
        return error.code


def _start(command: list[str]) -> NoReturn:
    env = dict(os.environ)
    _check(env)
    is_root = os.geteuid() == 0
    agent = _find_agent(env) if is_root else _myself(env)
    try:
        env.update(boot_secrets.of_systemd(env))
        if is_root:
            for line in boot_owner.give(_directories(env, agent), agent.uid, agent.gid):
                say(line)
        loader = _CONFIGS / "secrets.d" / "load.sh"
        loaded = boot_secrets.of_loader(loader, env, agent if is_root else None)
    except boot_secrets.SecretsError as error:
        raise BootError(str(error)) from error
    env.update(loaded)
    if loaded:
        say(f"secrets: {', '.join(sorted(loaded))} from {loader}")
    _introduce(env, agent, is_root=is_root)
    if is_root:
        env["HOME"] = agent.home
        if _SOCKET.exists():
            agent, line = boot_owner.join_socket_group(_SOCKET, agent)
            say(line)
    with _as_agent(agent, is_root=is_root):
        home = _codex_home(env)
        env["CODEX_HOME"] = str(home)
        _sign_in(env, home)
    _become(agent if is_root else None, command, env, home)


def _check(env: dict[str, str]) -> None:
    owner = env.get("CODEX_AUTH_REFRESH_OWNER", "")
    if owner not in ("", "0", "1"):
        raise BootError(
            f"CODEX_AUTH_REFRESH_OWNER is {owner!r}: give 1 (this workspace refreshes its own account) or 0 "
            "(another one does), or unset it for 1"
        )


def _directories(env: dict[str, str], agent: Agent) -> list[Path]:
    """What the agent must own. A volume may be mounted at each of them, and comes with root as its owner."""
    home = (
        [Path(env["CODEX_HOME"])]
        if Path(env.get("CODEX_HOME", "")).is_dir() and env.get("CODEX_HOME")
        else []
    )
    return [_CONFIGS, _WORKSPACE, Path(agent.home), *home]


# -- who -------------------------------------------------------------------------------------------------


def _find_agent(env: dict[str, str]) -> Agent:
    name = env.get("CODEX_WORKSPACE_AGENT_USER") or _AGENT
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise BootError(
            f"there is no user {name!r} to run as: set CODEX_WORKSPACE_AGENT_USER to one that exists"
        ) from None
    return Agent(name, user.pw_uid, user.pw_gid, user.pw_dir, tuple(os.getgrouplist(name, user.pw_gid)))


def _myself(env: dict[str, str]) -> Agent:
    say("not root: the owner of directories and the group of docker.sock are left as they are")
    uid = os.getuid()
    try:
        name, home = pwd.getpwuid(uid).pw_name, pwd.getpwuid(uid).pw_dir
    except KeyError:
        name, home = str(uid), "/tmp"  # noqa: S108 (a uid without an entry has no home; CODEX_HOME is checked)
    return Agent(name, uid, os.getgid(), env.get("HOME") or home, tuple(os.getgroups()))


@contextmanager
def _as_agent(agent: Agent, *, is_root: bool) -> Iterator[None]:
    """Touch files with the agent's rights: as root, a link that the agent has put there would be followed."""
    if not is_root:
        yield
        return
    os.setegid(agent.gid)
    os.seteuid(agent.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _introduce(env: dict[str, str], agent: Agent, *, is_root: bool) -> None:
    workspace = env.get("WORKSPACE_ID") or "(WORKSPACE_ID is not set)"
    where = env.get("PLATFORM_URL") or "(PLATFORM_URL is not set: its default)"
    say(f"workspace {workspace}, platform {where}")
    became = f"root, then {agent.name}" if is_root else agent.name
    say(f"running as {became} (uid {agent.uid}, gid {agent.gid}) on {platform.node()}")
    names = _provider_variables(env)
    credentials = sorted({name for name in names if env.get(name, "").strip()})
    others = sorted(name for name in env if is_credential(name, ()) and name not in names)
    say(f"credentials: {', '.join(credentials) or 'none in the environment'}")
    if others:
        say(f"kept from every process of the agent: {', '.join(others)}")


def _provider_variables(env: dict[str, str]) -> set[str]:
    """Names of the variables that may hold a provider's credential, by the registry in config.yaml.

    A file that cannot be read counts as empty: the runtime says what is wrong with it.
    """
    configured = Path(env.get("WORKSPACE_CONFIG_PATH") or _CONFIGS) / "config.yaml"
    names = {*auth_json.VARIABLES, "OPENAI_API_KEY"}
    for path in (_IMAGE_CONFIG, configured):
        try:
            providers = yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (safe, and in C)
            names.update(str(name) for one in providers["providers"] for name in one["auth_env"])
        except (OSError, ValueError, TypeError, LookupError, yaml.YAMLError):
            continue
    return names


# -- codex -----------------------------------------------------------------------------------------------


def _codex_home(env: dict[str, str]) -> Path:
    """CODEX_HOME with its sessions, made where it is missing; below /configs where the home is read-only."""
    wanted = Path(
        env.get("CODEX_HOME") or Path(env["HOME"] if env.get("HOME") else "~").expanduser() / ".codex"
    )
    problems = []
    for home in dict.fromkeys((wanted, _CONFIGS / ".codex")):
        try:
            (home / "sessions").mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(home, os.W_OK, effective_ids=True):
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
    subscription = auth_json.given(env)
    if subscription is None:
        return
    name, text = subscription
    told = {
        "written": f"written from {name}",
        "same": f"as in {name}",
        "kept": f"kept: its tokens were refreshed later than those in {name}",
    }
    try:
        say(f"{home}/auth.json: {told[auth_json.install(home, text, name)]}")
    except auth_json.AuthJsonError as error:
        say(f"auth.json is left as it is: {error}")
    except OSError as error:
        raise BootError(
            f"{home}/auth.json cannot be written ({error.strerror or error}): make room, or mount a volume"
        ) from error


# -- handing over ----------------------------------------------------------------------------------------


def _become(agent: Agent | None, command: list[str], env: dict[str, str], home: Path) -> NoReturn:
    if command:
        _execute(agent, command, env)
    try:
        binary = find_codex(path=env.get("PATH"))
    except CodexNotFoundError as error:
        raise BootError(f"codex is not installed: {error}", EXIT_NO_CODEX) from error
    say(f"codex: {_version(binary, env, agent)}")
    runtime = _find_runtime(env)
    if auth_json.is_subscription(home):
        _watch(agent, env)
    _execute(agent, [runtime], hand_over(env, _provider_variables(env)))


def _version(binary: Path, env: dict[str, str], agent: Agent | None) -> str:
    done = subprocess.run(
        [binary, "--version"],
        env={name: value for name, value in env.items() if name in ("PATH", "HOME", "CODEX_HOME")},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        **_identity(agent),
    )
    if done.returncode != 0:
        raise BootError(
            f"{binary} does not run (exit code {done.returncode}): {done.stderr.strip()[:200]}", EXIT_NO_CODEX
        )
    return f"{done.stdout.strip()} at {binary}"


def _find_runtime(env: dict[str, str]) -> str:
    """The runtime beside the Python that runs this, which is the one that has its packages; else on PATH."""
    beside = Path(sys.executable).with_name(_RUNTIME)
    found = str(beside) if os.access(beside, os.X_OK) else _on_path(_RUNTIME, env)
    if found is None:
        raise BootError(f"no {_RUNTIME} is installed, neither beside {sys.executable} nor on PATH")
    return found


def _on_path(name: str, env: dict[str, str]) -> str | None:
    directories = env.get("PATH", os.defpath).split(os.pathsep)
    return next(
        (each for each in (f"{path}/{name}" for path in directories) if os.access(each, os.X_OK)), None
    )


def _watch(agent: Agent | None, env: dict[str, str]) -> None:
    """Start the watchdog of the tokens, for as long as the container lives. It is given no credential."""
    if env.get("CODEX_AUTH_REFRESH_OWNER") == "0":
        say("OAuth: follower, this workspace refreshes nothing (CODEX_AUTH_REFRESH_OWNER=0)")
        return
    watchdog = Path(__file__).parent.parent / "bin" / _WATCHDOG
    command = str(watchdog) if watchdog.exists() else f"/usr/local/bin/{_WATCHDOG}"
    variables = _provider_variables(env)
    subprocess.Popen(
        [command, "--supervise"],
        env={name: value for name, value in env.items() if not is_credential(name, variables)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **_identity(agent),
    )
    say("OAuth: the watchdog keeps auth.json fresh")


def _identity(agent: Agent | None) -> dict[str, Any]:
    if agent is None:
        return {}
    return {"user": agent.uid, "group": agent.gid, "extra_groups": agent.groups}


def _execute(agent: Agent | None, command: list[str], env: dict[str, str]) -> NoReturn:
    # As gosu does it, but gosu takes the groups from /etc/group, where a read-only root lets none be added.
    if agent is not None:
        os.setgroups(agent.groups)
        os.setresgid(agent.gid, agent.gid, agent.gid)
        os.setresuid(agent.uid, agent.uid, agent.uid)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 (to become another program is what this is for)
    except OSError as error:
        raise BootError(f"{command[0]} cannot be executed: {error.strerror}", 127) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
