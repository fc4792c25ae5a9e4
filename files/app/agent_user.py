"""The user that the workspace runs as, and how root becomes it.

Only the standard library, and nothing newer than Python 3.9: `codex_auth_refresh.py` uses it too.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Agent", "AgentError", "become", "find", "myself"]


class AgentError(ValueError):
    """A user that nobody can become here. The text says what to do."""


class Agent(NamedTuple):
    """Whom the workspace runs as. `groups` are the numbers of the supplementary groups."""

    name: str
    uid: int
    gid: int
    home: str
    groups: tuple[int, ...] = ()


def find(env: Mapping[str, str]) -> Agent:
    """The user that root becomes: CODEX_WORKSPACE_AGENT_USER, else `agent`. Raises AgentError."""
    name = env.get("CODEX_WORKSPACE_AGENT_USER") or "agent"
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise AgentError(
            f"there is no user {name!r} to run as: set CODEX_WORKSPACE_AGENT_USER to one that exists"
        ) from None
    return Agent(name, user.pw_uid, user.pw_gid, user.pw_dir, tuple(os.getgrouplist(name, user.pw_gid)))


def myself(env: Mapping[str, str]) -> Agent:
    """The user of this process, which may have no entry in /etc/passwd."""
    uid = os.getuid()
    try:
        name, home = pwd.getpwuid(uid).pw_name, pwd.getpwuid(uid).pw_dir
    except KeyError:
        name, home = str(uid), "/tmp"  # noqa: S108 (a uid without an entry has no home; CODEX_HOME is checked)
    return Agent(name, uid, os.getgid(), env.get("HOME") or home, tuple(os.getgroups()))


def become(agent: Agent) -> None:
    """Leave root for good. Raises AgentError.

    As gosu does it, but gosu takes the groups from /etc/group, where a read-only root lets none be added.
    """
    try:
        os.setgroups(agent.groups)
        os.setresgid(agent.gid, agent.gid, agent.gid)
        os.setresuid(agent.uid, agent.uid, agent.uid)
    except OSError as error:
        raise AgentError(
            f"root cannot become {agent.name} here ({error.strerror}): keep the capabilities SETUID and "
            f"SETGID, or start the container as uid {agent.uid}"
        ) from error
