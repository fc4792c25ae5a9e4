"""Make one archive of Node.js and npm from an npm registry, on a controller that needs neither of them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ansible.errors import AnsibleActionFail
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase

# npm's manual pages are three times the size of its code.
LEFT_OUT = ("docs/", "man/")
COMMANDS = {"npm": "npm-cli.js", "npx": "npx-cli.js"}


class RegistryError(Exception):
    """The registry did not give a package. The text names the package and never a password."""


def without_password(url: str) -> str:
    """Return the URL without user name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def get(url: str, ca_file: str) -> bytes:
    """Return what a GET brings. User name and password of the URL are sent as basic authentication.

    Raises OSError, of which HTTP errors are a kind.
    """
    content: bytes = open_url(url, timeout=60, ca_path=ca_file or None, force_basic_auth=True).read()
    return content


def fetch(registry: str, package: str, ca_file: str) -> bytes:
    """Return the tarball of ``name@version``, checked against the SHA-512 that the registry gives for it.

    The tarball is asked of the registry itself, whatever host its metadata name: a mirror may not rewrite it.

    Raises RegistryError.
    """
    name, _, version = package.rpartition("@")
    base = registry.rstrip("/")
    try:
        versions = json.loads(get(f"{base}/{quote(name)}", ca_file))["versions"]
        integrity = versions[version]["dist"]["integrity"].split()
        content = get(f"{base}/{name}/-/{name}-{version}.tgz", ca_file)
    except KeyError:
        message = f"{without_password(base)} has no {package}"
        raise RegistryError(message) from None
    except (OSError, ValueError) as error:
        message = f"{without_password(base)} did not give {package}: {error}"
        raise RegistryError(message) from error
    if f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}" not in integrity:
        message = f"{without_password(base)} gave a {package} that is not the one of its own SHA-512"
        raise RegistryError(message)
    return content


def archive(node: bytes, npm: bytes) -> bytes:
    """Return a tar archive of ``usr`` with node, npm and npx, made of the tarballs of both packages."""
    buffer = io.BytesIO()
    modules = "usr/lib/node_modules/npm/"
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as target:
        for source, prefix, wanted in ((node, "usr/", ("bin/node",)), (npm, modules, None)):
            with tarfile.open(fileobj=io.BytesIO(source), mode="r:gz") as packed:
                for member in packed:
                    path = member.name.partition("/")[2]
                    if not member.isfile() or path.startswith(LEFT_OUT) or (wanted and path not in wanted):
                        continue
                    entry = tarfile.TarInfo(prefix + path)
                    entry.size, entry.mtime = member.size, member.mtime
                    entry.mode = member.mode & 0o755 | 0o644
                    entry.uname = entry.gname = "root"
                    target.addfile(entry, packed.extractfile(member))
        for command, script in COMMANDS.items():
            link = tarfile.TarInfo(f"usr/bin/{command}")
            link.type, link.linkname = tarfile.SYMTYPE, f"../lib/node_modules/npm/bin/{script}"
            link.uname = link.gname = "root"
            target.addfile(link)
    return buffer.getvalue()


def default_registry() -> str:
    """Return the registry of the controller's npm; empty where it has none."""
    if not shutil.which("npm"):
        return ""
    done = subprocess.run(
        ["npm", "config", "get", "registry"], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def write(path: Path, content: bytes) -> None:
    """Put the content at the path whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class ActionModule(ActionBase):
    """Make the archive on the controller, unless it is there.

    Arguments: ``dest``, its path; ``node`` and ``npm``, the packages as ``name@version``; ``registry``, a
    URL, where empty that of the controller's npm; ``ca_file``, a PEM bundle of authorities, or empty.
    """

    _VALID_ARGS = frozenset(("dest", "node", "npm", "registry", "ca_file"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fetch both packages and write the archive."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        dest = Path(args["dest"])
        result["changed"] = False
        if dest.exists():
            return result
        registry = args["registry"] or default_registry()
        if not registry:
            raise AnsibleActionFail(
                f"No npm registry is known that has {args['node']}: set codex_workspace_build_npm_registry "
                "to one, or codex_workspace_nodejs_source to nodesource."
            )
        try:
            packages = [fetch(registry, args[name], args["ca_file"]) for name in ("node", "npm")]
            write(dest, archive(*packages))
        except RegistryError as error:
            raise AnsibleActionFail(
                f"{error}. Set codex_workspace_build_npm_registry to a registry that answers, or "
                "codex_workspace_nodejs_source to nodesource."
            ) from error
        except (OSError, tarfile.TarError) as error:
            raise AnsibleActionFail(f"{dest} was not made: {error}") from error
        return result
