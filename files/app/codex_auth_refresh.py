"""One round of the refresh watchdog: look at codex's auth.json, and refresh its tokens when they are due.

Run by `codex_auth_refresh.sh`, which finds a Python and sleeps between rounds. Only the standard library is
used, and nothing newer than Python 3.9, for it must work in whatever Python that entry finds.
`docs/auth-refresh.md` lists the exit codes, the reasons and the settings. Facts that shape this module:

* codex 0.130.0 rewrites auth.json in place and truncates it first, without any lock, so a reader can meet an
  empty or half file.
* A refresh token is single-use: the answer that brings its successor must not be lost once it was asked for.
"""

from __future__ import annotations

import base64
import binascii
import enum
import errno
import fcntl
import hashlib
import json
import os
import re
import signal
import stat
import sys
import time
from calendar import timegm
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping
    from types import FrameType

    Document = dict[str, Any]

SECOND_HOME = Path("/configs/.codex")  # where the entry point of the workspace goes with a read-only home
DEFAULT_URL = "https://auth.openai.com/oauth/token"
CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
TOKEN_FIELDS = ("id_token", "access_token", "refresh_token")
REJECTED_CODES = (
    "refresh_token_expired",
    "refresh_token_reused",
    "refresh_token_invalidated",
    "invalid_grant",
)

# In a workspace that refreshes nothing auth.json has a refresh token that begins so, and is none. The
# document as it was given is beside it.
WITHHELD = "withheld-from-a-follower."
KEPT_NAME = "auth.json.withheld"
STATUS_NAMES = ("auth-refresh-status.json", "auth_refresh_status.json")  # the second is for other tools
REQUEST_SECONDS = 30.0  # for the whole exchange
GRACE_SECONDS = 5.0  # left to the answer after SIGTERM; an engine kills 10 s after it
LOCK_SECONDS = 60.0  # longer than another watchdog can hold it
REREAD_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
SAVE_AGAIN_SECONDS = (0.1, 0.5, 1.0, 2.0)
FUTURE_TOLERANCE_SECONDS = 300
FILE_LIMIT_BYTES = 1 << 20
ANSWER_LIMIT_BYTES = 1 << 16
LONGEST_SETTING_SECONDS = 31_536_000


class Outcome(enum.IntEnum):
    """What a round came to; the value is the exit code."""

    REFRESHED = 0
    SKIP = 1
    TRANSIENT = 2
    PERMANENT = 3


EXIT_USAGE = 64


class Result(NamedTuple):
    """What a round reports: `reason` is a stable word of docs/auth-refresh.md, `detail` is for people."""

    outcome: Outcome
    reason: str
    detail: str = ""


