"""Which model runs: what the environment says, else the merged configuration.

A person changes the model in the platform's editor. That sets MODEL, and leaves the file as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from config_document.document import is_blank

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MODEL_VARIABLES", "ChosenModel", "choose_model", "provider_names"]

MODEL_VARIABLES: Final = ("MOLECULE_MODEL", "MODEL")
# Platforms of before put a model's id there; today it names a provider, where it is set at all.
_AMBIGUOUS: Final = "MODEL_PROVIDER"
_OPENAI: Final = "openai"


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """The model's id, where it was said, and what to warn of. `id` is empty where nobody names one."""

    id: str
    source: str = ""
    warnings: tuple[str, ...] = ()


def choose_model(values: Mapping[str, Any], env: Mapping[str, str]) -> ChosenModel:
    """MOLECULE_MODEL, MODEL, MODEL_PROVIDER unless it names a provider, `runtime_config.model`, `model`.

    `values` is the merged document, so that a blank model in the workspace's leaves the image's.
    """
    for variable in MODEL_VARIABLES:
        if given := env.get(variable, "").strip():
            return ChosenModel(given, variable)
    if (given := env.get(_AMBIGUOUS, "").strip()) and given.lower() not in provider_names(values):
        warning = f"{_AMBIGUOUS} is {given!r}, which names no provider: it is taken for a model; set MODEL"
        return ChosenModel(given, _AMBIGUOUS, (warning,))
    section = values.get("runtime_config")
    if isinstance(section, dict) and (given := _text(section.get("model"))):
        return ChosenModel(given, "runtime_config.model")
    given = _text(values.get("model"))
    return ChosenModel(given, "model" if given else "")


def provider_names(values: Mapping[str, Any]) -> frozenset[str]:
    """Every name in lower case that a provider of the merged document goes by."""
    return frozenset(name.strip().lower() for name in _names(values.get("providers"))) | {_OPENAI}


def _names(providers: Any) -> Iterator[str]:
    for entry in providers if isinstance(providers, list) else ():
        if isinstance(entry, dict):
            aliases = entry.get("name_aliases")
            for name in (entry.get("name"), *(aliases if isinstance(aliases, list) else (aliases,))):
                if isinstance(name, str):
                    yield name


def _text(value: Any) -> str:
    usable = isinstance(value, str | int | float) and not isinstance(value, bool)
    return "" if is_blank(value) or not usable else str(value).strip()
