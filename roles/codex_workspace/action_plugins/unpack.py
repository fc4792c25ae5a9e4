"""Put files of the controller on the target, in one round trip."""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# 2020-01-01 and 2^27 seconds (four years) on: long past, so that no clock calls a file newer than itself.
EPOCH, SPAN = 1577836800, 1 << 27

# The archive arrives on the standard input: no copy of it, no module and no second command to start. It is
# compared before it is unpacked, so a target that has all of it stays as it is.
SCRIPT = """
set -eu
test -z {stamp} || ! test "$(cat {stamp} 2>/dev/null)" = {digest} || exit 0
archive=$(mktemp); trap 'rm -f "$archive"' EXIT
cat >"$archive"
test "$(wc -c <"$archive")" -eq {size} || {{ echo "the connection ended too early" >&2; exit 1; }}
tar --compare --file "$archive" --directory {root} >/dev/null 2>&1 || {{ {unpack} echo changed; }}
"""
UNPACK = 'tar --extract --no-overwrite-dir --file "$archive" --directory {root};'


def content_time(content: bytes) -> int:
    """Time, in seconds of the epoch, that stands for this content and no other."""
    return EPOCH + int.from_bytes(hashlib.sha256(content).digest()[:4], "big") % SPAN


def pack(
    trees: list[dict[str, Any]],
    texts: list[dict[str, Any]] | None = None,
    directories: list[dict[str, Any]] | None = None,
) -> bytes:
    """Return a tar archive of these trees: dicts of ``src``, ``dest`` and ``mode`` of files, such as "0644".

    ``texts`` are single files: dicts of ``dest``, ``content`` and ``mode``. ``directories`` are dicts of
    ``dest`` and ``mode``.

    Owner is root. Times are derived from each file's content. So the same payload gives the same archive from
    any checkout, and Python never takes the bytecode of a file for that of a newer one of its length. Caches
    of Python are left out. Directories of trees are not members: one that is there keeps its owner, mode and
    time.

    Raises ValueError for a tree that has no files.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for directory in directories or []:
            member = tarfile.TarInfo(directory["dest"].strip("/"))
            member.type, member.mode = tarfile.DIRTYPE, int(directory["mode"], 8)
            member.mtime, member.uname, member.gname = EPOCH, "root", "root"
            archive.addfile(member)
        for text in texts or []:
            _add(archive, text["dest"], text["content"].encode(), text["mode"])
        for tree in trees:
            root = Path(tree["src"])
            files = [p for p in sorted(root.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
            if not files:
                message = f"{root} holds no files: it must be the directory that lands in {tree['dest']}."
                raise ValueError(message)
            for path in files:
                name = f"{tree['dest']}/{path.relative_to(root).as_posix()}"
                _add(archive, name, path.read_bytes(), tree["mode"])
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: str, content: bytes, mode: str) -> None:
    member = tarfile.TarInfo(path.strip("/"))
    member.size, member.mode = len(content), int(mode, 8)
    member.mtime, member.uname, member.gname = content_time(content), "root", "root"
    archive.addfile(member, io.BytesIO(content))


def members(archive: bytes) -> list[str]:
    """Absolute paths of the files in a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [f"/{member.name.strip('/')}" for member in opened if not member.isdir()]


class ActionModule(ActionBase):
    """Unpack files on the target, where they are not there yet.

    Arguments: ``trees``, ``texts`` and ``directories`` (see `pack`); ``stamp``, a file of the target: while
    it holds the archive's digest, nothing is unpacked. Who needs more steps after the unpacking writes it
    when they are done; ``root``, the directory that each ``dest`` is below, where it is not the target's root
    (it does not enter the digest). Or ``archive`` alone, the path of a tar archive on the controller.

    Returns: ``unpacked``, whether it was unpacked (in check mode: would be); except of an ``archive``,
    ``digest``, its SHA-256 in hexadecimal, and ``files``, the paths that it holds.
    """

    _VALID_ARGS = frozenset(("trees", "texts", "directories", "archive", "stamp", "root"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send the archive, and say whether it was unpacked."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        digest = ""
        try:
            if "archive" in args:
                content = Path(args["archive"]).read_bytes()
            else:
                content = pack(args.get("trees", []), args.get("texts"), args.get("directories"))
                digest = hashlib.sha256(content).hexdigest()
                result.update(digest=digest, files=members(content))
        except (OSError, ValueError) as error:
            raise AnsibleActionFail(str(error)) from error
        root = shlex.quote(args.get("root", "/"))
        script = SCRIPT.format(
            root=root,
            stamp=shlex.quote(args.get("stamp", "")),
            digest=digest,
            size=len(content),
            unpack="" if self._task.check_mode else UNPACK.format(root=root),
        )
        shell = self._shared_loader_obj.action_loader.get(
            "target_shell",
            task=self._task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        done = shell.execute(script, task_vars or {}, content)
        if done["rc"] != 0:
            raise AnsibleActionFail(
                f"The target did not unpack it: {done['stderr'].strip() or done['stdout']}"
            )
        unpacked = "changed" in done["stdout_lines"]
        result.update(changed=unpacked, unpacked=unpacked)
        return result
