"""What would go wrong later, said before anything is started."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from molecule_runtime.adapters.base import BaseAdapter
from molecule_runtime.executor_helpers import sanitize_agent_error

if TYPE_CHECKING:
    from molecule_runtime.config import WorkspaceConfig

__all__ = ["Finding", "Report", "check", "image_config_path", "required_variables"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and what to do about it."""

    level: Literal["FAIL", "WARN"]
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"[{self.level}] {self.what}; {self.remedy}"


@dataclass(slots=True)
class Report:
    """The adapter's class where it could be loaded, and the findings."""

    adapter: type[BaseAdapter] | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def failures(self) -> list[Finding]:
        """The findings that keep the agent from being configured."""
        return [finding for finding in self.findings if finding.level == "FAIL"]

    def fail(self, what: str, remedy: str) -> None:
        """Add a failure."""
        self.findings.append(Finding("FAIL", what, remedy))

    def warn(self, what: str, remedy: str) -> None:
        """Add a warning."""
        self.findings.append(Finding("WARN", what, remedy))


def check(config: WorkspaceConfig, adapter_module: str, config_dir: Path) -> Report:
    """Look at everything that can be looked at without starting the agent. Raises nothing."""
    report = Report()
    report.adapter = _load_adapter(adapter_module, report)
    if report.adapter is not None and config.runtime:
        _check_name(report.adapter, config.runtime, report)
    for warning in config.warnings:
        report.warn(warning, "correct or remove it")
    if config.a2a.delivery_mode == "poll":
        report.warn(
            "a2a.delivery_mode is poll, and this runtime does not poll", "use push, or put a relay before it"
        )
    for name in config.prompt_files:
        if not (config_dir / name).exists():
            report.warn(f"prompt file {name} is not in {config_dir}", "add it or take it out of prompt_files")
    is_set = report.adapter.is_set if report.adapter is not None else BaseAdapter.is_set
    # A provider that is named has a credential of its own, and the adapter says what is missing there.
    alternatives = [] if config.runtime_config.get("provider") else required_variables(config)
    if alternatives and not any(is_set(name) for name in alternatives):
        # One of them is enough, and a subscription needs none: it may lie in CODEX_HOME already (B-32).
        report.warn(
            f"none of {', '.join(alternatives)} is set", "set one, unless the credential lies on a volume"
        )
    return report


def required_variables(config: WorkspaceConfig) -> list[str]:
    """The variables of which one is needed: those of the model that runs, else those of all models."""
    models = config.runtime_config.get("models")
    of_model = next(
        (
            each.get("required_env")
            for each in (models if isinstance(models, list) else ())
            if isinstance(each, dict) and each.get("id") == config.effective_model
        ),
        None,
    )
    wanted = of_model or config.runtime_config.get("required_env") or config.required_env
    names = wanted if isinstance(wanted, list) else [wanted]
    return [name for name in names if isinstance(name, str) and name.strip()]


def image_config_path(adapter_module: str) -> Path | None:
    """`config.yaml` beside the adapter's module: the image's own defaults."""
    try:
        spec = importlib.util.find_spec(adapter_module) if adapter_module else None
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).with_name("config.yaml") if spec and spec.origin else None


def _load_adapter(module_name: str, report: Report) -> type[BaseAdapter] | None:
    if not module_name:
        report.fail(
            "ADAPTER_MODULE is not set", "set it to the module that has the class Adapter, e.g. adapter"
        )
        return None
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # noqa: BLE001 (importing runs foreign code, which may raise anything)
        reason = f"{type(error).__name__}: {sanitize_agent_error(error)}"
        report.fail(
            f"ADAPTER_MODULE {module_name} cannot be imported ({reason})", "check PYTHONPATH and the module"
        )
        return None
    adapter = getattr(module, "Adapter", None)
    if not (isinstance(adapter, type) and issubclass(adapter, BaseAdapter)):
        report.fail(f"{module_name} has no class Adapter derived from BaseAdapter", "export one")
        return None
    try:
        adapter.name()
    except Exception as error:  # noqa: BLE001 (foreign code)
        report.fail(
            f"{module_name}.Adapter.name() raised {type(error).__name__}", "it must have no side effects"
        )
        return None
    return adapter


def _check_name(adapter: type[BaseAdapter], runtime: str, report: Report) -> None:
    if adapter.name() != runtime:
        report.warn(
            f"runtime is {runtime!r} in config.yaml, the adapter is {adapter.name()!r}", "the adapter wins"
        )
