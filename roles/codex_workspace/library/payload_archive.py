#!/usr/bin/python
"""Pack the payload into one archive that is the same for the same content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: payload_archive
short_description: Pack directories into a reproducible tar archive
description:
  - Packs directories of the controller into one tar archive, so that a target gets them in a single copy.
  - Owner is root. Times are derived from each file's content. So the same payload gives the same archive from
    any checkout, and Python never takes the bytecode of a file for that of a newer one of its length.
  - Caches of Python are left out.
options:
  dest:
    description: >-
      Directory for the archive, which is named after its content, since builds side by side may have other
      payloads. Archives that were not used for a day are removed from it.
    type: path
    required: true
  trees:
    description: What goes where.
    type: list
    elements: dict
    required: true
    suboptions:
      src:
        description: Directory on the controller.
        type: path
        required: true
      dest:
        description: Absolute directory on the target.
        type: path
        required: true
      mode:
        description: Mode of its files, such as V('0755').
        type: str
        required: true
attributes:
  check_mode:
    support: full
    description: The archive is scratch of the controller, so it is made in check mode too.
"""

EXAMPLES = r"""
- name: Pack the payload
  payload_archive:
    dest: /tmp/payload
    trees:
      - {src: files/app, dest: /app, mode: "0644"}
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: Path of the archive.
  returned: always
  type: str
digest:
  description: SHA-256 of the archive, in hexadecimal.
  returned: always
  type: str
"""

import hashlib
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# 2020-01-01 and 2^27 seconds (four years) on: long past, so that no clock calls a file newer than itself.
EPOCH, SPAN = 1577836800, 1 << 27
DAY = 86400


def content_time(content: bytes) -> int:
    """Time, in seconds of the epoch, that stands for this content and no other."""
    return EPOCH + int.from_bytes(hashlib.sha256(content).digest()[:4], "big") % SPAN


def pack(trees: list[dict[str, Any]]) -> bytes:
    """Return the archive of these trees. Raises ValueError for a tree that has no files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for tree in trees:
            root = Path(tree["src"])
            files = [p for p in sorted(root.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
            if not files:
                message = f"{root} holds no files: it must be the directory that lands in {tree['dest']}."
                raise ValueError(message)
            for directory in sorted({p.parent for p in files}):
                if directory != root:
                    member = tarfile.TarInfo(_name(tree["dest"], directory.relative_to(root)))
                    member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, EPOCH
                    archive.addfile(member)
            for path in files:
                content = path.read_bytes()
                member = tarfile.TarInfo(_name(tree["dest"], path.relative_to(root)))
                member.size, member.mode = len(content), int(tree["mode"], 8)
                member.mtime, member.uname, member.gname = content_time(content), "root", "root"
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _name(dest: str, relative: Path) -> str:
    return f"{dest.strip('/')}/{relative.as_posix()}"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "trees": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "src": {"type": "path", "required": True},
                    "dest": {"type": "path", "required": True},
                    "mode": {"type": "str", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        content = pack(module.params["trees"])
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    digest = hashlib.sha256(content).hexdigest()
    path = Path(module.params["dest"]) / f"{digest}.tar"
    changed = not path.is_file()
    if changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as temporary:
            temporary.write(content)
        module.atomic_move(temporary.name, str(path))
    os.utime(path)
    for other in path.parent.glob("*.tar"):
        if other.stat().st_mtime < path.stat().st_mtime - DAY:
            other.unlink(missing_ok=True)
    module.exit_json(changed=changed, digest=digest, path=str(path))


if __name__ == "__main__":
    main()
