from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = Path(__file__).parents[1] / "conftest.py"


@pytest.mark.parametrize(("reason", "code"), [("", 0), ("no codex here", 1)], ids=["none", "one"])
def test_a_run_with_a_skipped_test_in_it_fails(tmp_path: Path, reason: str, code: int) -> None:
    """B-40: the tests of an adapter were all skipped for want of a binary, and the run was green."""
    tmp_path.joinpath("conftest.py").write_bytes(GUARD.read_bytes())
    skip = f"import pytest\n    pytest.skip({reason!r})" if reason else "pass"
    tmp_path.joinpath("test_it.py").write_text(f"def test_it():\n    {skip}\ndef test_that():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout
    assert ("skipped tests count as failed" in done.stdout) == bool(reason)
