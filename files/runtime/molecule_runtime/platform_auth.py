"""The two secrets between workspace and platform, on disk and in this process.

`.auth_token` goes from the workspace to the platform and guards `/transcript`; `.platform_inbound_secret`
goes from the platform to the workspace and guards `/internal/*`. Neither is ever logged.
"""

from __future__ import annotations

import hmac
import os
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
    "refresh_cache",
    "save_inbound_secret",
    "save_token",
    "self_source_headers",
    "token_path",
]

TOKEN_NAME = ".auth_token"  # noqa: S105 (the name of a file)
INBOUND_NAME = ".platform_inbound_secret"

_log = logs.get_logger(__name__)

_cache: dict[str, str] = {}
_unreadable: set[str] = set()


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

    A file that is there and cannot be read changes nothing: the value before is still the best there is.
    """
    before = dict(_cache)
    _cache.clear()
    get_token()
    _cache.update({name: value for name, value in before.items() if name in _unreadable})
    return _cache.get(TOKEN_NAME)


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
    _cache.pop(INBOUND_NAME, None)
    return bearer_matches(header, get_inbound_secret())


def token_path() -> Path:
    """Where the token is kept."""
    return configs_dir.resolve() / TOKEN_NAME


def _read(name: str) -> str | None:
    if name not in _cache:
        path = configs_dir.resolve() / name
        try:
            value = path.read_text("utf-8").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            value = ""
        except PermissionError:
            _tell_once(path)
            return None
        _unreadable.discard(name)
        if not value:
            return None
        _cache[name] = value
    return _cache[name]


def _tell_once(path: Path) -> None:
    """A platform that writes as root after the boot leaves a file that we cannot read (B-45)."""
    if path.name not in _unreadable:
        _unreadable.add(path.name)
        _log.error(
            f"{path} cannot be read by uid {os.getuid()}: it must belong to that user (mode 0600)",
            remedy="let the platform write it so, or restart the workspace",
        )


def _save(name: str, value: str) -> None:
    if not value or not value.isascii() or any(character.isspace() for character in value):
        raise ValueError(f"{name}: refusing a value that is empty or holds anything but printable ASCII")
    path = configs_dir.resolve() / name
    try:
        current = path.read_text("utf-8")
    except (FileNotFoundError, PermissionError, UnicodeDecodeError):
        current = None
    _cache[name] = value
    if current != value:
        write_atomic(path, value.encode("ascii"))
