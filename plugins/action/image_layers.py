"""Say which layers of an image exist already: digest what goes into each, and ask the engine for it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.yaml import yaml_load  # in C where it can be: three times as fast
from ansible.plugins.action import ActionBase

KEY_LABEL = "codex-workspace.layer.key"
# Where bytes travel does not change what they are: these never enter a key.
TRANSPORT = re.compile(r"codex_workspace_(scratch|build_.*|files_dir|cache_enabled|controller_cache)$")
VARIABLE = re.compile(r"\b_?codex_workspace_[a-z0-9_]+")


def digest_of_tree(root: Path) -> str:
    """Digest a file, or every file below a directory: path, executable bit and content.

    Caches of Python are passed over, since they are not shipped either.
    """
    digest = hashlib.sha256()
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    for path in files:
        if "__pycache__" in path.parts:
            continue
        mode = "x" if os.access(path, os.X_OK) else "-"
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root.parent)}\0{mode}\0{content}\n".encode())
    return digest.hexdigest()


def layer_key(parent_id: str, inputs: str) -> str:
    """Key of a layer: what it stands on and what goes into it."""
    return hashlib.sha256(f"{parent_id}\n{inputs}".encode()).hexdigest()


def mentioned(text: str, private: dict[str, Any]) -> list[str]:
    """Names of variables in ``text``, and in the definitions of the ``private`` ones among them."""
    found: set[str] = set()
    pending = set(VARIABLE.findall(text))
    while pending:
        name = pending.pop()
        found.add(name)
        pending |= set(VARIABLE.findall(str(private.get(name, "")))) - found
    return sorted(found)


def environment(image: dict[str, Any]) -> set[str]:
    """Environment of an inspected image: ``NAME=value``."""
    return set(image["Config"].get("Env") or [])


def _docker(args: list[str]) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        message = f"docker {' '.join(args[:2])}: {done.stderr.strip()}"
        raise AnsibleActionFail(message)
    return done.stdout


class ActionModule(ActionBase):
    """Plan an image build.

    Arguments: ``parent`` (ID of the base image), ``role_path``, ``files_dir``, ``layers`` (list of ``name``,
    the ``files`` that it takes from files_dir or the role, other ``values`` that it depends on, ``network``:
    whether it fetches anything), ``values`` (that all of them depend on), ``reuse`` (whether existing layers
    may be used). With ``planned``, the ``inputs`` of the one layer in ``layers`` by an earlier plan, it fails
    where they have changed since.

    Returns: ``parent`` (ID of the last image that can be used again), ``reused`` (list of ``name``, ``key``,
    ``id``, ``size`` in bytes) and ``missing`` (list of ``name``, ``inputs``, ``network``). The key of a
    missing layer is known only when its parent is built.
    """

    _requires_connection = False
    _VALID_ARGS = frozenset(("parent", "role_path", "files_dir", "layers", "values", "reuse", "planned"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare the digests of all layers with the labels on the engine's images."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        parent = str(args["parent"])
        images = self._images_by_key(parent) if args["reuse"] and parent else {}
        role, files = Path(args["role_path"]), Path(args["files_dir"])
        private = yaml_load((role / "vars/main.yml").read_text())
        options = yaml_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"][
            "options"
        ]
        self._types = {name: option["type"] for name, option in options.items()}
        reused: list[dict[str, Any]] = []
        missing: list[dict[str, Any]] = []
        common = args.get("values", [])
        for layer in ({**each, "values": [*each.get("values", []), *common]} for each in args["layers"]):
            inputs = self._inputs(layer, role, files, private, task_vars or {})
            key = layer_key(parent, inputs)
            if not missing and key in images:
                parent, size = images[key]
                reused.append({"name": layer["name"], "key": key, "id": parent, "size": size})
            else:
                missing.append(
                    {"name": layer["name"], "inputs": inputs, "network": layer.get("network", False)}
                )
        if "planned" in args and [layer["inputs"] for layer in missing] != [args["planned"]]:
            raise AnsibleActionFail(
                f"A file or a variable of the layer {args['layers'][0]['name']} was changed after the build "
                "had started, so the layer is not kept. Build again."
            )
        result.update(changed=False, parent=parent, reused=reused, missing=missing)
        return result

    def _images_by_key(self, base: str) -> dict[str, tuple[str, int]]:
        """ID and size of the engine's images by the key of their top layer.

        A layer has the environment of its base. One that has another was committed with what somebody's
        docker client gave to its container, such as the address of a proxy with its password.
        """
        listing = ["image", "ls", "--all", "--quiet", "--no-trunc", "--filter", f"label={KEY_LABEL}"]
        ids = sorted(set(_docker(listing).split()))
        if not ids:
            return {}
        of_base, *images = json.loads(_docker(["image", "inspect", base, *ids]))
        return {
            image["Config"]["Labels"][KEY_LABEL]: (image["Id"], image["Size"])
            for image in images
            if environment(image) == environment(of_base)
        }

    def _canonical(self, name: str, value: Any) -> Any:
        """A public variable as it enters a key: the same however it was written, as text or as a number."""
        settings = self._shared_loader_obj.action_loader.get("settings", class_only=True)
        return settings.canonical(self._templar.template(value), self._types[name])

    def _inputs(
        self,
        layer: dict[str, Any],
        role: Path,
        files: Path,
        private: dict[str, Any],
        task_vars: dict[str, Any],
    ) -> str:
        sources = sorted((role / "tasks").glob(f"{layer['name']}*.yml"))
        for name in layer.get("files", []):
            source = next((root / name for root in (role, files) if (root / name).exists()), None)
            if source is None:
                message = f"Layer {layer['name']} takes {name!r}, which is neither in {role} nor in {files}."
                raise AnsibleActionFail(message)
            sources.append(source)
        names = mentioned("".join(s.read_text() for s in sources if s.is_file()), private)
        inputs = {
            "files": [digest_of_tree(source) for source in sources],
            "private": {name: private[name] for name in names if name in private},
            "public": {
                name: self._canonical(name, task_vars[name])
                for name in names
                if not name.startswith("_") and not TRANSPORT.search(name) and name in task_vars
            },
            "values": layer["values"],
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
