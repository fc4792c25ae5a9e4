from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from thread_store import ThreadStore

if TYPE_CHECKING:
    from pathlib import Path


def test_a_thread_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "threads.json"
    ThreadStore(path).set("shared", "t1")
    assert ThreadStore(path).get("shared") == "t1"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["threads.json"]


def test_a_forgotten_thread_is_forgotten_after_a_restart_too(tmp_path: Path) -> None:
    store = ThreadStore(tmp_path / "threads.json")
    store.set("shared", "t1")
    store.forget("shared")
    store.forget("never known")
    assert ThreadStore(tmp_path / "threads.json").get("shared") is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 2, "threads": {}}', '{"version": 1, "threads": 3}', "\xff"]
)
def test_a_file_that_makes_no_sense_costs_the_memory_and_nothing_else(tmp_path: Path, content: str) -> None:
    path = tmp_path / "threads.json"
    path.write_text(content, encoding="latin-1")
    store = ThreadStore(path)
    assert store.get("shared") is None
    store.set("shared", "t2")
    assert ThreadStore(path).get("shared") == "t2"


def test_a_directory_that_cannot_be_written_costs_the_memory_and_nothing_else(tmp_path: Path) -> None:
    store = ThreadStore(tmp_path / "missing" / "threads.json")
    store.set("shared", "t1")
    assert store.get("shared") == "t1"


def test_the_oldest_of_more_than_a_thousand_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "threads.json"
    full = {"version": 1, "threads": {f"k{n}": f"t{n}" for n in range(1000)}}
    path.write_text(json.dumps(full))
    store = ThreadStore(path)
    store.set("one more", "t")
    assert store.get("k0") is None
    assert store.get("k1") == "t1"
    assert store.latest() == "t"
