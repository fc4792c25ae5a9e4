"""Bytes of a file that a person wrote, as text: UTF-8, or what its byte order mark says."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NotTextError", "read_text"]

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


class NotTextError(ValueError):
    """A file that holds no text which could be told from another: says which file, and what to do."""


def read_text(path: Path) -> str:
    """The text of `path`. Raises NotTextError, or OSError where it cannot be read."""
    raw = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        shown = "UTF-8" if encoding == "utf-8" else f"the {encoding.upper()} that its first bytes promise"
        raise NotTextError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
            if encoding == "utf-8"
            else f"{path} is not {shown} (byte {error.start}): save it as UTF-8"
        ) from error
    if "\0" in text:
        raise NotTextError(
            f"{path} is not UTF-8 text (it holds NUL characters, as UTF-16 without its mark does): "
            "save it as UTF-8"
        )
    return text
