"""Secrets that come as files: several lines do not survive an environment file."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from credentials import without_line_ends

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LOADER", "SecretsError", "of_loader", "of_systemd"]

LOADER: Final = Path("/configs/secrets.d/load.sh")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECONDS: Final = 30.0
# What a shell sets by itself, and so no secret of the platform.
_OF_THE_SHELL: Final = frozenset({"_", "OLDPWD", "PWD", "SHLVL"})
# What the file itself prints goes to stderr, or it would be taken for a variable; what it leaves running
# holds no end of our pipe.
_ABOVE_THE_SCRIPTS: Final = 64  # the script below has a descriptor 3 of its own
_SCRIPT: Final = 'set -e; exec 3>&1 1>&2; source "$1" 3>&-; exec env -0 1>&3'


class SecretsError(ValueError):
    """Secrets that cannot be loaded. The text names the file, never a value."""


def of_systemd(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name, value) of the files of systemd's LoadCredential=; line ends at the end are not part of a value.

    Files whose name is not that of a variable are passed over. Raises SecretsError.
    """
    directory = env.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return
    try:
        for path in sorted(Path(directory).iterdir()):
            if _VARIABLE.fullmatch(path.name):
                yield from without_line_ends({path.name: _value(path)}).items()
    except OSError as error:
        raise SecretsError(
            f"credentials of systemd in {directory} cannot be read: {error.strerror or error}"
        ) from error


def _value(path: Path) -> str:
    raw = path.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    if b"\0" in raw:
        raise SecretsError(f"{path} holds a NUL byte, which no variable can: give it as text")
    return os.fsdecode(raw)


@contextlib.contextmanager
def _as_of_unix(loader: Path) -> Iterator[int]:
    """A descriptor of `loader` as bash can read it, where it was written on Windows; 0 where it was not."""
    raw = loader.read_bytes()
    text = raw.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    if text == raw:
        yield 0
        return
    with os.fdopen(os.memfd_create("load.sh"), "wb") as file:
        file.write(text)
        file.flush()
        descriptor = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _ABOVE_THE_SCRIPTS)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def of_loader(env: Mapping[str, str], loader: Path = LOADER) -> dict[str, str]:
    """Variables that sourcing `loader` exports or changes; none where it is absent.

    Not for root: the file is below a directory of the agent, who must not be able to run something as root at
    the next boot. Raises SecretsError.
    """
    try:
        if not loader.is_file():
            return {}
        with _as_of_unix(loader) as script:
            done = subprocess.run(
                ["bash", "-c", _SCRIPT, "secrets", f"/dev/fd/{script}" if script else loader],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                check=False,
                timeout=_SECONDS,
                pass_fds=[script] if script else [],
            )
    except OSError as error:
        raise SecretsError(f"{loader} cannot be sourced: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise SecretsError(f"{loader} did not end within {_SECONDS:g} s: correct it") from None
    if done.returncode != 0:
        raise SecretsError(
            f"{loader} failed (exit code {done.returncode}; bash says why above): correct it, or remove it "
            "if there are no such secrets"
        )
    if not done.stdout:
        raise SecretsError(f"{loader} ends the shell that sources it: take `exit` out of it")
    after = dict(pair.split("=", 1) for pair in os.fsdecode(done.stdout).split("\0") if "=" in pair)
    return {
        name: value
        for name, value in without_line_ends(after).items()
        if _VARIABLE.fullmatch(name) and name not in _OF_THE_SHELL and env.get(name) != value
    }
