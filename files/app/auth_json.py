"""Puts the ChatGPT subscription that the platform gives into codex's `auth.json`.

The text is written as it was given, but never over tokens of the same account that were refreshed later: a
refresh token is single-use, and the one in the environment was spent by the first refresh.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from atomic_file import write_atomically
from codex_auth_refresh import (
    FUTURE_TOLERANCE_SECONDS,
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

__all__ = ["VARIABLES", "AuthJsonError", "check", "given", "install", "is_subscription"]

VARIABLES: Final = ("CODEX_AUTH_JSON", "CODEX_CHATGPT_AUTH_JSON")
_NAME: Final = "auth.json"
_LOCK_SECONDS: Final = 5.0
_REQUIRED: Final = ("access_token", "refresh_token", "id_token")
_CLAIMS: Final = "https://api.openai.com/auth"

Outcome = Literal["written", "kept", "same"]


class AuthJsonError(ValueError):
    """A subscription that cannot be used. The text names the variable and never its value."""


def given(env: Mapping[str, str]) -> tuple[str, str] | None:
    """Name and text of the variable that holds the subscription; the first that is set counts."""
    return next(((name, env[name]) for name in VARIABLES if env.get(name, "").strip()), None)


def check(text: str, source: str) -> dict[str, Any]:
    """Return the document in `text`. Raises AuthJsonError, which says where it came from (`source`)."""
    remedy = "give the whole content of ~/.codex/auth.json of a machine where `codex login` was run"
    try:
        text.encode()
        document = json.loads(text)
    except UnicodeEncodeError:
        raise AuthJsonError(f"{source} is not UTF-8 text: {remedy}") from None
    except json.JSONDecodeError as error:
        raise AuthJsonError(
            f"{source} is not JSON (line {error.lineno}, column {error.colno}): {remedy}"
        ) from None
    except (ValueError, RecursionError):
        raise AuthJsonError(f"{source} is not JSON: {remedy}") from None
    if not isinstance(document, dict):
        raise AuthJsonError(f"{source} is not a JSON object: {remedy}")
    mode = document.get("auth_mode")
    if mode is None and document.get("OPENAI_API_KEY") is not None:
        mode = "apikey"  # as codex itself decides
    if mode not in (None, "chatgpt"):
        raise AuthJsonError(
            f"{source} is for auth_mode {str(mode)[:40]!r}, and only chatgpt (a subscription) is allowed: "
            f"{remedy}, or set OPENAI_API_KEY for an API key"
        )
    tokens = tokens_of(document)
    if missing := [name for name in _REQUIRED if not text_of(tokens, name)]:
        raise AuthJsonError(f"{source} lacks {', '.join(f'tokens.{name}' for name in missing)}: {remedy}")
    if jwt_claims(text_of(tokens, "id_token")) is None:
        raise AuthJsonError(f"{source} has a tokens.id_token that is no JWT, which codex refuses: {remedy}")
    return document


def install(home: Path, text: str, source: str) -> Outcome:
    """Make `text` the auth.json in `home` (mode 0600), unless the one there is newer.

    Where auth.json is a link, its target is replaced. Raises AuthJsonError for a text that cannot be used,
    and OSError; the file that was there is then as it was.
    """
    document = check(text, source)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = Path(os.path.realpath(home / _NAME))
    # Without the lock first: the watchdog holds it while it waits for an answer, and has the newer file.
    if (outcome := _compare(path, text, document)) != "written":
        return outcome
    try:
        with locked(path, _LOCK_SECONDS):
            if (outcome := _compare(path, text, document)) == "written":
                write_atomically(path, text, mode=0o600)
            return outcome
    except NotRefreshedError as error:
        raise OSError(error.result.detail) from error


def is_subscription(home: Path) -> bool:
    """Whether auth.json in `home` holds tokens that can be refreshed."""
    try:
        document = parse_object(_read(home / _NAME))
    except OSError:
        return False
    return document is not None and bool(text_of(tokens_of(document), "refresh_token"))


def _compare(path: Path, text: str, document: dict[str, Any]) -> Outcome:
    """What has to become of `text`. Raises OSError."""
    current = _read(path)
    if current == text.encode():
        return "same"
    return "kept" if _is_newer(parse_object(current), document) else "written"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _is_newer(current: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    """Whether `current` is of the same account as `other`, and not older.

    An answer may bring a refresh token alone: then both are of one time, and that of `other` is spent.
    """
    if current is None or not text_of(tokens_of(current), "refresh_token"):
        return False
    return _account(current) == _account(other) and 0 < _issued(current) >= _issued(other)


def _account(document: dict[str, Any]) -> str:
    tokens = tokens_of(document)
    claims = (jwt_claims(text_of(tokens, "id_token")) or {}).get(_CLAIMS)
    claimed = claims.get("chatgpt_account_id") if isinstance(claims, dict) else None
    return text_of(tokens, "account_id") or str(claimed or "")


def _issued(document: dict[str, Any]) -> float:
    """When the tokens were issued, as Unix time; 0 where nothing tells.

    The access token says it by the clock of its issuer. `last_refresh` was written by the clock of some
    machine, which may have jumped: one in the future tells nothing.
    """
    issued = (jwt_claims(text_of(tokens_of(document), "access_token")) or {}).get("iat")
    if isinstance(issued, (int, float)) and not isinstance(issued, bool):
        return issued
    refreshed = parse_time(document.get("last_refresh")) or 0
    return refreshed if refreshed <= time.time() + FUTURE_TOLERANCE_SECONDS else 0
