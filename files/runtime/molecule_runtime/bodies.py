"""What a client sends to `POST /`: read with a limit, and looked through before any library sees it.

A fault in it is the client's, so it is named, at the place where it stands, and never quoted at length. What
the libraries behind would answer with an exception of Python's (a number that no double holds, half of a
surrogate pair), accept and damage (base64 with other characters), or work on for minutes (a million parts),
does not get to them.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from molecule_runtime.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_DEPTH",
    "MAX_PARTS",
    "MAX_VALUES",
    "decode_files",
    "first_fault",
    "identifier",
    "read",
]

MAX_BODY_BYTES = 32 << 20
"""Inline files count: the platform's proxy forwards at most 16 MB, base64 adds a third."""

MAX_DEPTH = 32
"""Of objects and arrays in each other. The libraries behind give up at 100 levels of their own."""

MAX_VALUES = 50_000
"""Of all strings, numbers, objects and arrays in a body together: more belongs into a file."""

MAX_PARTS = 1000
"""Of a message."""

_LARGEST = 2.0**1023 * (2 - 2.0**-52)
_MOST_CHARACTERS = {
    "contextId": 256, "context_id": 256, "fileName": 1024, "filename": 1024, "id": 256, "kind": 256,
    "mediaType": 256, "media_type": 256, "messageId": 256, "message_id": 256, "method": 256, "mimeType": 256,
    "mime_type": 256, "name": 1024, "role": 256, "taskId": 256, "task_id": 256, "uri": 8192, "url": 8192,
}  # fmt: skip
"""Of texts that are repeated in answers, headers and logs. Data and metadata are the client's own."""

_COUNTS = ("historyLength", "history_length")
_FREE = ("data", "metadata")


@dataclass(frozen=True, slots=True)
class _Found:
    """A value of a body, its place (`params.message.parts.0`), its key there; `free` is the client's own."""

    place: str
    key: str
    value: Any
    depth: int
    free: bool


async def read(request: Request, limit: int = MAX_BODY_BYTES) -> bytes | None:
    """The body; None if it is over the limit. Request.body() has none."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def identifier(call: Any) -> str | int | None:
    """The id of a request, where it is one that an answer can repeat."""
    found = call.get("id") if isinstance(call, dict) else None
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    return None if _fault(_Found("id", "id", found, 1, free=False), 0) else found


def first_fault(call: Any) -> tuple[str, str] | None:
    """The place and the kind of the first thing in a parsed body that nothing can be done with, if any."""
    stack = [_Found("", "", call, 0, free=False)]
    values = 0
    while stack:
        one = stack.pop()
        values += 1
        inside = len(one.value) if isinstance(one.value, dict | list) else 0
        if values + len(stack) + inside > MAX_VALUES:
            return one.place, f"more than {MAX_VALUES} values in one request: send them as a file"
        if fault := _fault(one, inside):
            return one.place, fault
        if inside:
            stack += [
                _Found(_joined(one.place, name), name, item, one.depth + 1, one.free or name in _FREE)
                for name, item in _items(one.value)
            ][::-1]
    return None


def decode_files(call: Any) -> tuple[str, str] | None:
    """Put each file's bytes into plain base64 in place; the first that cannot be read as place and kind.

    They come as a data: URL, in the URL-safe alphabet, in lines, or without their padding as well.
    """
    for place, part in _parts(call):
        file = part.get("file")
        if isinstance(file, dict):
            holder, key, where = file, "bytes", f"{place}.file"
        else:
            holder, key, where = part, "raw", place
        text = holder.get(key)
        if not isinstance(text, str):
            continue
        try:
            content, media_type = _content(text)
        except ValueError:
            return f"{where}.{key}", "neither base64 nor a data: URL"
        holder[key] = base64.b64encode(content).decode()
        name = "mimeType" if key == "bytes" else "mediaType"
        if media_type and not (holder.get(name) or holder.get("mime_type") or holder.get("media_type")):
            holder[name] = media_type
    return None


def _content(text: str) -> tuple[bytes, str]:
    """The bytes and the media type of a text. Raises ValueError."""
    media_type = ""
    if text[:5].lower() == "data:":
        head, comma, text = text[5:].partition(",")
        if not comma:
            raise ValueError("a data: URL without a comma")
        media_type, *options = (piece.strip() for piece in head.split(";"))
        if not any(option.lower() == "base64" for option in options):
            return unquote_to_bytes(text), media_type[:256]
        text = unquote_to_bytes(text).decode("ascii")
    plain = "".join(text.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True), media_type[:256]
    except binascii.Error as error:
        raise ValueError("no base64") from error


def _parts(call: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    params = call.get("params") if isinstance(call, dict) else None
    message = params.get("message") if isinstance(params, dict) else None
    parts = message.get("parts") if isinstance(message, dict) else None
    for number, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, dict):
            yield f"params.message.parts.{number}", part


def _items(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        yield from ((str(number), item) for number, item in enumerate(value))
        return
    for name, item in value.items():
        # A name that cannot be written anywhere is a fault of its own, found as the text that it is.
        yield (name, item) if _is_text(name) else ("(a name)", name)


def _fault(one: _Found, inside: int) -> str:
    """What is wrong with one value, in words that do not quote it; "" for nothing."""
    fault = ""
    match one.value:
        case str() as text if not _is_text(text):
            fault = "half of a surrogate pair, which is no character"
        case str() as text if not one.free and len(text) > (most := _MOST_CHARACTERS.get(one.key, len(text))):
            fault = f"longer than {most} characters"
        case float() as number if not math.isfinite(number):
            fault = "no number that JSON knows"
        case bool():
            pass
        case int() as number if not one.free and one.key in _COUNTS and not 0 <= number < 2**31:
            fault = "no number from 0 to 2147483647"
        case int() as number if abs(number) > (_LARGEST if one.free else 2**63 - 1):
            fault = "a number that is too large"
        case dict() | list() if one.depth == MAX_DEPTH and inside:
            fault = f"nested deeper than {MAX_DEPTH}"
        case list() if one.key == "parts" and not one.free and inside > MAX_PARTS:
            fault = f"more than {MAX_PARTS} parts"
    return fault


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _joined(place: str, name: str) -> str:
    return shortened(f"{place}.{name}" if place else name, 160)
