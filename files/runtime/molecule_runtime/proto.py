"""Protobuf messages as plain JSON values. In one place, since protobuf ships no types."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped]  # no stubs in the distribution

__all__ = ["to_dict"]


def to_dict(message: Any) -> Any:
    """The JSON form of any protobuf message, keys in camelCase; a `Value` may give any JSON value."""
    return json_format.MessageToDict(message)
