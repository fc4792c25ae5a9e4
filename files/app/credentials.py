"""Credentials reach the adapter without standing in the environment of a process.

`/proc/<pid>/environ` of the runtime can be read by every process of the agent, so by each command of the
model. The entrypoint therefore takes credentials out of the environment that it hands on, and leaves them in
a file in memory that is read once.
"""

from __future__ import annotations

import fnmatch
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["PLATFORM_SECRETS", "environment", "hand_over", "is_credential"]

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

_handed_over: dict[str, str] = {}


def is_credential(name: str, provider_variables: Collection[str]) -> bool:
    """Whether variable `name` is a secret of the platform, or holds the login of a provider."""
    return name in provider_variables or any(fnmatch.fnmatchcase(name, each) for each in PLATFORM_SECRETS)


def hand_over(env: Mapping[str, str], provider_variables: Collection[str]) -> dict[str, str]:
    """Return `env` without credentials, for a program that `environment` is called in.

    The file descriptor that holds them is inherited by what this process executes next.
    """
    secrets = {name: value for name, value in env.items() if is_credential(name, provider_variables)}
    kept = {name: value for name, value in env.items() if name not in secrets and name != _VARIABLE}
    if not secrets:
        return kept
    descriptor = os.memfd_create(_NAME)
    os.write(descriptor, json.dumps(secrets).encode())
    os.set_inheritable(descriptor, True)
    return {**kept, _VARIABLE: str(descriptor)}


def environment() -> dict[str, str]:
    """The process's environment with the credentials that the entrypoint kept out of it."""
    if descriptor := os.environ.pop(_VARIABLE, ""):
        _handed_over.update(_read_once(descriptor))
    return {**os.environ, **_handed_over}


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