class NotRefreshedError(Exception):
    """The round ends without new tokens."""

    def __init__(self, outcome: Outcome, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.result = Result(outcome, reason, detail)


class SettingError(Exception):
    """An environment variable has a value that cannot be used."""


class ExchangeInterruptedError(Exception):
    """The time for the answer is over. Not an OSError: the standard library would try the next address."""


def skip(reason: str, detail: str = "") -> NotRefreshedError:
    """There is nothing to do."""
    return NotRefreshedError(Outcome.SKIP, reason, detail)


def transient(reason: str, detail: str = "") -> NotRefreshedError:
    """A later round may succeed."""
    return NotRefreshedError(Outcome.TRANSIENT, reason, detail)


def permanent(reason: str, detail: str = "") -> NotRefreshedError:
    """Only a new sign-in helps."""
    return NotRefreshedError(Outcome.PERMANENT, reason, detail)


# --- settings -----------------------------------------------------------------------------------------------


class Settings(NamedTuple):
    """Where the file is, whom to ask, and when (seconds)."""

    auth_file: Path
    url: str
    safety_margin: int
    stale_after: int
    is_owner: bool


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Check every setting; an empty value counts as unset.

    Raises:
        SettingError: in one sentence, what was given, what is allowed and what to do.
    """
    home = environment.get("CODEX_HOME") or "~/.codex"
    try:
        auth_file = Path(home).expanduser() / "auth.json"
    except RuntimeError:
        raise SettingError("CODEX_HOME is not set and there is no home directory: set CODEX_HOME") from None
    return Settings(
        auth_file=auth_file,
        url=_url(environment.get("CODEX_REFRESH_TOKEN_URL_OVERRIDE") or DEFAULT_URL),
        safety_margin=_seconds(environment, "CODEX_AUTH_SAFETY_MARGIN_SECONDS", 14_400),
        stale_after=_seconds(environment, "CODEX_AUTH_STALE_AFTER_SECONDS", 604_800),
        is_owner=environment.get("CODEX_AUTH_REFRESH_OWNER") != "0",
    )


def _seconds(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,8}", text) or int(text) > LONGEST_SETTING_SECONDS:
        raise SettingError(
            f"{name} is {text!r}: give a whole number of seconds from 0 to {LONGEST_SETTING_SECONDS}, "
            f"or unset it for {default}"
        )
    return int(text)


def _url(text: str) -> str:
    pattern = r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(?:[/?][!-~]*)?"
    match = re.fullmatch(pattern, text)
    if match and "#" not in text and int(match.group(3) or 0) <= 65535:
        octet = r"\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
        if match.group(1) == "https" or re.fullmatch(rf"localhost|127({octet}){{3}}|\[::1\]", match.group(2)):
            return text
    given = "a URL with credentials" if "@" in text else repr(text)
    raise SettingError(
        f"CODEX_REFRESH_TOKEN_URL_OVERRIDE is {given}: give an https:// URL without user name and fragment "
        f"(http:// only to a loopback address), or unset it for {DEFAULT_URL}"
    )


# --- signals ------------------------------------------------------------------------------------------------


class Patience:
    """Lets SIGTERM end the round at once, except while tokens may be on their way or are being saved.

    One timer bounds the whole exchange with name look-up and slow senders, which socket time-outs do not.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._committed = False
        self.stopped = False

    def install(self) -> None:
        """Take over the signals of this process."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGALRM, self._on_alarm)

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Bound what is done inside to REQUEST_SECONDS; from here on a stop waits for the round's own end.

        Raises:
            ExchangeInterruptedError: inside, when the time is over.
        """
        self._committed = self._waiting = True
        # The repetition is for an alarm that arrives where exceptions are dropped, such as in a destructor.
        signal.setitimer(signal.ITIMER_REAL, REQUEST_SECONDS, 1.0)
        try:
            yield
        finally:
            self._waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self.stopped = True
        if not self._committed:
            sys.exit(128 + number)
        if self._waiting:
            left = signal.getitimer(signal.ITIMER_REAL)[0]
            signal.setitimer(signal.ITIMER_REAL, max(0.001, min(left, GRACE_SECONDS)), 1.0)

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._waiting:
            raise ExchangeInterruptedError


# --- what the file says -------------------------------------------------------------------------------------


def read_document(path: Path) -> Document:
    """Read auth.json, again a few times if it looks as if codex were just writing it.

    Raises:
        NotRefreshedError: it is absent or empty (skip), or cannot be read or parsed (transient: somebody may
            repair it, and until then it is left as it is).
    """
    for pause in (*REREAD_SECONDS, None):
        try:
            raw = _read_bytes(path)
        except (FileNotFoundError, NotADirectoryError):
            raise skip("no_auth_json", f"{path} does not exist") from None
        except OSError as error:
            raise transient("auth_json_unreadable", f"{path}: {error.strerror}") from None
        document = parse_object(raw)
        if document is not None:
            return document
        if pause is not None:
            time.sleep(pause)
    if not raw.strip():
        raise skip("empty_auth_json", f"{path} is empty")
    raise transient("auth_json_invalid", f"{path} is not a JSON object; it is left as it is")


def _read_bytes(path: Path) -> bytes:
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        raw = file.read(FILE_LIMIT_BYTES + 1)
    if len(raw) > FILE_LIMIT_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {FILE_LIMIT_BYTES} bytes")
    return raw


def parse_object(raw: bytes) -> Document | None:
    """Parse a JSON object, or None. Numbers that could not be written back are refused."""
    try:
        value = json.loads(raw, parse_constant=_refuse_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) < float("inf") else _refuse_number(text)


def tokens_of(document: Mapping[str, Any]) -> Document:
    """Return the `tokens` object, empty where there is none."""
    tokens = document.get("tokens")
    return tokens if isinstance(tokens, dict) else {}


def text_of(tokens: Mapping[str, Any], field: str) -> str:
    """Return a non-empty text field, or an empty text."""
    value = tokens.get(field)
    return value if isinstance(value, str) else ""


def is_withheld(refresh_token: str) -> bool:
    """Whether it stands in the place of one that codex is not given."""
    return refresh_token.startswith(WITHHELD)


def is_header_text(token: str) -> bool:
    """Whether it can be what a token is: printable ASCII without blanks. It becomes part of a header."""
    return re.fullmatch(r"[!-~]*", token) is not None


def fingerprint(refresh_token: str) -> str:
    """Hex SHA-256, by which a refresh token can be recognised but not used."""
    return hashlib.sha256(refresh_token.encode("utf-8", "surrogatepass")).hexdigest()


def jwt_claims(token: str) -> Document | None:
    """Read the claims of a JWT without verifying it, or None: codex does not verify them either."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except (binascii.Error, ValueError):
        return None
    return parse_object(raw)


def expiry_of(access_token: str) -> int | None:
    """Seconds since the epoch at which the access token expires, or None where it does not tell."""
    value = (jwt_claims(access_token) or {}).get("exp")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 253_402_300_800:
        return None
    return int(value)


def parse_time(value: object) -> int | None:
    """Seconds since the epoch of an RFC 3339 time (codex writes nine decimals), or None."""
    pattern = r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))"
    match = re.fullmatch(pattern, value, re.ASCII) if isinstance(value, str) else None
    if match is None:
        return None
    day, clock, sign, hours, minutes = match.groups()
    try:
        seconds = timegm(time.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        return None
    offset = (int(hours) * 60 + int(minutes)) * 60 if sign else 0
    return seconds + offset if sign == "-" else seconds - offset


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def why_refresh(document: Mapping[str, Any], settings: Settings, now: float) -> str:
    """Return the reason for which the tokens are due.

    A `last_refresh` in the future tells nothing, since a clock was wrong then or is wrong now; one refresh
    writes it anew. Without a readable expiry only a known and small age counts as fresh.

    Raises:
        NotRefreshedError: they are not due, or this is no subscription (skip).
    """
    mode = document.get("auth_mode")
    if mode is None:  # as codex itself decides
        has_key = document.get("OPENAI_API_KEY") is not None
        mode = "chatgpt" if tokens_of(document) and not has_key else "apikey"
    if mode != "chatgpt":
        raise skip("not_subscription", "auth.json is not for a ChatGPT subscription")
    tokens = tokens_of(document)
    if not text_of(tokens, "refresh_token"):
        raise skip("no_refresh_token", "auth.json has no refresh token")

    access_token = text_of(tokens, "access_token")
    if not access_token:
        return "access_token_missing"
    expiry = expiry_of(access_token)
    if expiry is not None and expiry - now <= settings.safety_margin:
        return "access_token_expiring"
    refreshed = parse_time(document.get("last_refresh"))
    if refreshed is not None and refreshed - now > FUTURE_TOLERANCE_SECONDS:
        return "last_refresh_in_future"
    if refreshed is not None and now - refreshed > settings.stale_after:
        return "last_refresh_stale"
    if expiry is None and refreshed is None:
        return "age_unknown"
    until = "at an unknown time" if expiry is None else format_time(expiry)
    since = "at an unknown time" if refreshed is None else format_time(refreshed)
    raise skip("fresh", f"access token expires {until}, last refresh {since}")


# --- asking for new tokens ----------------------------------------------------------------------------------


def exchange(url: str, refresh_token: str, patience: Patience) -> Document:
    """Spend the refresh token; return the fields that the answer brought, every one a non-empty text.

    Raises:
        NotRefreshedError: transient or permanent. No text of the answer is in it.
    """
    import http.client  # noqa: PLC0415 - with TLS 10 MB, which only a round that asks needs
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Never carry the token to another address."""

    handlers: list[urllib.request.BaseHandler] = [NoRedirect()]
    if url.startswith("http:"):  # loopback: a proxy would read the token
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(  # noqa: S310 - read_settings allows http and https only
        url,
        method="POST",
        headers={
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "codex-workspace-auth-refresh",
        },
        data=json.dumps(
            {"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": refresh_token}
        ).encode(),
    )
    try:
        with patience.exchange():
            try:
                with urllib.request.build_opener(*handlers).open(request, timeout=REQUEST_SECONDS) as answer:
                    code, raw = answer.status, _whole_or_cut(answer)
            except urllib.error.HTTPError as error:
                with error:
                    code, raw = error.code, _whole_or_cut(error)
    except ExchangeInterruptedError:
        if patience.stopped:
            raise transient("interrupted", "told to stop while no answer had come") from None
        raise transient("timeout", f"no complete answer in {REQUEST_SECONDS:g} s") from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last: no host name
        raise _network_failure(error) from None
    return read_answer(code, raw)


def _whole_or_cut(answer: Any) -> bytes:
    """The body as far as it came: a cut one may hold the whole JSON, whose tokens come only once."""
    import http.client  # noqa: PLC0415 - loaded by who asks
    import zlib  # noqa: PLC0415

    try:
        raw: bytes = answer.read(ANSWER_LIMIT_BYTES + 1)
    except http.client.IncompleteRead as error:
        raw = error.partial
        if not raw:
            raise
    if answer.headers.get("Content-Encoding", "").strip().lower() in {"gzip", "x-gzip", "deflate"}:
        with suppress(zlib.error):
            raw = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw, ANSWER_LIMIT_BYTES + 1)
    return raw


