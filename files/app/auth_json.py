"""Puts the ChatGPT subscription that the platform gives into codex's `auth.json`.

The text is written as it was given, but never over tokens of the same account that were refreshed later: a
refresh token is single-use, and the one in the environment was spent by the first refresh.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from atomic_file import write_atomically
from codex_auth_refresh import (
    NotRefreshedError,
    jwt_claims,
    locked,
    parse_object,
    parse_time,
    text_of,
    tokens_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["VARIABLES", "AuthJsonError", "check", "given", "install", "is_subscription"]

VARIABLES: Final = ("CODEX_AUTH_JSON", "CODEX_CHATGPT_AUTH_JSON")
_NAME: Final = "auth.json"
_LOCK_SECONDS: Final = 5.0
_REQUIRED: Final = ("access_token", "refresh_token", "id_token")
_CLAIMS: Final = "https://api.openai.com/auth"


class AuthJsonError(ValueError):
    """A subscription that cannot be used. The text names the variable and never its value."""


def given(env: Mapping[str, str]) -> tuple[str, str] | None:
    """Name and text of the variable that holds the subscription; the first that is set counts."""
    return next(((name, env[name]) for name in VARIABLES if env.get(name, "").strip()), None)


def check(text: str, source: str) -> dict[str, Any]:
    """Return the document in `text`. Raises AuthJsonError, which says where it came from (`source`)."""
    remedy = "give the whole content of ~/.codex/auth.json of a machine where `codex login` was run"
    try:
        document = json.loads(text)
    except ValueError as error:
        where = (
            f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        )
        raise AuthJsonError(f"{source} is not JSON{where}: {remedy}") from None
    if not isinstance(document, dict):
        raise AuthJsonError(f"{source} is not a JSON object: {remedy}")
    mode = document.get("auth_mode")
    if mode not in (None, "chatgpt"):
        raise AuthJsonError(
            f"{source} is for auth_mode {str(mode)[:40]!r}, and only chatgpt (a subscription) is allowed: "
            f"{remedy}, or set OPENAI_API_KEY for an API key"
        )
    if missing := [name for name in _REQUIRED if not text_of(tokens_of(document), name)]:
        raise AuthJsonError(f"{source} lacks {', '.join(f'tokens.{name}' for name in missing)}: {remedy}")
    return document


def install(home: Path, text: str, source: str) -> Literal["written", "kept", "same"]:
    """Make `text` the auth.json in `home` (mode 0600), unless the one there is newer.

    Returns what came of it. Raises AuthJsonError for a text that cannot be used, and OSError; the file that
    was there is then as it was.
    """
    document = check(text, source)
    path = home / _NAME
    try:
        with locked(path, _LOCK_SECONDS):
            current = _read(path)
            if current == text:
                return "same"
            if _is_newer(parse_object((current or "").encode()), document):
                return "kept"
            write_atomically(path, text, mode=0o600)
    except NotRefreshedError as error:
        raise OSError(error.result.detail) from error
    return "written"


def is_subscription(home: Path) -> bool:
    """Whether auth.json in `home` holds tokens that can be refreshed."""
    document = parse_object((_read(home / _NAME) or "").encode())
    return document is not None and bool(text_of(tokens_of(document), "refresh_token"))


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _is_newer(current: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    """Whether `current` is of the same account as `other`, and was refreshed after it."""
    if current is None or not text_of(tokens_of(current), "refresh_token"):
        return False
    return _account(current) == _account(other) and _age(current) > _age(other)


def _account(document: dict[str, Any]) -> str:
    tokens = tokens_of(document)
    claims = (jwt_claims(text_of(tokens, "id_token")) or {}).get(_CLAIMS)
    claimed = claims.get("chatgpt_account_id") if isinstance(claims, dict) else None
    return text_of(tokens, "account_id") or str(claimed or "")


def _age(document: dict[str, Any]) -> float:
    """When the tokens were issued, as Unix time; 0 where nothing tells."""
    issued = (jwt_claims(text_of(tokens_of(document), "access_token")) or {}).get("iat")
    return parse_time(document.get("last_refresh")) or (issued if isinstance(issued, (int, float)) else 0)
