"""The bearer that `POST /` of a workspace without a platform asks for.

Whoever gives orders to an agent that becomes root of a machine is root of that machine. So where that is the
case, a workspace that nobody gave a token makes one at its first boot and keeps it in its configs directory.
With a platform it is the platform's switch and secret that count, since it sends no bearer unless told to.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atomic_file import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VARIABLE", "BearerError", "given_or_made"]

VARIABLE: Final = "CODEX_WORKSPACE_A2A_TOKEN"
_SWITCH: Final = "MOLECULE_A2A_REQUIRE_AUTH"
_NAME: Final = ".a2a_token"
_STATUS: Final = Path("/proc/self/status")
_HOST_ROOT: Final = Path("/host")
_CAP_SYS_ADMIN: Final = 21
_SHORTEST: Final = 16


class BearerError(ValueError):
    """A token that cannot be used, or cannot be kept: what was given, what is allowed and what to do."""


def given_or_made(env: Mapping[str, str], configs: Path, socket: Path) -> tuple[str, str]:
    """The token, and the line of the boot's log that tells of it; two empty texts where none is asked for.

    Raises BearerError.
    """
    switch = env.get(_SWITCH, "").strip().lower()
    if switch in ("0", "false", "no", "off"):
        return "", ""
    if token := env.get(VARIABLE, "").strip():
        return _checked(token, VARIABLE), f"POST / asks for the bearer of {VARIABLE}"
    if env.get("PLATFORM_URL", "").strip().lower() not in ("off", "none"):
        return "", ""
    reason = f"{_SWITCH} is {switch}" if switch in ("1", "true", "yes", "on") else _power(env, socket)
    if not reason:
        return "", ""
    try:
        path = _directory(env, configs) / _NAME
        token = path.read_text("utf-8").strip() if path.exists() else ""
        if not token:
            token = secrets.token_urlsafe(32)
            write_atomically(path, token)
    except (OSError, UnicodeDecodeError) as error:
        raise BearerError(
            f"POST / asks for a bearer ({reason}), and none can be read or kept ({error}): give {VARIABLE}, "
            f"or set {_SWITCH}=0 to let everybody in who reaches the port"
        ) from error
    return _checked(token, str(path)), f"POST / asks for a bearer ({reason}): the token is in {path}"


def _directory(env: Mapping[str, str], configs: Path) -> Path:
    """Where the runtime keeps its secrets: CONFIGS_DIR, else a writable /configs, else one in the home."""
    if chosen := env.get("CONFIGS_DIR", ""):
        configs = Path(chosen)
    elif not os.access(configs, os.W_OK) and not (configs / _NAME).exists():
        configs = Path(env["HOME"], ".molecule-workspace")
    configs.mkdir(mode=0o700, parents=True, exist_ok=True)
    return configs


def _power(env: Mapping[str, str], socket: Path) -> str:
    """What makes the agent root of the machine; "" where nothing is known to."""
    if env.get("TIER", "").strip() == "4":
        return "TIER is 4"
    if socket.exists():
        return f"{socket} is here"
    if env.get("SYSTEMD_EXEC_PID", "") == str(os.getpid()):
        return "this is a service of the machine"
    if _HOST_ROOT.is_mount():
        return f"{_HOST_ROOT} is the machine's file system"
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", _STATUS.read_text("ascii"), re.MULTILINE)
    if found and int(found[1], 16) >> _CAP_SYS_ADMIN & 1:
        return "the container is privileged"
    return ""


def _checked(token: str, source: str) -> str:
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise BearerError(
            f"{source} cannot be a bearer: give at least {_SHORTEST} printable ASCII characters without a "
            "blank, such as `openssl rand -hex 32` prints"
        )
    return token