def _network_failure(error: Exception) -> NotRefreshedError:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return transient("timeout", f"no complete answer in {REQUEST_SECONDS:g} s")
    if type(reason).__module__ == "ssl":
        return transient("tls", "the endpoint's certificate or TLS is not acceptable")
    detail = reason.strerror if isinstance(reason, OSError) else None
    return transient("network", detail or type(reason).__name__)


def read_answer(code: int, raw: bytes) -> Document:
    """Judge the answer to a refresh request; return the tokens that it brought.

    401 is permanent, and 400 with a code that speaks of the token itself: the three that OpenAI documents and
    OAuth's own `invalid_grant` (RFC 6749, 5.2), which says the same. Every other 4xx is transient: it speaks
    of the request or of what stands between (a proxy, a firewall), and a new sign-in would not help.

    Raises:
        NotRefreshedError: transient or permanent.
    """
    body = parse_object(raw) if len(raw) <= ANSWER_LIMIT_BYTES else None
    if code in {400, 401}:
        rejected = _rejected_code(body or {})
        if rejected or code == 401:
            raise permanent(rejected or "http_401", "the refresh token is refused: sign in again")
    if not 200 <= code < 300:
        raise transient(f"http_{code}", "the refresh token stays as it is")
    if len(raw) > ANSWER_LIMIT_BYTES:
        raise transient("answer_too_large", f"more than {ANSWER_LIMIT_BYTES} bytes")
    if body is None:
        raise transient("answer_not_json", "the answer is not a JSON object")
    fields: Document = {field: text_of(body, field) for field in TOKEN_FIELDS if text_of(body, field)}
    fields = {field: token for field, token in fields.items() if is_header_text(token)}
    if "id_token" in fields and jwt_claims(fields["id_token"]) is None:
        del fields["id_token"]  # codex refuses a whole auth.json for it
    if "access_token" not in fields and "refresh_token" not in fields:
        raise transient("answer_without_tokens", "the answer has neither an access token nor a refresh token")
    return fields


