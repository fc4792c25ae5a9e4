"""The payload's archive depends on the payload's content, and on nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from support.plugins import load, run_module

MODULE = "roles/codex_workspace/library/payload_archive.py"
payload = load(MODULE)


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
        "app/sub": "0o755",
        "app/main.py": "0o644",
        "app/sub/data.yaml": "0o644",
        "usr/local/bin/start.sh": "0o755",
    }
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}


def test_no_time_is_in_the_future(checkout: Path) -> None:
    newest = max(member.mtime for member in members(payload.pack(trees(checkout))).values())
    assert newest < 1_735_689_600  # 2025


@pytest.mark.parametrize("state", ["absent", "empty", "only bytecode"])
def test_a_tree_with_nothing_to_ship_is_refused_and_named(checkout: Path, tmp_path: Path, state: str) -> None:
    empty = tmp_path / "empty"
    if state != "absent":
        empty.mkdir()
    if state == "only bytecode":
        (empty / "__pycache__").mkdir()
        (empty / "__pycache__/a.pyc").touch()
    dest = tmp_path / "archives"
    report = run_module(
        MODULE, {"dest": str(dest), "trees": [{"src": str(empty), "dest": "/app", "mode": "0644"}]}
    )
    assert report["failed"]
    assert str(empty) in report["msg"]
    assert "/app" in report["msg"]
    assert not dest.exists()


def test_the_archive_is_named_after_its_content_and_written_once(checkout: Path, tmp_path: Path) -> None:
    arguments = {"dest": str(tmp_path / "new/archives"), "trees": trees(checkout)}
    first = run_module(MODULE, arguments)
    archive = Path(first["path"])
    assert first["changed"]
    assert archive.parent == tmp_path / "new/archives"
    assert archive.stem == first["digest"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    again = run_module(MODULE, arguments)
    assert (again["changed"], again["path"]) == (False, first["path"])
    assert list(archive.parent.iterdir()) == [archive]


def test_builds_side_by_side_do_not_overwrite_each_others_archive(checkout: Path, tmp_path: Path) -> None:
    first = run_module(MODULE, {"dest": str(tmp_path / "archives"), "trees": trees(checkout)})
    (checkout / "app/main.py").write_text("x = 2\n")
    second = run_module(MODULE, {"dest": str(tmp_path / "archives"), "trees": trees(checkout)})
    for report in (first, second):
        assert hashlib.sha256(Path(report["path"]).read_bytes()).hexdigest() == report["digest"]
    assert first["path"] != second["path"]


def test_an_archive_that_was_not_used_for_a_day_is_removed(checkout: Path, tmp_path: Path) -> None:
    arguments = {"dest": str(tmp_path / "archives"), "trees": trees(checkout)}
    old = Path(run_module(MODULE, arguments)["path"])
    os.utime(old, (1_700_000_000, 1_700_000_000))
    (checkout / "app/main.py").write_text("x = 2\n")
    new = Path(run_module(MODULE, arguments)["path"])
    assert list(new.parent.iterdir()) == [new]
