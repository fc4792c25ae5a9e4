"""apt-get is asked for what is missing, and for nothing else; what it complains of reaches the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.plugins import load, path_with, put_command, run_module

if TYPE_CHECKING:
    from pathlib import Path

MODULE = "roles/codex_workspace/library/apt_get.py"
apt = load(MODULE)

POLICY = """\
docker-cli:
  Installed: (none)
  Candidate: {cli}
  Version table:
docker.io:
  Installed: (none)
  Candidate: {io}
  Version table:
     20.10.24+dfsg1-1 500
"""


@pytest.mark.parametrize(
    ("cli", "io", "chosen"),
    [("26.1", "26.1", "docker-cli"), ("(none)", "20.10", "docker.io"), ("(none)", "(none)", None)],
)
def test_the_first_package_that_the_release_has_is_chosen(cli: str, io: str, chosen: str | None) -> None:
    assert apt.first_available(["docker-cli", "docker.io"], POLICY.format(cli=cli, io=io)) == chosen


def test_a_package_that_apt_has_never_heard_of_is_not_chosen() -> None:
    """`apt-cache policy` prints nothing at all for it."""
    policy = POLICY.format(cli="1", io="2").partition("docker.io")[2]
    assert apt.first_available(["docker-cli", "docker.io"], "docker.io" + policy) == "docker.io"


def test_complaints_are_each_said_once_on_one_line_without_the_noise() -> None:
    stderr = "debconf: delaying\nW: Failed http://m/ refused\nE: Some failed\nW: Failed http://m/ refused\n"
    assert apt.complaints(stderr) == "W: Failed http://m/ refused E: Some failed"
    assert apt.complaints("Segmentation fault\n") == "Segmentation fault"
    assert apt.complaints("") == "no reason given"


class Machine:
    """A target whose dpkg and apt are scripts that keep a journal of what they are asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "journal"
        self.journal.touch()
        self.answers(installed="curl")

    def answers(self, *, installed: str = "", update: str = "", install: str = "", policy: str = "") -> None:
        """Set what is installed, what goes wrong (a complaint fails the step), and what the release has."""
        lines = "".join(f"echo '{name} installed';" for name in installed.split())
        put_command(self.root, "dpkg-query", f"{lines} echo 'gone config-files'; exit 1")
        put_command(
            self.root,
            "apt-get",
            f"""echo "$*" >>{self.journal}
            case "$1" in update) complaint='{update}';; install) complaint='{install}';; esac
            test -z "$complaint" || {{ echo "$complaint" >&2; exit 100; }}""",
        )
        put_command(self.root, "apt-cache", f"cat <<'END'\n{policy}\nEND")

    def run(self, **arguments: Any) -> dict[str, Any]:
        return run_module(MODULE, arguments, path_with(self.root))

    @property
    def asked(self) -> list[str]:
        return self.journal.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_asked_of_apt_when_all_is_there(machine: Machine) -> None:
    report = machine.run(name=["curl"], commands={"sh": ["dash"]})
    assert (report["changed"], report["installed"], machine.asked) == (False, [], [])


def test_what_is_missing_is_installed_without_recommends_after_one_update(machine: Machine) -> None:
    machine.answers(installed="curl", policy=POLICY.format(cli="(none)", io="20.10"))
    report = machine.run(
        name=["curl", "git", "gone"], commands={"no-such-command": ["docker-cli", "docker.io"]}
    )
    assert report["changed"]
    assert report["installed"] == ["git", "gone", "docker.io"]
    assert [line.split()[0] for line in machine.asked] == ["update", "install"]
    assert "--no-install-recommends git gone docker.io" in machine.asked[1]
    assert "Error-Mode=any" in machine.asked[0]


def test_check_mode_says_what_would_come_and_asks_for_nothing(machine: Machine) -> None:
    report = machine.run(name=["git"], _ansible_check_mode=True)
    assert (report["changed"], report["installed"], machine.asked) == (True, ["git"], [])


def test_a_mirror_that_does_not_answer_is_named_with_the_variable_to_set(machine: Machine) -> None:
    machine.answers(update="E: Failed to fetch http://mirror.example/debian/InRelease  Connection refused")
    report = machine.run(name=["git"])
    assert report["failed"]
    assert "http://mirror.example/debian/InRelease" in report["msg"]
    assert "codex_workspace_build_apt_mirror" in report["msg"]
    assert [line.split()[0] for line in machine.asked] == ["update"]


def test_a_failed_installation_is_named_with_apts_reason(machine: Machine) -> None:
    machine.answers(install="E: Unable to locate package git")
    report = machine.run(name=["git"])
    assert report["failed"]
    assert "git" in report["msg"]
    assert "E: Unable to locate package git" in report["msg"]


def test_a_command_that_no_package_brings_is_named_and_nothing_installed(machine: Machine) -> None:
    machine.answers(policy=POLICY.format(cli="(none)", io="(none)"))
    report = machine.run(name=["git"], commands={"no-such-command": ["docker-cli", "docker.io"]})
    assert report["failed"]
    assert "no-such-command" in report["msg"]
    assert "docker-cli, docker.io" in report["msg"]
    assert [line.split()[0] for line in machine.asked] == ["update"]


def test_what_is_installed_is_brought_to_the_newest_version_where_that_is_wanted(machine: Machine) -> None:
    assert machine.run(name=["curl"], upgrade=True)["installed"] == ["curl"]
    assert [line.split()[0] for line in machine.asked] == ["update", "install"]


def test_another_apt_that_is_at_work_is_waited_for(machine: Machine) -> None:
    busy = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (unattended-upgr)"
    once = f'test -f {machine.root}/asked || {{ : >{machine.root}/asked; echo "{busy}" >&2; exit 100; }}'
    put_command(machine.root, "apt-get", f'echo "$*" >>{machine.journal}\n{once}')
    assert machine.run(name=["git"])["changed"]
    assert [line.split()[0] for line in machine.asked] == ["update", "update", "install"]
    assert "DPkg::Lock::Timeout=300" in machine.asked[2]
