"""Pieces that executors import: reading an incoming message, workspace paths, liveness, safe error texts."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from a2a.types import Part

from molecule_runtime.proto import to_dict
from molecule_runtime.redaction import redact

if TYPE_CHECKING:
    from molecule_runtime.heartbeat import Heartbeat

__all__ = [
    "WORKSPACE_MOUNT",
    "FilePart",
    "extract_data_parts",
    "extract_file_parts",
    "extract_message_text",
    "read_delegation_results",
    "resolve_workspace_path",
    "sanitize_agent_error",
    "set_current_task",
]

WORKSPACE_MOUNT = Path("/workspace")
DELEGATION_RESULTS = "/tmp/delegation_results.jsonl"  # noqa: S108 (the platform's own default)
_ERROR_LIMIT = 500
_MARKER = "A2A_RESULT_FROM_PEER"


@dataclass(frozen=True, slots=True)
class FilePart:
    """One file of a message: either `uri` or `content` is set. Nothing is checked or fetched yet."""

    name: str = ""
    mime_type: str = ""
    uri: str = ""
    content: bytes | None = None


def extract_message_text(message: Any) -> str:
    """Join the text parts of `message` with one space and trim.

    `message` is an A2A message of any shape (1.0 protobuf, 0.3 model, dict) or an iterable of its parts. The
    protobuf `parts` is iterable and no list: code that asks for a list reads every message as empty (B-16).
    """
    texts = (_text_of(part) for part in _parts(message))
    return " ".join(text for text in texts if text).strip()


def extract_file_parts(message: Any) -> list[FilePart]:
    """The files of `message`, in order, whichever shape they came in; other parts are left out."""
    return [file for part in _parts(message) if (file := _file_of(part)) is not None]


def extract_data_parts(message: Any) -> list[Any]:
    """The JSON values of the data parts of `message`, in order."""
    return [value for part in _parts(message) if (value := _data_of(part)) is not None]


def resolve_workspace_path(uri: str, root: Path = WORKSPACE_MOUNT) -> Path | None:
    """Map `workspace:/workspace/x`, `file:///workspace/x` or `/workspace/x` to a real path under `root`.

    Symbolic links and `..` are resolved first. None where the URI is of another kind or leads outside `root`.
    """
    if uri.startswith("workspace:"):
        raw = unquote(uri.removeprefix("workspace:"))
    elif uri.startswith("file:"):
        parsed = urlsplit(uri)
        if parsed.netloc not in ("", "localhost"):
            return None
        raw = unquote(parsed.path)
    else:
        raw = uri
    if not raw.startswith("/") or "\0" in raw:
        return None
    if raw == str(WORKSPACE_MOUNT) or raw.startswith(f"{WORKSPACE_MOUNT}/"):
        raw = f"{root}{raw.removeprefix(str(WORKSPACE_MOUNT))}"
    path = Path(raw).resolve()
    return path if path.is_relative_to(root.resolve()) else None


def read_delegation_results() -> str:
    """Take (and clear) the delegation results that the heartbeat left, marked as a peer's; "" if none.

    The markers tell the model that what stands between them is another agent's data, no instruction (B-46).
    """
    path = Path(os.environ.get("DELEGATION_RESULTS_FILE") or DELEGATION_RESULTS)
    taken = path.with_name(f"{path.name}.{os.getpid()}.taken")
    try:
        path.rename(taken)
        lines = taken.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return ""
    finally:
        taken.unlink(missing_ok=True)
    return "\n".join(f"[{_MARKER}]\n{_defused(line)}\n[/{_MARKER}]" for line in lines if line.strip())


def _defused(line: str) -> str:
    """A peer that writes the closing marker itself must not step out of it."""
    return line.replace(f"{_MARKER}]", f"{_MARKER})")


def set_current_task(heartbeat: Heartbeat | None, task: str) -> None:
    """Say in the next heartbeat what is being worked on ("" for nothing). The runtime itself counts turns."""
    if heartbeat is not None:
        heartbeat.current_task = task


def sanitize_agent_error(error: BaseException | str) -> str:
    """The text of `error` for a user: one line, without secrets, at most 500 characters."""
    text = error if isinstance(error, str) else (str(error) or type(error).__name__)
    return redact(" ".join(text.split()))[:_ERROR_LIMIT]


def _parts(message: Any) -> Iterable[Any]:
    if message is None:
        return ()
    if isinstance(message, Mapping):
        found = message.get("parts")
    elif hasattr(message, "parts"):
        found = message.parts
    else:
        found = message
    return found if isinstance(found, Iterable) and not isinstance(found, str | bytes) else ()


def _root(part: Any) -> Any:
    """A 0.3 model wraps each part in `root`; a mapping or a protobuf part is its own root."""
    return getattr(part, "root", part)


def _get(part: Any, *names: str) -> Any:
    for name in names:
        value = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
        if value is not None:
            return value
    return None


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _text_of(part: Any) -> str:
    return _string(_get(_root(part), "text"))


def _file_of(part: Any) -> FilePart | None:
    part = _root(part)
    if (inner := _get(part, "file")) is not None:
        file = FilePart(
            name=_string(_get(inner, "name")),
            mime_type=_string(_get(inner, "mime_type", "mimeType")),
            uri=_string(_get(inner, "uri")),
            content=_base64(_get(inner, "bytes")),
        )
    else:
        file = FilePart(
            name=_string(_get(part, "filename")),
            mime_type=_string(_get(part, "media_type", "mediaType")),
            uri=_string(_get(part, "url")),
            content=_raw(part),
        )
    return file if file.uri or file.content is not None else None


def _raw(part: Any) -> bytes | None:
    if isinstance(part, Part):
        return bytes(part.raw) if part.HasField("raw") else None
    return _base64(_get(part, "raw"))


def _base64(value: Any) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _data_of(part: Any) -> Any:
    part = _root(part)
    if isinstance(part, Part):
        return to_dict(part.data) if part.HasField("data") else None
    value = _get(part, "data")
    return json.loads(json.dumps(value, default=str)) if value is not None else None