def _rejected_code(body: Mapping[str, Any]) -> str:
    error = body.get("error")
    found = error.get("code") if isinstance(error, dict) else error
    return found if isinstance(found, str) and found in REJECTED_CODES else ""


# --- saving -------------------------------------------------------------------------------------------------


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock beside auth.json: of two watchdogs one asks, and the other then sees a fresh file.

    Raises:
        NotRefreshedError: transient, when it cannot be had within `seconds`.
    """
    lock_file = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise transient("cannot_lock", f"{lock_file}: {error.strerror}; nothing was sent") from None
    try:
        _give_to_owner(descriptor, path)
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise transient("locked", "another watchdog is at work; nothing was sent") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _give_to_owner(descriptor: int, path: Path) -> None:
    if os.geteuid() == 0:
        owner = path if path.exists() else path.parent
        os.fchown(descriptor, owner.stat().st_uid, owner.stat().st_gid)


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], written)
    os.ftruncate(descriptor, len(content))
    os.fsync(descriptor)


def encode(document: Mapping[str, Any]) -> bytes:
    """Write a document as codex does: indented, not sorted."""
    return json.dumps(document, indent=2, allow_nan=False).encode() + b"\n"


class Slot:
    """The temporary file that will become auth.json; its room on the disk is taken before anything is sent.

    Its name carries the fingerprint of the refresh token that is to be spent: when a crash leaves it behind
    complete, the next round knows it for the successor of exactly that token and puts it in place.
    """

    def __init__(self, target: Path, refresh_token: str) -> None:
        self._target = target
        self._path = target.with_name(f".{target.name}.{fingerprint(refresh_token)[:16]}.new")
        self._descriptor = -1
        self._holds_tokens = False

    def recover(self, account: object) -> bool:
        """Put a complete file of an earlier round in place; remove whatever else such rounds left."""
        for leftover in self._target.parent.glob(f".{self._target.name}.*.new"):
            if leftover != self._path:
                leftover.unlink()
        try:
            # Room that was taken and not used is zeros.
            raw = _read_bytes(self._path).rstrip(b"\0")
        except FileNotFoundError:
            return False
        tokens = tokens_of(parse_object(raw) or {})
        if not text_of(tokens, "refresh_token") or tokens.get("account_id") != account:
            self._path.unlink()
            return False
        self._holds_tokens = True
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.commit(raw)
        return True

    def reserve(self, size: int) -> None:
        """Take `size` bytes of disk.

        Raises:
            OSError: they cannot be had, or the file's owner could not be kept.
        """
        owner = self._target.stat()
        if os.geteuid() not in {0, owner.st_uid}:
            raise OSError(errno.EPERM, f"it belongs to uid {owner.st_uid}, this is uid {os.geteuid()}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        _give_to_owner(self._descriptor, self._target)
        _write_whole(self._descriptor, bytes(size))

    def commit(self, content: bytes) -> None:
        """Make `content` the whole of auth.json, in one step, surely on the disk.

        Raises:
            OSError: it did not work; auth.json is as it was. Can be called again.
        """
        _write_whole(self._descriptor, content)
        self._holds_tokens = True
        try:
            self._path.replace(self._target)
        except OSError as error:
            # A file that is a mount point of its own cannot be replaced; codex writes in place always.
            if error.errno != errno.EBUSY:
                raise
            with self._target.open("r+b") as file:
                _write_whole(file.fileno(), content)
            self._path.unlink()
        self._holds_tokens = False
        with suppress(OSError):  # in place it is; not every file system can sync a directory
            _fsync_directory(self._target.parent)

    def close(self) -> None:
        """Remove the temporary file, unless it is the only place that holds the new tokens."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            if not self._holds_tokens:
                self._path.unlink(missing_ok=True)


