"""`/internal/*`: the platform puts the user's files into the working tree, and reads files back."""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from molecule_runtime import __version__, platform_auth
from molecule_runtime.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Message, Receive

__all__ = ["AuthStatus", "InternalRoutes", "safe_name"]

MAX_FILES = 64
MAX_BYTES = 100 << 20
_CHUNK = 1 << 20
_NAME_LIMIT = 100
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_EXTENSION_LIMIT = 16


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _refused() -> Response:
    return JSONResponse({"error": "missing or invalid platform secret"}, status_code=401)


def safe_name(name: str) -> str:
    """The base name, anything unusual as `_`, at most 100 characters, its extension kept."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    base = re.sub(r"[^A-Za-z0-9._-]", "_", base)
    if len(base) > _NAME_LIMIT:
        stem, dot, extension = base.rpartition(".")
        keep = f".{extension}" if dot and stem and len(extension) < _EXTENSION_LIMIT else ""
        base = base[: _NAME_LIMIT - len(keep)] + keep
    return "file" if base in ("", ".", "..") else base


class AuthStatus:
    """Whether `POST /` asks for a bearer: the platform looks here before it lets all workspaces ask."""

    def __init__(self, required: bool) -> None:
        self._required = required

    def route(self) -> Route:
        """`GET /internal/a2a-auth-status`."""
        return Route("/internal/a2a-auth-status", self._serve, methods=["GET"])

    async def _serve(self, request: Request) -> Response:
        if not platform_auth.inbound_authorized(request.headers.get("authorization")):
            return _refused()
        present = platform_auth.get_inbound_secret() is not None
        return JSONResponse(
            {
                "require_auth": self._required,
                "inbound_secret_present": present,
                "ready_to_enforce": present,
                "runtime_version": __version__,
            }
        )


class InternalRoutes:
    """Both routes, for a working tree at `workspace` and readable trees at `readable`."""

    def __init__(
        self,
        workspace: Path = Path("/workspace"),
        readable: Sequence[Path] = (Path("/configs"), Path("/workspace"), Path("/home"), Path("/plugins")),
        *,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._workspace = workspace
        self._readable = tuple(readable)
        self._max_bytes = max_bytes

    def routes(self) -> list[Route]:
        """`POST /internal/chat/uploads/ingest` and `GET /internal/file/read`."""
        return [
            Route("/internal/chat/uploads/ingest", self._guarded_ingest, methods=["POST"]),
            Route("/internal/file/read", self._guarded_read, methods=["GET"]),
        ]

    async def _guarded_ingest(self, request: Request) -> Response:
        return await self._guarded(request, write=True)

    async def _guarded_read(self, request: Request) -> Response:
        return await self._guarded(request, write=False)

    async def _guarded(self, request: Request, *, write: bool) -> Response:
        if not platform_auth.inbound_authorized(request.headers.get("authorization")):
            return _refused()
        try:
            return await (self._ingest(request) if write else self._read(request))
        except _RefusedError as error:
            return JSONResponse({"error": str(error)}, status_code=error.status)
        except OSError as error:
            message = f"{error.strerror} (errno {error.errno}): {shortened(str(error.filename))}"
            return JSONResponse({"error": message}, status_code=500)

    async def _ingest(self, request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_bytes + _CHUNK:
            raise _RefusedError(413, f"the request is larger than {self._max_bytes} bytes")
        request = Request(request.scope, self._bounded(request.receive))
        try:
            form = await request.form(max_files=MAX_FILES, max_fields=MAX_FILES)
        except HTTPException as error:
            raise _RefusedError(
                400, f"failed to parse multipart form: {type(error).__name__}: {error.detail}"
            ) from error
        try:
            uploads = [item for item in form.getlist("files") if isinstance(item, UploadFile)]
            return JSONResponse({"files": await self._store_all(uploads)})
        finally:
            await form.close()

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` that ends with 413 at the limit, whether or not the length was told before."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes + _CHUNK:
                raise _RefusedError(413, f"the request is larger than {self._max_bytes} bytes")
            return message

        return bounded

    async def _store_all(self, uploads: Sequence[UploadFile]) -> list[dict[str, object]]:
        """All of them or none."""
        if not uploads:
            raise _RefusedError(400, "no part named 'files' with a file name")
        if sum(upload.size or 0 for upload in uploads) > self._max_bytes:
            raise _RefusedError(413, f"the files are larger than {self._max_bytes} bytes together")
        directory = self._workspace / ".molecule" / "chat-uploads"
        await to_thread.run_sync(lambda: directory.mkdir(parents=True, exist_ok=True))
        written: list[Path] = []
        try:
            return [await self._store(upload, directory, written) for upload in uploads]
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise

    async def _store(self, upload: UploadFile, directory: Path, written: list[Path]) -> dict[str, object]:
        name = safe_name(upload.filename or "")
        path = directory / f"{uuid.uuid4().hex}-{name}"
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        written.append(path)
        size = 0
        with os.fdopen(descriptor, "wb") as file:
            while chunk := await upload.read(_CHUNK):
                size += len(chunk)
                await to_thread.run_sync(file.write, chunk)
        return {
            "uri": f"workspace:/workspace/.molecule/chat-uploads/{path.name}",
            "name": name,
            "mimeType": upload.content_type or "application/octet-stream",
            "size": size,
        }

    async def _read(self, request: Request) -> Response:
        path = await to_thread.run_sync(self._readable_file, request.query_params.get("path", ""))
        encoded = quote(path.name, safe="")
        disposition = f"attachment; filename=\"{safe_name(path.name)}\"; filename*=UTF-8''{encoded}"
        headers = {"Content-Disposition": disposition}
        return FileResponse(path, media_type="application/octet-stream", headers=headers)

    def _readable_file(self, raw: str) -> Path:
        if not raw.startswith("/") or raw.startswith("//") or "\0" in raw or raw != os.path.normpath(raw):
            raise _RefusedError(
                400, "path must be absolute and normalised: no '..', no '//', no trailing '/'"
            )
        path = Path(raw)
        root = next((root for root in self._readable if path.is_relative_to(root) and path != root), None)
        if root is None:
            raise _RefusedError(400, f"path must be under one of {', '.join(map(str, self._readable))}")
        inside = path.relative_to(root).parts
        hidden = root != self._workspace and any(
            part.startswith(".") or part == "secrets.d" for part in inside
        )
        if hidden:
            # Tokens and logins lie there: in /configs, and in the home directory.
            raise _RefusedError(400, "hidden files and secrets outside the working tree are not served")
        try:
            found = path.lstat()
            # A link in the middle of the path leads as far astray as one at its end.
            if not stat.S_ISREG(found.st_mode) or path.resolve() != path:
                raise _RefusedError(404, "not a regular file")
            path.open("rb").close()
        except PermissionError as error:
            raise _RefusedError(403, "the agent may not read that file") from error
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            raise _RefusedError(404, "no such file") from error
        return path
