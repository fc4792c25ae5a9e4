"""The payload's archive depends on its content alone, and a target takes from it what it lacks."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from support.local_target import Target
from support.plugins import load

if TYPE_CHECKING:
    from pathlib import Path

payload = load("roles/codex_workspace/action_plugins/unpack.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "one")


def make_checkout(root: Path, *, mtime: int = 1_700_000_000) -> Path:
    for name, text in {
        "app/main.py": "x = 1\n",
        "app/sub/data.yaml": "a: 1\n",
        "bin/start.sh": "#!/bin/sh\n",
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (mtime, mtime))
    return root


def trees(root: Path) -> list[dict[str, Any]]:
    return [
        {"src": str(root / "app"), "dest": "/app", "mode": "0644"},
        {"src": str(root / "bin"), "dest": "/usr/local/bin", "mode": "0755"},
    ]


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_two_checkouts_of_one_payload_give_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    other = make_checkout(tmp_path / "two", mtime=1_750_000_000)
    (other / "app/main.py").chmod(0o600)
    (other / "app/__pycache__").mkdir()
    (other / "app/__pycache__/main.cpython-311.pyc").write_bytes(b"\0")
    assert payload.pack(trees(other)) == payload.pack(trees(checkout))


def test_a_change_of_the_same_length_changes_the_files_time(checkout: Path) -> None:
    before = members(payload.pack(trees(checkout)))
    (checkout / "app/main.py").write_text("x = 2\n")
    after = members(payload.pack(trees(checkout)))
    assert after["app/main.py"].size == before["app/main.py"].size
    assert after["app/main.py"].mtime != before["app/main.py"].mtime
    assert after["app/sub/data.yaml"].mtime == before["app/sub/data.yaml"].mtime


def test_every_file_is_roots_and_has_the_mode_of_its_tree(checkout: Path) -> None:
    found = members(payload.pack(trees(checkout)))
    assert {name: oct(member.mode) for name, member in found.items()} == {
        "app/main.py": "0o644",
        "app/sub/data.yaml": "0o644",
        "usr/local/bin/start.sh": "0o755",
    }
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}


def test_no_time_is_in_the_future(checkout: Path) -> None:
    newest = max(member.mtime for member in members(payload.pack(trees(checkout))).values())
    assert newest < 1_735_689_600  # 2025


@pytest.mark.parametrize("state", ["absent", "empty", "only bytecode"])
def test_a_tree_with_nothing_to_ship_is_refused_and_named(tmp_path: Path, state: str) -> None:
    empty = tmp_path / "empty"
    if state != "absent":
        empty.mkdir()
    if state == "only bytecode":
        (empty / "__pycache__").mkdir()
        (empty / "__pycache__/a.pyc").touch()
    with pytest.raises(ValueError, match=f"{empty} holds no files.*/app"):
        payload.pack([{"src": str(empty), "dest": "/app", "mode": "0644"}])


# --- on a target ------------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Target:
    root = tmp_path / "target"
    root.mkdir()
    return Target(root)


def landing(checkout: Path, target: Target) -> list[dict[str, Any]]:
    return [{"src": str(checkout / "app"), "dest": str(target.root / "app"), "mode": "0644"}]


def test_what_is_there_is_left_and_what_was_changed_is_put_right(checkout: Path, target: Target) -> None:
    landed = target.root / "app/main.py"
    task = {"unpack": {"trees": landing(checkout, target)}}
    spoil = {"ansible.builtin.shell": f"echo spoiled > {landed}"}
    chmod = {"ansible.builtin.file": {"path": str(landed), "mode": "0600"}}
    first, again, _, mended, _, mode, last = target.run(task, task, spoil, task, chmod, task, task)
    assert [r["changed"] for r in (first, again, mended, mode, last)] == [True, False, True, True, False]
    assert landed.read_text() == "x = 1\n"
    assert landed.stat().st_mode & 0o777 == 0o644
    assert first["digest"] == hashlib.sha256(payload.pack(landing(checkout, target))).hexdigest()


def test_check_mode_says_what_would_change_and_changes_nothing(checkout: Path, target: Target) -> None:
    (report,) = target.run({"unpack": {"trees": landing(checkout, target)}}, check=True)
    assert report["changed"]
    assert not (target.root / "app").exists()


def test_where_it_is_unpacked_is_no_part_of_what_it_is(checkout: Path, target: Target) -> None:
    tree = {"src": str(checkout / "app"), "dest": "/app", "mode": "0644"}
    here, there = (
        {"unpack": {"trees": [tree], "root": str(target.root / name)}} for name in ("one", "an other")
    )
    made = {"ansible.builtin.shell": f"cd {target.root} && mkdir one 'an other'"}
    _, first, second, again = target.run(made, here, there, there)
    assert first["digest"] == second["digest"]
    assert [r["changed"] for r in (first, second, again)] == [True, True, False]
    assert (target.root / "an other/app/main.py").read_text() == "x = 1\n"


def test_a_stamp_with_the_archives_digest_says_that_it_is_done(checkout: Path, target: Target) -> None:
    stamp = target.root / "stamp"
    task = {"unpack": {"trees": landing(checkout, target), "stamp": str(stamp)}}
    digest = hashlib.sha256(payload.pack(landing(checkout, target))).hexdigest()
    write = {"ansible.builtin.shell": f"echo {digest} > {stamp}; rm -r {target.root}/app"}
    first, _, stamped = target.run(task, write, task)
    assert (first["changed"], stamped["changed"]) == (True, False)
    assert not (target.root / "app").exists()
    stamp.write_text("another digest\n")
    (other,) = target.run(task)
    assert other["changed"]


def test_a_directory_that_is_there_keeps_its_mode(checkout: Path, target: Target) -> None:
    (target.root / "app").mkdir(mode=0o750)
    target.run({"unpack": {"trees": landing(checkout, target)}})
    assert (target.root / "app").stat().st_mode & 0o777 == 0o750
    assert (target.root / "app/sub").stat().st_mode & 0o777 == 0o755


def test_a_target_that_cannot_unpack_says_why(checkout: Path, target: Target) -> None:
    (target.root / "app").write_text("a file in the way of the directory")
    (report,) = target.run({"unpack": {"trees": landing(checkout, target)}})
    assert report["failed"]
    assert "Not a directory" in report["msg"]


def test_texts_and_directories_land_with_their_modes_and_none_is_in_an_argument(target: Target) -> None:
    directory, secret = target.root / "etc", target.root / "etc/secret"
    task = {
        "unpack": {
            "directories": [{"dest": str(directory), "mode": "0700"}],
            "texts": [{"dest": str(secret), "content": "one\ntwo", "mode": "0600"}],
        }
    }
    first, again, _, mended = target.run(
        task, task, {"ansible.builtin.shell": f"chmod 755 {directory}"}, task
    )
    assert [report["changed"] for report in (first, again, mended)] == [True, False, True]
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("one\ntwo", 0o600)
    assert first["files"] == [str(secret)]


def test_an_archive_is_unpacked_where_its_files_are_not_there_yet(checkout: Path, target: Target) -> None:
    archive = target.root / "archive.tar"
    archive.write_bytes(payload.pack(landing(checkout, target)))
    task = {"unpack": {"archive": str(archive)}}
    first, again = target.run(task, task)
    assert (first["changed"], again["changed"]) == (True, False)
    assert (target.root / "app/main.py").read_text() == "x = 1\n"


def test_an_archive_that_arrives_in_part_is_not_unpacked(checkout: Path, target: Target) -> None:
    """A connection that breaks leaves the target as it was, for the next run to complete."""
    content = payload.pack(landing(checkout, target))
    script = payload.SCRIPT.format(
        stamp="''", digest="", size=len(content), root="/", unpack=payload.UNPACK.format(root="/")
    )
    broken = subprocess.run(["sh", "-c", script], input=content[:-4096], capture_output=True, check=False)
    assert (broken.returncode, broken.stdout) == (1, b"")
    assert b"the connection ended" in broken.stderr
    assert not (target.root / "app").exists()
    whole = subprocess.run(["sh", "-c", script], input=content, capture_output=True, check=True)
    assert whole.stdout == b"changed\n"
