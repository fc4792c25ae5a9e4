"""The root phase of the boot: whose directories are, and which group opens docker's socket.

The agent can write in these directories, perhaps at this very moment, so root looks at each entry through a
descriptor and changes just what it has looked at.
"""

from __future__ import annotations

import grp
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent_user import Agent

__all__ = ["give", "join_socket_group"]

_HOST_GROUP: Final = "docker-host-{gid}"
_TOOLS: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def give(top: Path, agent: Agent, *, seeded: bool) -> list[str]:
    """Make the agent the owner of `top` and of all in it; lines that say what was done and what was not.

    A tree of a hundred thousand files is not walked at each boot: where its top is the agent's, so is the
    rest. Unless it is `seeded`: somebody else puts files there between two boots.

    No link is followed. A file with several names is left alone, since one of them may be outside, and so are
    sockets and devices, which belong to whoever listens.
    """
    try:
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return [f"{top}: absent"]
    except OSError as error:
        return [f"{top}: stays with its owner, it cannot be opened ({error.strerror})"]
    try:
        there = Path(f"/proc/self/fd/{descriptor}").readlink()
        if str(there) != os.path.abspath(top):  # noqa: PTH100 (resolve would follow links)
            return [f"{top}: stays with its owner, a link leads to {there}"]
        if os.fstat(descriptor).st_uid == agent.uid and not seeded:
            return []
        given, kept = _give_tree(descriptor, agent)
    finally:
        os.close(descriptor)
    lines = []
    if given:
        lines.append(f"{top}: {given} entries now belong to {agent.name}")
    if kept:
        lines.append(f"{top}: {kept} entries stay with their owner, it cannot be changed here")
    return lines


def _give_tree(top: int, agent: Agent) -> tuple[int, int]:
    """Numbers of entries that were given, and that could not be."""
    given = kept = 0
    try:
        for path, directories, files, descriptor in os.fwalk(".", dir_fd=top):
            for name in (*(["."] if path == "." else []), *directories, *files):
                try:
                    given += _give_entry(name, descriptor, agent)
                except OSError:
                    kept += 1
    except RecursionError:
        kept += 1
    return given, kept


def _give_entry(name: str, directory: int, agent: Agent) -> bool:
    """Whether the entry changed hands. Raises OSError where it cannot."""
    if os.stat(name, dir_fd=directory, follow_symlinks=False).st_uid == agent.uid:
        return False
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    try:
        entry = os.fstat(descriptor)
        if stat.S_ISLNK(entry.st_mode):
            os.chown(name, agent.uid, agent.gid, dir_fd=directory, follow_symlinks=False)
            return True
        if stat.S_ISREG(entry.st_mode) and entry.st_nlink > 1:
            raise OSError(f"{name} has {entry.st_nlink} names")
        if stat.S_ISREG(entry.st_mode) or stat.S_ISDIR(entry.st_mode):
            os.chown(f"/proc/self/fd/{descriptor}", agent.uid, agent.gid)
            return True
        return False
    finally:
        os.close(descriptor)


def join_socket_group(socket: Path, agent: Agent) -> tuple[Agent, str]:
    """The agent with the group that owns `socket`, and a line about it.

    The host's number of that group is not the image's. It goes into /etc/group too, for sessions that others
    open (`docker exec`); with a read-only root only this process and its children have it.
    """
    gid = socket.stat().st_gid
    if gid == 0:
        return agent, f"{socket}: belongs to the group root, so the agent needs sudo for it"
    if gid in agent.groups:
        return agent, f"{socket}: open to the agent (gid {gid})"
    joined = agent._replace(groups=(*agent.groups, gid))
    if group := _add_to_group(gid, agent):
        return joined, f"{socket}: open to the agent, who joined the group {group} (gid {gid})"
    return joined, f"{socket}: gid {gid} is the agent's in this process only, /etc/group cannot be written"


def _add_to_group(gid: int, agent: Agent) -> str | None:
    """Name of the group, made where there is none of that number; None where /etc/group stays as it is."""
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = _HOST_GROUP.format(gid=gid)
        if not _run("groupadd", "--gid", str(gid), group):
            return None
    return group if _run("usermod", "--append", "--groups", group, agent.name) else None


def _run(*command: str) -> bool:
    try:
        done = subprocess.run(command, env=_TOOLS, capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
