"""The runtime's part of `config.yaml` as typed values. `config_document` reads the files and merges them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

import config_document
from config_document import ConfigFileError
from config_document.document import Layers, unknown_keys
from config_document.typed import FALLBACK, typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["A2AConfig", "ConfigFileError", "RbacConfig", "SkillConfig", "WorkspaceConfig", "load"]


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a whole number, not true or false")  # noqa: TRY004 (pydantic wants ValueError)
    return value


Whole = Annotated[int, BeforeValidator(_not_bool)]
Seconds = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class A2AConfig(_Section):
    """How the workspace is spoken to."""

    port: Annotated[Whole, Field(ge=1, le=65535)] = 8000
    streaming: bool = True
    push_notifications: bool = False
    delivery_mode: Literal["push", "poll"] = "push"


class SkillConfig(_Section):
    """A skill as the card shows it. A text alone is one of that name."""

    id: str = ""
    name: str
    description: str = ""
    tags: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip():
            return {"id": value, "name": value, "description": value, "tags": [value]}
        return value


class RbacConfig(_Section):
    """Who may do what to the memory."""

    roles: list[str] = Field(default_factory=lambda: ["operator"])
    allowed_actions: dict[str, list[str]] = Field(default_factory=dict)


class ObservabilityConfig(_Section):
    """What is reported, and how often."""

    heartbeat_interval_seconds: Seconds = 30
    log_level: str = ""

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two beats, within the platform's 5 to 300."""
        return min(max(self.heartbeat_interval_seconds, 5.0), 300.0)


class WorkspaceConfig(_Section):
    """The keys of `config.yaml` that the runtime reads.

    A tier that is none counts as the lowest, and roles that cannot be read allow reading the memory: neither
    may become more than what was asked for.
    """

    name: str = "Workspace"
    description: str = ""
    version: str = "1.0.0"
    role: str = ""
    tier: Annotated[Whole, Field(ge=1, le=4, json_schema_extra={FALLBACK: 1})] = 1
    runtime: str = ""
    template_schema_version: Annotated[Literal[1], BeforeValidator(_not_bool)] = 1
    model: str = ""
    runtime_config: dict[str, Any] = Field(default_factory=dict)
    a2a: A2AConfig = Field(default_factory=A2AConfig)
    initial_prompt: str = ""
    initial_prompt_file: str = ""
    idle_prompt: str = ""
    idle_prompt_file: str = ""
    idle_interval_seconds: Seconds = 600
    prompt_files: list[str] = Field(default_factory=list)
    skills: list[SkillConfig] = Field(default_factory=list)
    tools: list[Any] = Field(default_factory=list)
    required_env: list[str] = Field(default_factory=list)
    rbac: Annotated[RbacConfig, Field(json_schema_extra={FALLBACK: {"roles": ["read-only"]}})] = Field(
        default_factory=RbacConfig
    )
    observability: ObservabilityConfig = Field(default_factory=ObservabilityConfig)
    _effective_model: str = PrivateAttr("")
    _warnings: tuple[str, ...] = PrivateAttr(())

    @property
    def effective_model(self) -> str:
        """The model that runs, as the environment or the file says."""
        return self._effective_model or self.model

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd about the files. Each names the file, the key, what was given and what is used."""
        return self._warnings


_SECTIONS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("a2a", A2AConfig),
    ("rbac", RbacConfig),
    ("observability", ObservabilityConfig),
)


def load(image: Path | None, workspace: Path | None, env: Mapping[str, str] | None = None) -> WorkspaceConfig:
    """Read the image's file and the workspace's (or its directory) over it; `env` may name the model.

    Raises ConfigFileError for a file that cannot be read as a mapping.
    """
    layers = config_document.load(image, workspace)
    config, values, odd = typed(WorkspaceConfig, layers)
    model = config_document.choose_model(values, env or {})
    # Private, so that no file can set them.
    config._effective_model = model.id
    config._warnings = (
        *layers.warnings, *_unknown(layers), *odd, *model.warnings, *_not_done(layers, config)
    )  # fmt: skip
    return config


def _unknown(layers: Layers) -> Iterator[str]:
    sections: dict[str, type[BaseModel]] = {
        "a2a": A2AConfig,
        "rbac": RbacConfig,
        "observability": ObservabilityConfig,
    }
    for document in (layers.image, layers.workspace):
        for name, section in sections.items():
            yield from unknown_keys(
                document.source, (name,), document.values.get(name), section.model_fields.keys()
            )


def _not_done(layers: Layers, config: WorkspaceConfig) -> Iterator[str]:
    if config.a2a.push_notifications:
        yield (
            f"{layers.workspace.source}: a2a.push_notifications is not implemented, so the card does not "
            "declare it: set it to false; clients stream, or ask with tasks/get"
        )
