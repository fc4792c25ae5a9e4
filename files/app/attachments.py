"""Turns an A2A message into the input of a codex turn: text, files of the workspace, images (PLATFORM.md
6.4).

Nothing outside the workspace is ever read: a path is resolved first, symbolic links included, and refused
where it leads outside. What is not there is fetched from the platform, what comes inline is written, both
into `.molecule/inbox` of the workspace.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import httpx
import structlog
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # ships no types

from atomic_file import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable

    from a2a.types import Message, Part

    from platform_api import PlatformApi

__all__ = ["AttachmentError", "Attachments", "is_empty"]

log = structlog.get_logger(__name__)

_MOUNT: Final = "/workspace"
_LIMIT: Final = 100 * 1024 * 1024
_DOWNLOAD_SECONDS: Final = 60.0
_PENDING: Final = "platform-pending:"
_PENDING_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_NAME_LENGTH: Final = 100
_SHOWN: Final = 200
_SUFFIX_LENGTH: Final = 16
_UNKNOWN_TYPE: Final = "unknown type"


class AttachmentError(ValueError):
    """An attachment that cannot be given to the agent: which one, and why."""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    mime_type: str
    path: Path


def is_empty(message: Message | None) -> bool:
    """Whether `message` holds nothing to work on: no text but white space, no file, no data."""
    parts: Iterable[Part] = message.parts if message is not None else ()
    return not any(part.text.strip() if _kind(part) == "text" else _kind(part) for part in parts)


class Attachments:
    """Prepares the input of a turn. `root` is the directory that `/workspace` stands for."""

    def __init__(self, root: Path, platform: PlatformApi | None = None) -> None:
        self._root = root
        self._platform = platform

    async def input(self, message: Message | None, *, preamble: str = "") -> list[dict[str, Any]]:
        """The input items for `message`: one text, then a `localImage` for each image.

        The text is `preamble`, the text parts joined by one space, data parts as JSON, and the list of files.
        Raises AttachmentError.
        """
        texts: list[str] = []
        data: list[str] = []
        files: list[_File] = []
        parts: Iterable[Part] = message.parts if message is not None else ()
        for part in parts:
            match _kind(part):
                case "text":
                    texts.append(part.text)
                case "data":
                    data.append(json.dumps(MessageToDict(part.data), ensure_ascii=False))
                case "raw" | "url":
                    files.append(await self._file(part))
        paragraphs = [preamble, " ".join(text for text in texts if text).strip(), *data, _listing(files)]
        items: list[dict[str, Any]] = []
        if text := "\n\n".join(paragraph for paragraph in paragraphs if paragraph):
            items.append({"type": "text", "text": text})
        items += [
            {"type": "localImage", "path": str(file.path)}
            for file in files
            if file.mime_type.startswith("image/")
        ]
        return items

    def resolve(self, uri: str) -> Path:
        """The real path of `workspace:/workspace/x`, `file:///workspace/x` or `/workspace/x`, which may not
        exist.

        Raises AttachmentError for another kind of URI and for a path that leads outside the workspace.
        """
        raw = uri
        if uri.startswith("workspace:"):
            raw = unquote(uri.removeprefix("workspace:"))
        elif uri.startswith("file:"):
            parsed = urlsplit(uri)
            if parsed.netloc not in ("", "localhost"):
                raise AttachmentError(
                    f"{_shown(uri)} is on another host; only files under {_MOUNT} can be attached"
                )
            raw = unquote(parsed.path)
        if not raw.startswith("/") or "\0" in raw:
            raise AttachmentError(
                f"{_shown(uri)} is no path under {_MOUNT}; attach workspace:{_MOUNT}/..., or send the bytes"
            )
        if raw == _MOUNT or raw.startswith(f"{_MOUNT}/"):
            raw = f"{self._root}{raw.removeprefix(_MOUNT)}"
        return self._inside(Path(raw), uri)

    # -- one file ------------------------------------------------------------------------------------------

    async def _file(self, part: Part) -> _File:
        if _kind(part) == "raw":
            digest = hashlib.sha256(part.raw).hexdigest()
            path = await asyncio.to_thread(self._store, digest, part.filename, part.raw)
        else:
            path = await self._located(part.url, part.filename)
        name = part.filename or path.name
        return _File(name, part.media_type or mimetypes.guess_type(name)[0] or "", path)

    async def _located(self, uri: str, name: str) -> Path:
        if uri.startswith(_PENDING):
            return await self._pending(uri, name)
        path = self.resolve(uri)
        if await asyncio.to_thread(path.is_file):
            return path
        if await asyncio.to_thread(path.exists):
            raise AttachmentError(f"{_shown(uri)} is no regular file")
        return await self._download(
            uri, name or path.name, "chat/download", {"path": f"{_MOUNT}/{self._below(path)}"}
        )

    async def _pending(self, uri: str, name: str) -> Path:
        workspace, _, file_id = uri.removeprefix(_PENDING).partition("/")
        if not (_PENDING_ID.fullmatch(workspace) and _PENDING_ID.fullmatch(file_id)):
            raise AttachmentError(f"{_shown(uri)} is no id of a pending upload")
        if self._platform is not None and workspace != self._platform.workspace_id:
            raise AttachmentError(f"{_shown(uri)} belongs to another workspace")
        path = await self._download(uri, name or file_id, f"pending-uploads/{file_id}/content", {})
        await self._acknowledge(file_id)
        return path

    async def _download(self, uri: str, name: str, route: str, query: dict[str, str]) -> Path:
        """Fetch `route` of this workspace from the platform, once per URI. At most 100 MB in 60 s."""
        key = hashlib.sha256(uri.encode()).hexdigest()
        cached = self._inbox(key) / _safe_name(name)
        if cached.is_file():
            return self._inside(cached, uri)
        if self._platform is None:
            raise AttachmentError(
                f"{_shown(uri)} is not in the workspace, and there is no platform to fetch it from"
            )
        try:
            async with asyncio.timeout(_DOWNLOAD_SECONDS):
                content = await self._fetch(route, query)
        except httpx.HTTPStatusError as error:
            raise AttachmentError(
                f"{_shown(uri)}: the platform answered {error.response.status_code}"
            ) from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise AttachmentError(f"{_shown(uri)} could not be fetched: {type(error).__name__}") from error
        return await asyncio.to_thread(self._store, key, name, content)

    async def _fetch(self, route: str, query: dict[str, str]) -> bytes:
        content = bytearray()
        async with self._client() as client, client.stream("GET", route, params=query) as response:
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _LIMIT:
                    raise AttachmentError(f"{route} of the platform has more than {_LIMIT} bytes")
        return bytes(content)

    async def _acknowledge(self, file_id: str) -> None:
        """Tell the platform that it need not keep the upload. A failure costs nothing: it is fetched."""
        try:
            async with asyncio.timeout(_DOWNLOAD_SECONDS), self._client() as client:
                (await client.post(f"pending-uploads/{file_id}/ack")).raise_for_status()
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("attachment.not_acknowledged", file=file_id, error=type(error).__name__)

    def _client(self) -> httpx.AsyncClient:
        if self._platform is None:
            raise AttachmentError("there is no platform to ask")
        return self._platform.client(_DOWNLOAD_SECONDS)

    # -- paths ---------------------------------------------------------------------------------------------

    def _inbox(self, key: str) -> Path:
        return self._root / ".molecule" / "inbox" / key[:24]

    def _store(self, key: str, name: str, content: bytes) -> Path:
        if len(content) > _LIMIT:
            raise AttachmentError(
                f"{_shown(name) if name else 'the attachment'} has more than {_LIMIT} bytes"
            )
        directory = self._inbox(key)
        target = self._inside(directory / _safe_name(name), name)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A link that another process puts there is replaced by the rename, never followed.
            write_atomically(target, content)
        except OSError as error:
            raise AttachmentError(
                f"{_shown(name) if name else 'the attachment'} cannot be stored: {error.strerror}"
            ) from error
        return target

    def _inside(self, path: Path, uri: str) -> Path:
        resolved = path.resolve()
        if not resolved.is_relative_to(self._root.resolve()):
            raise AttachmentError(f"{_shown(uri)} leads outside {_MOUNT}, and nothing outside is read")
        return resolved

    def _below(self, path: Path) -> str:
        return str(path.relative_to(self._root.resolve()))


def _shown(uri: str) -> str:
    """A URI for an error, which is repeated in answers and logs."""
    return repr(uri) if len(uri) <= _SHOWN else f"{uri[:_SHOWN]!r}... ({len(uri)} characters)"


def _kind(part: Part) -> str:
    return part.WhichOneof("content") or ""


def _safe_name(name: str) -> str:
    """The basename with unusual characters as `_`: at most 100 characters, the suffix at most 16."""
    plain = _UNSAFE.sub("_", os.path.basename(name.replace("\\", "/")).replace(" ", "_"))  # noqa: PTH119 (no path, a name from outside)
    if plain in ("", ".", ".."):
        return "file"
    stem, suffix = os.path.splitext(plain)  # noqa: PTH122 (no path, a name from outside)
    suffix = suffix[:_SUFFIX_LENGTH]
    return stem[: _NAME_LENGTH - len(suffix)] + suffix


def _listing(files: list[_File]) -> str:
    if not files:
        return ""
    lines = [f"- {file.name} ({file.mime_type or _UNKNOWN_TYPE}) at {file.path}" for file in files]
    return "\n".join(("Attached files:", *lines))
