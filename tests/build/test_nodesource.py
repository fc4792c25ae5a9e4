"""Node.js from a repository like NodeSource's: signed, on this machine, with the real Node.js in it."""

from __future__ import annotations

import functools
import http.server
import ipaddress
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.image_build import Builder, docker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.image_build import Build

KEY = "%no-protection\nKey-Type: eddsa\nKey-Curve: ed25519\nName-Real: a test\nExpire-Date: 0\n%commit\n"


def run(*argv: str, cwd: Path | None = None, stdin: str | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def node_archive() -> Path:
    """The archive that a build from npm has left in the controller's cache."""
    return next((Path.home() / ".cache/codex-workspace").glob("node-linux-*.tar"))


def package(directory: Path) -> Path:
    """Make `nodejs` 20.99.0 of the real Node.js and npm."""
    tree = directory / "tree"
    with tarfile.open(node_archive()) as archive:
        archive.extractall(tree, filter="tar")
    (tree / "DEBIAN").mkdir()
    architecture = run("dpkg", "--print-architecture").strip()
    (tree / "DEBIAN/control").write_text(
        f"Package: nodejs\nVersion: 20.99.0-1nodesource1\nArchitecture: {architecture}\n"
        "Maintainer: nobody <nobody@example.invalid>\nDescription: Node.js for a test\n"
    )
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(directory / "nodejs.deb"))
    shutil.rmtree(tree)
    return directory / "nodejs.deb"


@pytest.fixture(scope="module")
def repository(good: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL of the repository, seen from build containers too, and the file of its key."""
    root = tmp_path_factory.mktemp("nodesource")
    home = root / "gpg"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", str(home), "--batch")
    run(*gpg, "--generate-key", stdin=KEY)
    key = root / "key.asc"
    key.write_text(run(*gpg, "--armor", "--export"))

    public = root / "public"
    suite = public / "dists/nodistro"
    deb = package(root)
    architecture = run("dpkg", "--print-architecture").strip()
    index = suite / f"main/binary-{architecture}"
    index.mkdir(parents=True)
    shutil.move(deb, public / "nodejs.deb")
    digest = run("sha256sum", str(public / "nodejs.deb")).split()[0]
    control = run("dpkg-deb", "--field", str(public / "nodejs.deb"))
    size = (public / "nodejs.deb").stat().st_size
    (index / "Packages").write_text(f"{control}Filename: nodejs.deb\nSize: {size}\nSHA256: {digest}\n\n")
    listed = index / "Packages"
    name = listed.relative_to(suite)
    release = (
        f"Origin: . nodistro\nLabel: . nodistro\nSuite: nodistro\nCodename: nodistro\n"
        f"Date: {run('date', '-Ru').strip()}\nArchitectures: {architecture}\nComponents: main\nSHA256:\n"
        f" {run('sha256sum', str(listed)).split()[0]} {listed.stat().st_size} {name}\n"
    )
    (suite / "InRelease").write_text(run(*gpg, "--clearsign", stdin=release))

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=public)
    handler.func.log_message = lambda *_: None  # type: ignore[attr-defined]  # quiet
    subnet = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}")
    gateway = str(ipaddress.ip_network(subnet)[1])
    with http.server.ThreadingHTTPServer((gateway, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{gateway}:{server.server_address[1]}", key
        server.shutdown()
        thread.join()
    run("gpgconf", "--homedir", str(home), "--kill", "all")


def test_node_comes_from_nodesource_where_it_answers_and_its_key_is_trusted_for_it_alone(
    builder: Builder, repository: tuple[str, Path]
) -> None:
    url, key = repository
    settings = {"codex_workspace_nodesource_url": url, "codex_workspace_nodesource_key": str(key)}
    build = builder.run(settings)
    assert build.process.returncode == 0, build.end
    image = f"{build.image}:latest"
    look = ["run", "--rm", "--entrypoint", "sh", image, "-c"]
    assert docker(*look, "dpkg-query --show nodejs").split() == ["nodejs", "20.99.0-1nodesource1"]
    assert docker(*look, "cat /etc/apt/sources.list.d/nodesource.sources").splitlines() == [
        "Types: deb",
        f"URIs: {url}",
        "Suites: nodistro",
        "Components: main",
        "Signed-By: /etc/apt/keyrings/nodesource.asc",
    ]
    assert docker(*look, "ls /etc/apt/trusted.gpg.d /var/lib/apt/lists | grep -i node", check=False) == ""
    assert docker("run", "--rm", image, "codex", "--version") == "codex-cli 0.130.0"


def test_a_repository_that_is_signed_with_another_key_is_refused(
    builder: Builder, repository: tuple[str, Path]
) -> None:
    url, _ = repository
    error = builder.run({"codex_workspace_nodesource_url": url}).refusal(after_start=True)
    assert "apt could not read its sources" in error
    assert url in error


def test_nodesource_that_does_not_answer_is_an_error_where_it_was_asked_for(builder: Builder) -> None:
    settings = {
        "codex_workspace_nodejs_source": "nodesource",
        "codex_workspace_nodesource_url": "http://127.0.0.1:9/node_20.x",
    }
    error = builder.run(settings).refusal(after_start=True)
    assert "apt could not read its sources" in error
    assert "127.0.0.1:9" in error
