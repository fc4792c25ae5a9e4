"""Puts the ChatGPT subscription that the platform gives into codex's `auth.json`.

The text is written as it was given, but never over tokens of the same account that were refreshed later: a
refresh token is single-use, and the one in the environment was spent by the first refresh.

In a workspace that refreshes nothing codex is not given the refresh token at all: auth.json has a placeholder
in its place, and the document as it was given stands beside it. It goes back where the workspace becomes the
owner.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from atomic_file import write_atomically
from codex_auth_refresh import (
    FUTURE_TOLERANCE_SECONDS,
    KEPT_NAME,
    WITHHELD,
    NotRefreshedError,
    encode,
    is_header_text,
    is_withheld,
    jwt_claims,
    locked,
    parse_object,
    parse_time,
    text_of,
    tokens_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "VARIABLES",
    "AuthJsonError",
    "check",
    "given",
    "install",
    "is_subscription",
    "settle",
    "tokens_in",
]

VARIABLES: Final = ("CODEX_AUTH_JSON", "CODEX_CHATGPT_AUTH_JSON")
_NAME: Final = "auth.json"
_LOCK_SECONDS: Final = 5.0
_REQUIRED: Final = ("access_token", "refresh_token", "id_token")
_CLAIMS: Final = "https://api.openai.com/auth"

Outcome = Literal["written", "kept", "same"]
_IsNewer = Callable[[dict[str, Any] | None], bool]


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
        document = json.loads(text.removeprefix("\ufeff"))
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
    _check_tokens(tokens_of(document), source, remedy)
    return document


def _check_tokens(tokens: dict[str, Any], source: str, remedy: str) -> None:
    if missing := [name for name in _REQUIRED if not text_of(tokens, name)]:
        raise AuthJsonError(f"{source} lacks {', '.join(f'tokens.{name}' for name in missing)}: {remedy}")
    if odd := [name for name in _REQUIRED if not is_header_text(text_of(tokens, name))]:
        raise AuthJsonError(
            f"{source} has characters that no token has in {', '.join(f'tokens.{name}' for name in odd)}: "
            f"{remedy}"
        )
    if is_withheld(text_of(tokens, "refresh_token")):
        raise AuthJsonError(f"{source} is the auth.json of a workspace that refreshes nothing: {remedy}")
    if jwt_claims(text_of(tokens, "id_token")) is None:
        raise AuthJsonError(f"{source} has a tokens.id_token that is no JWT, which codex refuses: {remedy}")


def install(
    home: Path, text: str, source: str, *, withhold: bool = False, if_as_old: bool = False
) -> Outcome:
    """Make `text` the auth.json in `home` (mode 0600), unless the one there is newer.

    Of one age (whoever refreshes may leave all times as they were) the one there stays, unless `if_as_old`.
    With `withhold` codex does not get the refresh token. Where auth.json is a link, its target is replaced.
    Raises AuthJsonError for a text that cannot be used, and OSError; what was there is then as it was.
    """
    document = check(text, source)
    text = text.removeprefix("\ufeff")  # check passes over it, and codex does not

    def is_newer(current: dict[str, Any] | None) -> bool:
        return _is_newer(current, document, or_as_old=not if_as_old)

    return _settle(home, text, is_newer, withhold=withhold)


def settle(home: Path, *, withhold: bool) -> None:
    """Give codex its refresh token or take it away, where there is a subscription. Raises OSError."""
    if is_subscription(home):
        _settle(home, None, lambda _: True, withhold=withhold)


def tokens_in(home: Path) -> dict[str, Any]:
    """The tokens that codex is given; empty where there are none."""
    try:
        return tokens_of(parse_object(_read(home / _NAME)) or {})
    except OSError:
        return {}


def _settle(home: Path, text: str | None, is_newer: _IsNewer, *, withhold: bool) -> Outcome:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = Path(os.path.realpath(home / _NAME))
    # Without the lock first: the watchdog holds it while it waits for an answer, and has the newer file.
    outcome, _, is_done = _look(path, text, is_newer, withhold=withhold)
    if is_done:
        return outcome
    try:
        with locked(path, _LOCK_SECONDS):
            outcome, wanted, is_done = _look(path, text, is_newer, withhold=withhold)
            if not is_done:
                _put(path, wanted, withhold=withhold)
            return outcome
    except NotRefreshedError as error:
        raise OSError(error.result.detail) from error


def _look(path: Path, text: str | None, is_newer: _IsNewer, *, withhold: bool) -> tuple[Outcome, bytes, bool]:
    """What has to become of `text`, the whole document that is wanted, and whether that is so already."""
    raw, current = _current(path)
    outcome: Outcome = "same"
    if text is None and current is None:
        return outcome, raw, True
    if text is not None and raw != text.encode():
        outcome = "kept" if is_newer(current) else "written"
    wanted = text.encode() if text is not None and outcome == "written" else raw
    has = _read(path)
    if not withhold:
        return outcome, wanted, has == wanted
    tokens, theirs = tokens_of(parse_object(has) or {}), tokens_of(parse_object(wanted) or {})
    is_done = (
        outcome != "written"
        and is_withheld(text_of(tokens, "refresh_token"))
        and tokens.get("access_token") == theirs.get("access_token")
    )
    return outcome, wanted, is_done


def _current(path: Path) -> tuple[bytes, dict[str, Any] | None]:
    """The newest document with its refresh token: auth.json, or the one that stands beside it."""
    raw = _read(path)
    document = parse_object(raw)
    if document is not None and is_withheld(text_of(tokens_of(document), "refresh_token")):
        raw = _read(path.with_name(KEPT_NAME))
        document = parse_object(raw)
        if document is None or not text_of(tokens_of(document), "refresh_token"):
            return b"", None
    return raw, document


def _put(path: Path, content: bytes, *, withhold: bool) -> None:
    """Write both files, in an order in which none is ever lost. Raises OSError."""
    kept = path.with_name(KEPT_NAME)
    document = parse_object(content)
    if withhold and document is not None:
        if _read(kept) != content:
            write_atomically(kept, content, mode=0o600)
        write_atomically(path, encode(_without_refresh_token(document, path)), mode=0o600)
    else:
        write_atomically(path, content, mode=0o600)
        kept.unlink(missing_ok=True)


def _without_refresh_token(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """For codex: a placeholder that nobody can guess, and the account, or it would look at no newer file."""
    before = text_of(tokens_of(parse_object(_read(path)) or {}), "refresh_token")
    changed = {"refresh_token": before if is_withheld(before) else f"{WITHHELD}{secrets.token_urlsafe(24)}"}
    if account := _account(document):
        changed["account_id"] = account
    return {**document, "tokens": {**tokens_of(document), **changed}}


def is_subscription(home: Path) -> bool:
    """Whether auth.json in `home` holds tokens that can be refreshed."""
    try:
        document = parse_object(_read(home / _NAME))
    except OSError:
        return False
    return document is not None and bool(text_of(tokens_of(document), "refresh_token"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _is_newer(current: dict[str, Any] | None, other: dict[str, Any], *, or_as_old: bool) -> bool:
    """Whether `current` is of the same account as `other`, and newer (`or_as_old`: or of one age).

    An answer may bring a refresh token alone: then both are of one time, and that of `other` is spent.
    """
    if current is None or not text_of(tokens_of(current), "refresh_token"):
        return False
    if _account(current) != _account(other):
        return False
    ours, theirs = _claims_of_access(current), _claims_of_access(other)
    # The access token tells by the clock of its issuer, and whoever refreshes may leave last_refresh alone.
    times = [(_number(ours, claim), _number(theirs, claim)) for claim in ("iat", "exp")]
    times = [*(each for each in times if all(each)), (_refreshed(current), _refreshed(other))]
    decisive = next((each for each in times if each[0] != each[1]), None)
    if decisive is None:
        return or_as_old and any(times[0])
    return decisive[0] > decisive[1]


def _account(document: dict[str, Any]) -> str:
    tokens = tokens_of(document)
    claims = (jwt_claims(text_of(tokens, "id_token")) or {}).get(_CLAIMS)
    claimed = claims.get("chatgpt_account_id") if isinstance(claims, dict) else None
    return text_of(tokens, "account_id") or str(claimed or "")


def _claims_of_access(document: dict[str, Any]) -> dict[str, Any]:
    return jwt_claims(text_of(tokens_of(document), "access_token")) or {}


def _number(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _refreshed(document: dict[str, Any]) -> float:
    """`last_refresh` as Unix time, 0 where it tells nothing: the clock that wrote it may have jumped."""
    refreshed = parse_time(document.get("last_refresh")) or 0
    return refreshed if refreshed <= time.time() + FUTURE_TOLERANCE_SECONDS else 0