def merge(before: Document, current: Document | None, fields: Mapping[str, str], now: float) -> Document:
    """Put the answer's fields into what is in the file by now, and nothing else.

    Where the file cannot be read any more (`current` is None: a writer died half-way, the disk was full) the
    document that was read before is the base, since otherwise the only valid token would be lost.

    Raises:
        NotRefreshedError: skip, when the file holds another refresh token by now: codex refreshed it or
            somebody signed in, and running codex processes hold that one. Only a file of the same account
            that went back in time (an old copy was restored) does not win over the answer.
    """
    base = before if current is None else current
    tokens, ours = tokens_of(base), tokens_of(before)
    if tokens.get("refresh_token") != ours.get("refresh_token"):
        then, start = parse_time(base.get("last_refresh")), parse_time(before.get("last_refresh"))
        restored = then is not None and start is not None and then < start
        if tokens.get("account_id") != ours.get("account_id") or not restored:
            raise skip("changed_under_way", "auth.json got other tokens meanwhile; they are kept")
        tokens = {**tokens, **ours}
    merged = {**base, "tokens": {**tokens, **fields}}
    if "access_token" in fields:
        merged["last_refresh"] = format_time(now)
    return merged


# --- the round ----------------------------------------------------------------------------------------------


class Round:
    """One look at auth.json with all that follows from it. Where auth.json is a link, the link is kept."""

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._target = Path(os.path.realpath(settings.auth_file))
        self._status_files = [settings.auth_file.with_name(name) for name in STATUS_NAMES]
        self._document: Document = {}

    def run(self) -> Result:
        """Do the round and leave its status file."""
        try:
            if self._settings.is_owner:
                self._restore_withheld()
            self._decide()
            with locked(self._target, LOCK_SECONDS):
                try:
                    result = Result(Outcome.REFRESHED, self._refresh())
                except NotRefreshedError as error:
                    result = error.result
                self._record(result)
        except NotRefreshedError as error:
            result = error.result
            # Somebody else who holds the lock will write the status.
            with suppress(NotRefreshedError), locked(self._target, 0):
                self._record(result)
        return result

    def _restore_withheld(self) -> None:
        """Put the refresh token back that a follower's codex is not given: from now on it is spent here."""
        if not self._lacks_its_token():
            return
        with locked(self._target, LOCK_SECONDS):
            if not self._lacks_its_token():
                return
            try:
                kept = _read_bytes(self._target.with_name(KEPT_NAME))
                if text_of(tokens_of(parse_object(kept) or {}), "refresh_token"):
                    self._replace(self._target, kept)
                    return
            except FileNotFoundError:
                pass
            except OSError as error:
                raise transient(
                    "cannot_save", f"{self._target}: {error.strerror}; nothing was sent"
                ) from None
        raise skip("no_refresh_token", f"the refresh token was withheld, and {KEPT_NAME} does not have it")

    def _lacks_its_token(self) -> bool:
        return is_withheld(text_of(tokens_of(read_document(self._target)), "refresh_token"))

    def _decide(self) -> str:
        self._document = read_document(self._target)
        if not self._settings.is_owner:
            raise skip("not_refresh_owner", "somebody else refreshes this account")
        return why_refresh(self._document, self._settings, time.time())

    def _refresh(self) -> str:
        cause = self._decide()  # again: another watchdog may have held the lock until now
        before = self._document
        refresh_token = text_of(tokens_of(before), "refresh_token")
        slot = Slot(self._target, refresh_token)
        try:
            try:
                if slot.recover(tokens_of(before).get("account_id")):
                    self._document = read_document(self._target)
                    return "recovered"
                self._refuse_rejected(refresh_token)
                slot.reserve(len(encode(before)) + 2 * ANSWER_LIMIT_BYTES)
            except OSError as error:
                raise transient(
                    "cannot_save", f"{self._target}: {error.strerror}; nothing was sent"
                ) from None
            try:
                fields = exchange(self._settings.url, refresh_token, self._patience)
            except NotRefreshedError as error:
                if error.result.outcome is Outcome.PERMANENT and self._replaced(refresh_token):
                    raise skip("changed_under_way", "codex spent this refresh token first") from None
                raise
            self._save(slot, before, fields)
        finally:
            slot.close()
        if "access_token" not in fields:
            raise transient("answer_without_access_token", "the refresh token that it brought is saved")
        return cause

    def _save(self, slot: Slot, before: Document, fields: Mapping[str, str]) -> None:
        for pause in (*SAVE_AGAIN_SECONDS, None):
            try:
                self._document = merge(before, self._current(), fields, time.time())
                slot.commit(encode(self._document))
            except OSError as error:
                if pause is None:
                    raise transient(
                        "save_failed",
                        f"NEW TOKENS COULD NOT BE SAVED to {self._target}: {error.strerror}. The old refresh "
                        "token is spent: repair it, let the next round try, sign in again if it ends with 3",
                    ) from None
                say(f"warning: the new tokens are not saved yet ({error.strerror}), trying again")
                time.sleep(pause)
            else:
                return

    def _replaced(self, refresh_token: str) -> bool:
        current = self._current()
        return current is not None and text_of(tokens_of(current), "refresh_token") != refresh_token

    def _current(self) -> Document | None:
        try:
            return read_document(self._target)
        except NotRefreshedError as error:
            if error.result.reason == "no_auth_json":
                raise skip("removed_under_way", "auth.json was removed meanwhile: signed out") from None
            return None

    def _refuse_rejected(self, refresh_token: str) -> None:
        status = self._last_status()
        if status.get("rejected_refresh_token_sha256") == fingerprint(refresh_token):
            reason = status.get("rejected_reason")
            known = reason if reason in REJECTED_CODES else "http_401"
            raise permanent(known, "refused before and not sent again: sign in again")

    def _last_status(self) -> Document:
        try:
            return parse_object(_read_bytes(self._status_files[0])) or {}
        except OSError:
            return {}

    def _record(self, result: Result) -> None:
        now = time.time()
        tokens = tokens_of(self._document)
        refreshed = parse_time(self._document.get("last_refresh"))
        expiry = expiry_of(text_of(tokens, "access_token"))
        age = None if refreshed is None or refreshed > now else int(now - refreshed)
        status: Document = {
            "time": format_time(now),
            "outcome": result.outcome.name.lower(),
            "exit_code": int(result.outcome),
            "reason": result.reason,
            "last_refresh": None if refreshed is None else format_time(refreshed),
            "age_seconds": age,
            "last_refresh_age_seconds": age,
            "watchdog_last_outcome": watchdog_outcome(result),
            "watchdog_last_run_iso": format_time(now),
            "access_token_expires": None if expiry is None else format_time(expiry),
            "rejected_refresh_token_sha256": None,
            "rejected_reason": None,
        }
        if result.outcome is Outcome.PERMANENT:
            status["rejected_refresh_token_sha256"] = fingerprint(text_of(tokens, "refresh_token"))
            status["rejected_reason"] = result.reason
        elif result.outcome is not Outcome.REFRESHED:
            last = self._last_status()
            for field in ("rejected_refresh_token_sha256", "rejected_reason"):
                status[field] = last.get(field)
        for status_file in self._status_files:
            try:
                self._replace(status_file, encode(status))
            except OSError as error:
                say(f"warning: {status_file} is not written: {error.strerror}")

    def _replace(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.replace")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(
            temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            _give_to_owner(descriptor, self._target)
            _write_whole(descriptor, content)
            temporary.replace(path)
            _fsync_directory(path.parent)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)


