"""The A2A runtime from a private index: that index alone is asked for it, and the image runs it.

It is a runtime by somebody else, as the platform's own is: with the public base of an adapter, nothing of the
bundled one, and a dependency that this repository does not lock.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.image_build import Builder, docker
from support.plugins import ROOT
from support.private_index import PrivateIndex, wheel
from support.responses_server import Answer, ResponsesServer
from support.workspace_container import CONFIG, WorkspaceContainer, gateway, until
from support.workspace_process import answer_of, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = "molecules-workspace-runtime"
VERSION = "99.0.0"  # one that is bundled nowhere
UNLOCKED = Requirement("websockets>=12.0")


def runtime_wheel() -> tuple[str, bytes]:
    """File name and content of the other runtime's wheel."""
    name = PACKAGE.replace("-", "_")
    source = ROOT / "tests/support/other_runtime"
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*.py")}
    script = b"[console_scripts]\nmolecule-runtime = molecule_runtime.main:main_sync\n"
    files[f"{name}-{VERSION}.dist-info/entry_points.txt"] = script
    requires = ("a2a-sdk[http-server]>=1.0.0,<2.0", str(UNLOCKED), "not-there-at-all ; extra == 'more'")
    return f"{name}-{VERSION}-py3-none-any.whl", wheel(name, VERSION, files, requires=requires)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PrivateIndex]:
    name, content = runtime_wheel()
    with PrivateIndex(tmp_path, {name: content}) as served:
        yield served


def settings(index: PrivateIndex) -> dict[str, Any]:
    return {
        "codex_workspace_runtime_source": "index",
        "codex_workspace_runtime_version": VERSION,
        "codex_workspace_runtime_index_url": index.url,
        "codex_workspace_build_ca_file": str(index.authority),
        # The index serves at localhost.
        "codex_workspace_build_network": "host",
    }


def test_the_image_of_another_runtime_is_built_from_its_index_and_answers(
    builder: Builder, index: PrivateIndex
) -> None:
    """B-27: the public index has packages of such names by somebody else, and is not asked."""
    build = builder.run(settings(index))
    assert build.process.returncode == 0, build.end
    assert index.password not in build.output
    image = f"{build.image}:latest"
    _has_exactly_one_runtime(image)
    assert index.password not in docker("history", "--no-trunc", image) + docker("image", "inspect", image)
    asked = {path.removeprefix("/simple/").split("/")[0] for path in index.granted}
    assert asked == {PACKAGE}, "what is public was looked for on the private index"
    asyncio.run(_answers(image))

    wanted = {**settings(index), "codex_workspace_runtime_version": "98.0.0"}
    missing = builder.run(wanted).refusal(after_start=True)
    assert PACKAGE in missing
    assert "98.0.0" in missing


def _has_exactly_one_runtime(image: str) -> None:
    """And what it needs, in versions that do not change what is locked."""
    listed = docker("run", "--rm", "--entrypoint", "pip", image, "list", "--format", "freeze").splitlines()
    pairs = (line.split("==") for line in listed if "==" in line)
    versions: dict[str, str] = {canonicalize_name(name): version for name, version in pairs}
    assert [name for name in versions if "workspace-runtime" in name] == [PACKAGE]
    assert versions[PACKAGE] == VERSION
    assert UNLOCKED.specifier.contains(versions[canonicalize_name(UNLOCKED.name)])
    assert versions["a2a-sdk"] == importlib.metadata.version("a2a-sdk")


async def _answers(image: str) -> None:
    async with ResponsesServer(host=await gateway()) as model:
        model.script(Answer.text("Hello."))
        config = CONFIG.format(base_url=model.base_url)
        files = {"system-prompt.md": "You are terse."}
        async with WorkspaceContainer(image, config, files=files) as workspace:
            response = await workspace.http.post("/", json=request("message/send", "hello"))
            assert answer_of(response.json()["result"]) == "Hello."

            async def healthy() -> bool:
                return bool((await workspace.state())["Health"]["Status"] == "healthy")

            await until(healthy, "the image's health check is content")
        model.check()
    developer = [text for role, text in model.requests[0].texts if role == "developer"]
    assert any("You are terse." in text for text in developer)


def test_a_runtime_that_contradicts_what_is_locked_is_refused(builder: Builder, index: PrivateIndex) -> None:
    name = PACKAGE.replace("-", "_")
    index.wheels[f"{name}-{VERSION}-py3-none-any.whl"] = wheel(name, VERSION, {}, requires=("a2a-sdk<1",))
    said = builder.run(settings(index)).refusal(after_start=True)
    assert "a2a-sdk<1" in said
    assert PACKAGE in said
    assert index.password not in said
