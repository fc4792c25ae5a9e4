"""The root phase of the boot: whose directories are, and which group opens docker's socket."""

from __future__ import annotations

import grp
import os
import stat
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from entrypoint import Agent

__all__ = ["give", "join_socket_group"]

_HOST_GROUP: Final = "docker-host-{gid}"
_TOOLS: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def give(directories: Iterable[Path], uid: int, gid: int) -> Iterator[str]:
    """Make the agent the owner of each directory and of all in it; say what was done and what could not be.

    The agent can write there, so no link is followed, and a file with several names is left alone: one of its
    names may be outside.
    """
    for directory in directories:
        try:
            there = directory.lstat()
        except OSError:
            yield f"{directory}: absent"
            continue
        # A tree of a hundred thousand files is not walked at each boot: where the top is the agent's, so is
        # the rest. In /configs it is not: the platform seeds files there as root.
        if there.st_uid == uid and directory.name != "configs":
            continue
        changed, refused = _give_tree(directory, uid, gid)
        if refused:
            yield f"{directory}: {refused} entries stay with their owner, it cannot be changed here"
        if changed:
            yield f"{directory}: {changed} entries now belong to uid {uid}"


def _give_tree(top: Path, uid: int, gid: int) -> tuple[int, int]:
    """Numbers of entries that were given, and that could not be."""
    changed = refused = 0

    def one(name: str, directory: int | None) -> None:
        nonlocal changed, refused
        try:
            entry = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if (entry.st_uid, entry.st_gid) == (uid, gid):
                return
            if stat.S_ISREG(entry.st_mode) and entry.st_nlink > 1:
                refused += 1
                return
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
            changed += 1
        except OSError:
            refused += 1

    one(str(top), None)
    for _, directories, files, descriptor in os.fwalk(top, follow_symlinks=False):
        for name in (*directories, *files):
            one(name, descriptor)
    return changed, refused


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
    joined = replace(agent, groups=(*agent.groups, gid))
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = _HOST_GROUP.format(gid=gid)
        if not _run("groupadd", "--gid", str(gid), group):
            return (
                joined,
                f"{socket}: gid {gid} is the agent's in this process only, /etc/group cannot be written",
            )
    if not _run("usermod", "--append", "--groups", group, agent.name):
        return (
            joined,
            f"{socket}: gid {gid} is the agent's in this process only, /etc/group cannot be written",
        )
    return joined, f"{socket}: open to the agent, who joined the group {group} (gid {gid})"


def _run(*command: str) -> bool:
    try:
        done = subprocess.run(command, env=_TOOLS, capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
