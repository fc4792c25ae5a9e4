"""Faults that others met before: each promise of docs/upstream-bugs.md is proven by a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs/upstream-bugs.md").read_text()
NUMBER = re.compile(r"\bB-(\d+)\b")


def test_each_fault_of_the_table_is_named_by_a_test_and_no_test_names_another() -> None:
    promised = {int(number) for number in re.findall(r"^\| B-(\d+) \|", TABLE, re.MULTILINE)}
    named = {
        int(number)
        for path in TESTS.rglob("test_*.py")
        if path != Path(__file__)
        for number in NUMBER.findall(path.read_text())
    }
    assert len(promised) == 45
    assert named == promised
