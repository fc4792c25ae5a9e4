"""A document as a pydantic model. What does not fit is made to fit, or its default stands in, with a warning.

Two users with two models read the same file: the runtime its part, the application its own. A warning that
both would give is one (`untold`).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from config_document.document import ConfigFileError, Document, Layers, dotted, is_blank, merged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pydantic_core import ErrorDetails

__all__ = ["FALLBACK", "told", "typed", "untold"]

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]

# In `json_schema_extra` of a field of the model itself: what stands in for a value that does not fit, where
# that is not the image's nor the model's default.
FALLBACK: Final = "fallback"
_ABSENT: Final = object()
# pydantic's words for these name its own types.
_WORDS: Final = {
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
_told: set[str] = set()


@dataclass(frozen=True, slots=True)
class _Odd:
    """A value that did not fit: whose, where, what, and why."""

    document: Document
    place: Place
    given: Any
    why: str

    def warning(self, model: BaseModel, values: dict[str, Any]) -> str:
        used = _used(model, values, self.place)
        outcome = "it is left out" if used is _ABSENT else f"{_stand_in(used)} is used"
        where = f"{self.document.source}: {dotted(self.place)}"
        return f"{where} is {_shown(self.given)}, which {self.why}; {outcome}"


def typed(
    model: type[Model], layers: Layers, *, refused: Collection[Place] = ()
) -> tuple[Model, dict[str, Any], tuple[str, ...]]:
    """The two documents as `model`, their merged values as they are used, and what was odd about values.

    A wrong value at one of the places `refused` raises ConfigFileError: its default would allow more than
    what was asked for.
    """
    odd: list[_Odd] = []
    documents = (layers.image, layers.workspace)
    values = merged(*(_fitted(model, document, refused, odd) for document in documents))
    result = model.model_validate(values)
    blanks = [
        f"{document.source}: {dotted(place)} is blank; {_stand_in(used)} is used"
        for document in documents
        for place in document.blanks
        if (used := _used(result, values, place)) is not _ABSENT
    ]
    return result, values, (*blanks, *(each.warning(result, values) for each in odd))


def told(warnings: Iterable[str]) -> None:
    """Keep in mind that this process has said these."""
    _told.update(warnings)


def untold(warnings: Iterable[str]) -> list[str]:
    """Those of `warnings` that this process has not said yet, each once; they count as said now."""
    new = [each for each in dict.fromkeys(warnings) if each not in _told]
    told(new)
    return new


def _fitted(
    model: type[BaseModel], document: Document, refused: Collection[Place], odd: list[_Odd]
) -> dict[str, Any]:
    """Values of one document that `model` takes. Each round makes values fit, or takes them out."""
    values = deepcopy(document.values)
    while problems := _problems(model, values):
        done: set[Place] = set()
        # From the end, so that the numbers of the items before one that is taken out stay what they are.
        for problem in reversed(problems):
            place = _existing(values, problem["loc"])
            if any(place[: len(each)] == each for each in done):
                continue
            given, why = _at(values, place), _WORDS.get(problem["type"], problem["msg"])
            if place[:2] in refused:
                raise ConfigFileError(f"{document.source}: {dotted(place)}: {why} (given: {given!r})")
            made = _made_to_fit(document, place, given, problem["type"])
            if made is _ABSENT and (made := _fallback(model, place)) is not _ABSENT:
                place, given = place[:1], _at(values, place[:1])
            if made is _ABSENT:
                _take_out(values, place)
            else:
                _at(values, place[:-1])[place[-1]] = made
            done.add(place)
            if not is_blank(given):
                odd.append(_Odd(document, place, given, why))
    return values


def _problems(model: type[BaseModel], values: dict[str, Any]) -> list[ErrorDetails]:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _made_to_fit(document: Document, place: Place, given: Any, kind: str) -> Any:
    """Another value of the same meaning: what was read as a number as it is written, one thing as a list."""
    if kind == "string_type" and isinstance(given, bool | int | float):
        written = document.text(place)
        return str(given) if written is None else written
    if kind == "list_type" and not isinstance(given, dict):
        return [] if is_blank(given) else [given]
    return _ABSENT


def _used(model: BaseModel, values: dict[str, Any], place: Place) -> Any:
    """What the model has at `place`. Items of lists have moved since, so they are only left out."""
    if any(isinstance(part, int) for part in place):
        return _at(values, place) if isinstance(_at(values, place), str) else _ABSENT
    value: Any = model
    for part in place:
        if isinstance(value, BaseModel):
            value = getattr(value, str(part), _ABSENT)
        else:
            value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def _stand_in(value: Any) -> str:
    return "the default" if isinstance(value, BaseModel | dict) else _shown(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _existing(values: dict[str, Any], place: Sequence[str | int]) -> Place:
    """The part of `place` that is in `values`: pydantic adds names of what is missing, and of its types."""
    value: Any = values
    found: list[str | int] = []
    for part in place:
        if (value := _at(value, (part,))) is _ABSENT:
            break
        found.append(part)
    return tuple(found)


def _at(values: Any, place: Place) -> Any:
    for part in place:
        if not isinstance(values, dict | list):
            return _ABSENT
        try:
            values = values[part]  # type: ignore[index]  # a list with a name in place of a number is caught
        except (LookupError, TypeError):
            return _ABSENT
    return values


def _take_out(values: Any, place: Place) -> None:
    if not place:
        values.clear()
    else:
        del _at(values, place[:-1])[place[-1]]


def _fallback(model: type[BaseModel], place: Place) -> Any:
    """What its field of `model` has as a stand-in, anew each time."""
    field = model.model_fields.get(str(place[0])) if place else None
    extra = field.json_schema_extra if field is not None else None
    return deepcopy(extra[FALLBACK]) if isinstance(extra, dict) and FALLBACK in extra else _ABSENT
