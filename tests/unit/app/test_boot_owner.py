"""What root gives to the agent, in directories that the agent can write at the same moment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import boot_owner
from agent_user import Agent, AgentError, become, find, myself

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODYS_UID = 4_000_000
AGENT = Agent("agent", NOBODYS_UID, NOBODYS_UID, "/home/agent", (NOBODYS_UID,))


@pytest.fixture
def chowned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths whose owner was changed, in place of the change, which only root could make."""
    paths: list[str] = []

    def chown(
        path: str, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        assert (uid, gid) == (AGENT.uid, AGENT.gid)
        if dir_fd is None:
            paths.append(str(Path(path).readlink()))  # /proc/self/fd/<n>
        else:
            assert not follow_symlinks
            paths.append(f"{Path(f'/proc/self/fd/{dir_fd}').readlink()}/{path}")

    monkeypatch.setattr(os, "chown", chown)
    return paths


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory beside another one, which must not be touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (tmp_path / "top").mkdir()
    return tmp_path / "top"


def test_everything_below_is_given_and_the_links_themselves(top: Path, chowned: list[str]) -> None:
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").touch()
    (top / "link").symlink_to(top.parent / "outside")
    assert boot_owner.give(top, AGENT, seeded=True) == [f"{top}: 5 entries now belong to agent"]
    assert sorted(chowned) == [str(path) for path in sorted([top, *top.rglob("*")])]


def test_what_belongs_to_the_agent_is_left_as_it_is(top: Path, chowned: list[str]) -> None:
    (top / "file").touch()
    me = Agent("me", os.getuid(), os.getgid(), "/")
    assert boot_owner.give(top, me, seeded=True) == []
    assert chowned == []


def test_a_tree_is_not_walked_whose_top_is_the_agents_unless_others_seed_it(
    top: Path, chowned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "file").touch()
    os_fstat = os.fstat

    class Top:
        st_uid = AGENT.uid

    monkeypatch.setattr(
        os, "fstat", lambda fd: Top if Path(f"/proc/self/fd/{fd}").readlink() == top else os_fstat(fd)
    )
    assert boot_owner.give(top, AGENT, seeded=False) == []
    assert chowned == []


def test_a_link_in_place_of_the_directory_leads_nowhere(top: Path, chowned: list[str]) -> None:
    top.rmdir()
    top.symlink_to(top.parent / "outside")
    (line,) = boot_owner.give(top, AGENT, seeded=True)
    assert "stays with its owner, it cannot be opened" in line
    assert chowned == []


def test_a_link_on_the_way_leads_nowhere(top: Path, chowned: list[str]) -> None:
    (top / "link").symlink_to(top.parent)
    (line,) = boot_owner.give(top / "link/outside", AGENT, seeded=True)
    assert line == f"{top}/link/outside: stays with its owner, a link leads to {top.parent}/outside"
    assert chowned == []


def test_a_file_with_a_name_outside_is_left_alone(top: Path, chowned: list[str]) -> None:
    (top / "file").hardlink_to(top.parent / "outside/file")
    lines = boot_owner.give(top, AGENT, seeded=True)
    assert f"{top}: 1 entries stay with their owner, it cannot be changed here" in lines
    assert chowned == [str(top)]


def test_sockets_and_pipes_are_left_to_those_who_listen(top: Path, chowned: list[str]) -> None:
    os.mkfifo(top / "pipe")
    assert boot_owner.give(top, AGENT, seeded=True) == [f"{top}: 1 entries now belong to agent"]
    assert chowned == [str(top)]


@pytest.mark.parametrize("swap", ["hardlink_to", "symlink_to"])
def test_an_entry_that_is_swapped_meanwhile_gives_nothing_away(
    top: Path, chowned: list[str], monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    (top / "file").touch()
    os_open = os.open

    def swapped(name: str, flags: int, **more: Any) -> int:
        if flags & os.O_PATH and name == "file":
            (top / "file").unlink()
            getattr(top / "file", swap)(top.parent / "outside/file")
        return os_open(name, flags, **more)

    monkeypatch.setattr(os, "open", swapped)
    boot_owner.give(top, AGENT, seeded=True)
    assert str(top.parent / "outside/file") not in chowned
    assert (f"{top}/file" in chowned) == (swap == "symlink_to"), "a link is given, not where it leads"


def test_what_cannot_be_changed_is_counted_and_stops_nothing(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "file").touch()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    lines = boot_owner.give(top, AGENT, seeded=True)
    assert lines == [f"{top}: 2 entries stay with their owner, it cannot be changed here"]


@pytest.fixture
def bottomless(top: Path) -> Iterator[Path]:
    """As the agent could make it: deeper than a path can be written, or Python recurses."""
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    yield top
    subprocess.run(["rm", "-rf", top], check=True)


def test_a_bottomless_directory_does_not_stop_the_boot(bottomless: Path, chowned: list[str]) -> None:
    assert "entries stay with their owner" in boot_owner.give(bottomless, AGENT, seeded=True)[-1]
    assert chowned


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert boot_owner.give(tmp_path / "gone", AGENT, seeded=True) == [f"{tmp_path}/gone: absent"]


# --- docker.sock --------------------------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Stand-ins for the tools that write /etc/group; those named fail. Returns what they were told."""
    log = tmp_path / "told"

    def put(*failing: str) -> list[str]:
        for name in ("groupadd", "usermod"):
            (tmp_path / "sbin").mkdir(exist_ok=True)
            code = 1 if name in failing else 0
            (tmp_path / "sbin" / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{log}"\nexit {code}\n')
            (tmp_path / "sbin" / name).chmod(0o755)
        return log.read_text().splitlines() if log.exists() else []

    put()
    monkeypatch.setattr(boot_owner, "_TOOLS", {"PATH": f"{tmp_path}/sbin:/usr/bin:/bin"})
    return put


class Socket:
    def __init__(self, gid: int) -> None:
        self.st_gid = gid

    def stat(self) -> Socket:
        return self

    def __str__(self) -> str:
        return "/run/docker.sock"


def join(gid: int) -> tuple[Agent, str]:
    return boot_owner.join_socket_group(Socket(gid), AGENT)  # type: ignore[arg-type]


def test_the_agent_joins_the_group_of_a_socket_whatever_its_number(tools: Callable[..., list[str]]) -> None:
    agent, line = join(3_999_999)
    assert agent.groups == (NOBODYS_UID, 3_999_999)
    assert (
        line == "/run/docker.sock: open to the agent, who joined the group docker-host-3999999 (gid 3999999)"
    )
    assert tools() == [
        "groupadd --gid 3999999 docker-host-3999999",
        "usermod --append --groups docker-host-3999999 agent",
    ]


@pytest.mark.parametrize("failing", ["groupadd", "usermod"])
def test_where_the_list_of_groups_cannot_be_written_this_process_has_the_group_all_the_same(
    tools: Callable[..., list[str]], failing: str
) -> None:
    tools(failing)
    agent, line = join(3_999_999)
    assert agent.groups == (NOBODYS_UID, 3_999_999)
    assert "in this process only, /etc/group cannot be written" in line


def test_a_socket_of_a_group_that_the_agent_is_in_changes_nothing(tools: Callable[..., list[str]]) -> None:
    assert join(NOBODYS_UID) == (AGENT, f"/run/docker.sock: open to the agent (gid {NOBODYS_UID})")
    assert tools() == []


def test_the_agent_never_joins_the_group_of_root(tools: Callable[..., list[str]]) -> None:
    agent, line = join(0)
    assert agent == AGENT
    assert "needs sudo" in line
    assert tools() == []


# --- the user -----------------------------------------------------------------------------------------------


def test_a_user_without_an_entry_has_a_name_and_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODYS_UID)
    assert (myself({}).name, myself({}).home) == (str(NOBODYS_UID), "/tmp")
    assert myself({"HOME": "/somewhere"}).home == "/somewhere"


def test_an_unknown_user_is_refused_by_name() -> None:
    with pytest.raises(AgentError, match=r"no user 'no-such-user' .* set CODEX_WORKSPACE_AGENT_USER"):
        find({"CODEX_WORKSPACE_AGENT_USER": "no-such-user"})


def test_a_container_without_the_right_to_change_the_user_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgroups", refused)
    with pytest.raises(
        AgentError, match="keep the capabilities SETUID and SETGID, or start the container as"
    ):
        become(AGENT)