def record_not_owner(auth_file: Path) -> None:
    """Leave the status of a workspace that refreshes nothing: how old the tokens are that it was given."""
    settings = Settings(auth_file, DEFAULT_URL, safety_margin=0, stale_after=0, is_owner=False)
    Round(settings, Patience()).run()


def watchdog_outcome(result: Result) -> str:
    """The result as one word for other tools; 0 stands for a failure without an HTTP status."""
    if result.outcome is Outcome.REFRESHED:
        return "refreshed"
    if result.outcome is Outcome.SKIP:
        return f"skip:{result.reason}"
    if result.outcome is Outcome.PERMANENT:
        return "fail:permanent_401"
    if result.reason == "save_failed":
        return "fail:apply_response"
    answered = "200" if result.reason.startswith("answer_") else "0"
    return f"fail:transient_{result.reason[5:] if result.reason.startswith('http_') else answered}"


def become_user_of(environment: MutableMapping[str, str]) -> None:
    """As root, become the user whose CODEX_HOME it is, with that CODEX_HOME: root's own is another one.

    `docker exec` runs as root. Where CODEX_HOME is given and is a directory of root's, root stays root.

    Raises:
        SettingError: there is no way to become that user here.
    """
    if os.geteuid() == 0 and not _is_roots(environment.get("CODEX_HOME")):
        sys.path.append(str(Path(__file__).parent))
        import agent_user  # noqa: PLC0415 - only now its place is known

        try:
            agent = agent_user.find(environment)
        except agent_user.AgentError:
            return  # a machine that has no such user: root is the one who signed in
        try:
            agent_user.become(agent)
        except agent_user.AgentError as error:
            raise SettingError(str(error)) from None
        environment["HOME"] = agent.home
    home = Path(environment.get("CODEX_HOME") or "~/.codex")
    with suppress(RuntimeError):  # no home: read_settings says so
        home = home.expanduser()
    if not os.access(home, os.W_OK) and os.access(SECOND_HOME / "auth.json", os.R_OK):
        environment["CODEX_HOME"] = str(SECOND_HOME)


