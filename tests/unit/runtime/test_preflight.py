"""What is said before anything is started."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.config import WorkspaceConfig
from molecule_runtime.preflight import check, image_config_path

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "support.scripted_adapter"
RAISES = """
from support.scripted_adapter import Adapter as Base
class Adapter(Base):
    @staticmethod
    def name(): raise OSError
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module named `trial_adapter`, to be written by the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trial_adapter", raising=False)
    return tmp_path / "trial_adapter.py"


def test_a_good_workspace_has_no_findings(tmp_path: Path) -> None:
    report = check(WorkspaceConfig(runtime="scripted"), GOOD, tmp_path)
    assert report.findings == []
    assert report.adapter is not None
    assert report.adapter.name() == "scripted"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, "cannot be imported (ModuleNotFoundError"),
        ("raise RuntimeError('token=abcdef1234')", "cannot be imported (RuntimeError: token=[redacted])"),
        ("x = (", "cannot be imported (SyntaxError"),
        ("Adapter = 5", "has no class Adapter derived from BaseAdapter"),
        ("class Adapter: pass", "has no class Adapter derived from BaseAdapter"),
        (RAISES, "Adapter.name() raised OSError"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_a_failure_with_its_remedy(
    module: Path, tmp_path: Path, source: str | None, expected: str
) -> None:
    if source is not None:
        module.write_text(source)
    report = check(WorkspaceConfig(), "trial_adapter", tmp_path)
    assert report.adapter is None
    (failure,) = report.failures
    assert expected in failure.what
    assert failure.remedy


def test_an_adapter_that_is_not_named_is_a_failure(tmp_path: Path) -> None:
    assert "ADAPTER_MODULE is not set" in str(check(WorkspaceConfig(), "", tmp_path).failures[0])


def test_another_runtime_name_is_a_warning_and_the_adapter_wins(tmp_path: Path) -> None:
    report = check(WorkspaceConfig(runtime="claude"), GOOD, tmp_path)
    assert [str(finding) for finding in report.findings] == [
        "[WARN] runtime is 'claude' in config.yaml, the adapter is 'scripted'; the adapter wins"
    ]


def test_a_missing_prompt_file_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    report = check(WorkspaceConfig(prompt_files=["a.md", "b.md"]), GOOD, tmp_path)
    assert [finding.what for finding in report.findings] == [f"prompt file b.md is not in {tmp_path}"]


def test_one_of_the_required_variables_is_enough_and_none_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-32: asking for all of them refuses a valid subscription."""
    config = WorkspaceConfig(runtime_config={"required_env": ["TRIAL_A", "TRIAL_B"]})
    assert [finding.level for finding in check(config, GOOD, tmp_path).findings] == ["WARN"]
    monkeypatch.setenv("TRIAL_B", "x")
    assert check(config, GOOD, tmp_path).findings == []


def test_the_images_config_lies_beside_its_adapter(module: Path) -> None:
    module.write_text("")
    assert image_config_path("trial_adapter") == module.with_name("config.yaml")
    assert image_config_path("no_such_module") is None
    assert image_config_path("") is None
