"""The two secrets between workspace and platform, on disk and in this process.

`.auth_token` goes from the workspace to the platform and guards `/transcript`; `.platform_inbound_secret`
goes from the platform to the workspace and guards `/internal/*`. Neither is ever logged.
"""

from __future__ import annotations

import codecs
import hmac
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from molecule_runtime import configs_dir, logs
from molecule_runtime.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "auth_headers",
    "bearer_matches",
    "get_inbound_secret",
    "get_token",
    "inbound_authorized",
    "problem",
    "refresh_cache",
    "save_inbound_secret",
    "save_token",
    "save_unsaved",
    "self_source_headers",
    "token_path",
]

TOKEN_NAME = ".auth_token"  # noqa: S105 (the name of a file)
INBOUND_NAME = ".platform_inbound_secret"

_log = logs.get_logger(__name__)

_TEXT = re.compile("[!-~]+")

_cache: dict[Path, str] = {}
_problems: dict[Path, str] = {}
_unsaved: dict[Path, bytes | None] = {}
"""Whose value in `_cache` is not on the disk yet, and what the file held when it could not be written."""


def get_token() -> str | None:
    """The workspace's bearer token, read once; None before the platform has issued one."""
    return _read(TOKEN_NAME)


def get_inbound_secret() -> str | None:
    """The secret that the platform presents, read once; None before it was delivered."""
    return _read(INBOUND_NAME)


def save_token(token: str) -> None:
    """Keep `token`, 0600. Raises ValueError if it is empty or has white space, OSError if not written.

    After OSError this process goes on with the new value all the same.
    """
    _save(TOKEN_NAME, token)


def save_inbound_secret(secret: str) -> None:
    """Keep `secret`, 0600. Same errors as `save_token`."""
    _save(INBOUND_NAME, secret)


def refresh_cache() -> str | None:
    """Read the files again, since the platform rotates tokens by writing them. Gives the token.

    A file that is there and cannot be used changes nothing, nor does one that is older than what could not be
    written: the value before is still the best there is.
    """
    save_unsaved()
    for name in (TOKEN_NAME, INBOUND_NAME):
        _forget(_path(name))
    return get_token()


def save_unsaved() -> None:
    """Write what a full disk has refused; it stays unsaved where there is still no room."""
    for path, before in list(_unsaved.items()):
        if _content(path) != before:
            del _unsaved[path]  # somebody has written a newer one meanwhile
            _cache.pop(path, None)
            continue
        with suppress(OSError):
            write_atomic(path, _cache[path].encode("ascii"))
            del _unsaved[path]
            _log.info(f"{path} is saved now")


def problem() -> str:
    """Why the token on the disk is not used, where there is no other; "" where all is well."""
    return "" if get_token() else _problems.get(_path(TOKEN_NAME), "")


def auth_headers() -> dict[str, str]:
    """`Authorization` for a call to the platform; empty before a token was issued, never an empty bearer."""
    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def self_source_headers(workspace_id: str) -> dict[str, str]:
    """`auth_headers` plus `X-Workspace-ID`, without which A2A that we send looks like the user's."""
    return {**auth_headers(), "X-Workspace-ID": workspace_id}


def bearer_matches(header: str | None, secret: str | None) -> bool:
    """Whether `header` is exactly `Bearer <secret>`, in constant time. False while no secret is known."""
    if not secret or header is None:
        return False
    return hmac.compare_digest(header.encode("utf-8", "replace"), f"Bearer {secret}".encode())


def inbound_authorized(header: str | None) -> bool:
    """Whether `header` carries the inbound secret; a rotation on disk is noticed. Fails closed."""
    if bearer_matches(header, get_inbound_secret()):
        return True
    _forget(_path(INBOUND_NAME))
    return bearer_matches(header, get_inbound_secret())


def token_path() -> Path:
    """Where the token is kept."""
    return _path(TOKEN_NAME)


def _path(name: str) -> Path:
    return configs_dir.resolve() / name


def _forget(path: Path) -> None:
    """Let the next one who asks look at the disk, where there may be something newer."""
    if path not in _unsaved and _usable(path) is not None:
        _cache.pop(path, None)


def _read(name: str) -> str | None:
    path = _path(name)
    if path not in _cache and (value := _usable(path)):
        _cache[path] = value
    return _cache.get(path)


def _usable(path: Path) -> str | None:
    """What the file holds, "" for nothing or no file; None where it is of no use, and why is said once."""
    try:
        raw = path.read_bytes() if path.exists() else b""
    except PermissionError:
        # A platform that writes as root after the boot leaves such a file (B-45).
        _refuse(path, f"cannot be read by uid {os.getuid()}: it must belong to that user (mode 0600)")
        return None
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}")
        return None
    value = raw.removeprefix(codecs.BOM_UTF8).strip().decode("latin-1")
    if not value or _TEXT.fullmatch(value):
        _problems.pop(path, None)
        return value
    lines = len(value.splitlines())
    if lines > 1:
        _refuse(path, f"holds {lines} lines and not one")
    else:
        _refuse(path, "holds blanks or bytes that no token has")
    return None


def _refuse(path: Path, reason: str) -> None:
    text = f"{path} {reason}"
    if _problems.get(path) != text:
        _problems[path] = text
        _log.error(text, remedy="let the platform write its token so that it can be read, and restart")


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _save(name: str, value: str) -> None:
    if not _TEXT.fullmatch(value):
        raise ValueError(f"{name}: refusing a value that is empty or holds anything but printable ASCII")
    path = _path(name)
    current = _content(path)
    _cache[path] = value
    _problems.pop(path, None)
    if current != value.encode("ascii"):
        _unsaved[path] = current
        write_atomic(path, value.encode("ascii"))
    _unsaved.pop(path, None)