def _is_roots(given: str | None) -> bool:
    """Whether CODEX_HOME is given and root's: itself, or where it would be made. A link tells nothing."""
    if not given or given.startswith("~"):
        return False
    path = Path(given).absolute()
    while not os.path.lexists(path):
        path = path.parent
    return not path.is_symlink() and path.stat().st_uid == 0


def say(line: str) -> None:
    """Write one line for people to stderr."""
    sys.stderr.write(f"codex_auth_refresh: {line}\n")
    sys.stderr.flush()


def main() -> int:
    """Do one round with the settings of the environment; return its exit code."""
    patience = Patience()
    patience.install()
    try:
        become_user_of(os.environ)
        result = Round(read_settings(os.environ), patience).run()
    except SettingError as error:
        say(str(error))
        return EXIT_USAGE
    except Exception as error:  # noqa: BLE001 - Python's own exit code for it is 1, which means "skipped"
        # The message could quote the file; the type and the place cannot.
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        result = Result(
            Outcome.TRANSIENT,
            "internal_error",
            f"{type(error).__name__}, line {trace.tb_lineno if trace else '?'}",
        )
    label = f"{result.outcome.name.lower()}:{result.reason}"
    say(f"{label} ({result.detail})" if result.detail else label)
    return int(result.outcome)


if __name__ == "__main__":
    sys.exit(main())
