"""Credentials reach the adapter without standing in the environment of a process.

`/proc/<pid>/environ` of the runtime can be read by every process of the agent, so by each command of the
model. The entrypoint therefore takes credentials out of the environment that it hands on, and leaves them in
a file in memory that is read once.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "PLATFORM_SECRETS",
    "environment",
    "hand_over",
    "is_credential",
    "is_secret_name",
    "not_for_a_header",
    "without_line_ends",
]

_VARIABLE: Final = "CODEX_WORKSPACE_CREDENTIALS_FD"
_NAME: Final = "codex-workspace-credentials"

# No process of the agent needs these from its environment. What git and other tools of the agent log in with
# (GIT_HTTP_*, GITEA_*, GH_TOKEN) is not among them: that is what it is for.
PLATFORM_SECRETS: Final = (
    "*ADMIN_TOKEN*",
    "*INBOUND_SECRET*",
    "CODEX_AUTH_JSON",
    "CODEX_CHATGPT_AUTH_JSON",
    "CODEX_WORKSPACE_A2A_TOKEN",
    "CP_*",
    "MOLECULE_*SECRET*",
    "MOLECULE_*TOKEN*",
)

_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:_|$)", re.IGNORECASE
)
_BYTE_ORDER_MARK: Final = "\ufeff"

_handed_over: dict[str, str] = {}


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds something that logs in somewhere, by the words in the name."""
    return _SECRET_NAME.search(name) is not None


def without_line_ends(env: Mapping[str, str], provider_variables: Collection[str] = ()) -> dict[str, str]:
    """`env` with no line end, and no byte order mark, at the ends of secrets of one line.

    A file or an editor has left them there, and no header can hold them. Blanks and quotes may be part of a
    secret. Of other variables only what ends as a line of Windows does is changed: each line of a file of
    variables ends so. What has several lines (a key in PEM, an auth.json) stays as it is.
    """
    return {name: _one_line(name, value, provider_variables) for name, value in env.items()}


def _one_line(name: str, value: str, provider_variables: Collection[str]) -> str:
    line = value.removeprefix(_BYTE_ORDER_MARK).strip("\r\n")
    if "\n" in line or "\r" in line or name.endswith("_AUTH_JSON"):
        return value
    is_secret = is_secret_name(name) or is_credential(name, provider_variables)
    return line if is_secret or value.endswith(("\r", "\r\n")) else value


def not_for_a_header(variable: str, value: str) -> str | None:
    """What to say about a secret that no header can hold, and that would be left out; None for a good one."""
    if value.isascii() and value.strip("\r\n").isprintable():
        return None
    return (
        f"{variable} has characters that no key has (line ends or control characters inside, or others than "
        "ASCII), and no header can hold it: give the key alone"
    )


def is_credential(name: str, provider_variables: Collection[str]) -> bool:
    """Whether variable `name` is a secret of the platform, or holds the login of a provider."""
    return name in provider_variables or any(fnmatch.fnmatchcase(name, each) for each in PLATFORM_SECRETS)


def hand_over(
    env: Mapping[str, str], provider_variables: Collection[str], kept: Collection[str] = ()
) -> dict[str, str]:
    """Return `env` without credentials but those `kept`, for a program that `environment` is called in.

    The file descriptor that holds them is inherited by what this process executes next.
    """
    secrets = {
        name: value
        for name, value in env.items()
        if is_credential(name, provider_variables) and name not in kept
    }
    rest = {name: value for name, value in env.items() if name not in secrets and name != _VARIABLE}
    if not secrets:
        return rest
    descriptor = os.memfd_create(_NAME)
    os.write(descriptor, json.dumps(secrets).encode())
    os.set_inheritable(descriptor, True)
    return {**rest, _VARIABLE: str(descriptor)}


def environment() -> dict[str, str]:
    """The process's environment with the credentials that the entrypoint kept out of it."""
    if descriptor := os.environ.pop(_VARIABLE, ""):
        _handed_over.update(_read_once(descriptor))
    return without_line_ends({**os.environ, **_handed_over})


def _read_once(descriptor: str) -> dict[str, str]:
    """Read and close the file. Raises RuntimeError for a descriptor that is not the entrypoint's."""
    try:
        is_ours = str(Path(f"/proc/self/fd/{int(descriptor)}").readlink()).startswith(f"/memfd:{_NAME}")
    except (OSError, ValueError):
        is_ours = False
    if not is_ours:
        raise RuntimeError(f"{_VARIABLE} is set by start.sh and by nobody else: unset it")
    with os.fdopen(int(descriptor), "rb") as file:
        file.seek(0)
        found: dict[str, str] = json.loads(file.read())
    return found
