"""What was built is built once; what was interrupted goes on; builds side by side do not meet."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.image_build import BUILD_SECONDS, LAYERS, Builder, docker, inspect
from support.watchdog import wait_until

if TYPE_CHECKING:
    from support.image_build import Build

ONLY_PAYLOAD = {**dict.fromkeys(LAYERS, "reused"), "payload": "built", "smoke": "built"}


def content(image: str, path: str) -> str:
    return docker("run", "--rm", "--network", "none", "--entrypoint", "cat", f"{image}:latest", path)


def test_an_unchanged_build_uses_every_layer_again_and_keeps_the_image(good: Build, tmp_path: Path) -> None:
    before = inspect(f"{good.image}:latest")
    again = Builder(tmp_path).run({"codex_workspace_image_name": good.image})
    assert again.process.returncode == 0, again.end
    assert again.layers == dict.fromkeys(LAYERS, "reused")
    assert (again.session, again.image_ids) == ("", [])
    assert inspect(f"{good.image}:latest") == before


def test_a_build_prints_no_warning_that_a_reader_must_learn_to_ignore(builder: Builder, good: Build) -> None:
    built = builder.run(builder.payload("quiet"))
    for build in (good, built):
        assert "WARNING" not in build.output


def test_one_byte_of_the_payload_builds_the_payload_and_smoke_and_no_more(
    builder: Builder, good: Build
) -> None:
    first = builder.run(builder.payload("a"))
    second = builder.run(builder.payload("b"))
    for build, marker in ((first, "a"), (second, "b")):
        assert build.process.returncode == 0, build.end
        assert build.layers == ONLY_PAYLOAD
        assert content(build.image, "/app/marker.txt") == marker


def test_a_file_that_is_edited_while_the_build_runs_is_never_kept_under_the_key_of_the_old_one(
    builder: Builder, good: Build
) -> None:
    payload = builder.payload("before", {"runtime/README.md": "It makes a runtime layer, which takes time."})
    build = builder.start(payload)
    wait_until(lambda: build.containers, "the runtime layer is being built")
    marker = Path(payload["codex_workspace_files_dir"]) / "app/marker.txt"
    marker.write_text("after")
    build.process.wait(BUILD_SECONDS)
    assert "layer payload was changed after the build had started" in build.refusal(after_start=True)
    marker.write_text("before")
    again = builder.run(payload)
    assert again.process.returncode == 0, again.end
    assert again.layers == ONLY_PAYLOAD
    assert content(again.image, "/app/marker.txt") == "before"


def test_builds_side_by_side_each_give_their_own_image(builder: Builder, good: Build) -> None:
    """B-37: fixed names on a shared engine collide."""
    builds = {marker: builder.start(builder.payload(marker)) for marker in ("left", "right")}
    for marker, build in builds.items():
        assert build.process.wait(BUILD_SECONDS) == 0, build.end
        assert content(build.image, "/app/marker.txt") == marker
    assert len({build.session for build in builds.values()}) == 2
    for build in builds.values():
        assert build.containers == []


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name
)
def test_a_killed_build_leaves_nothing_and_the_next_one_goes_on(
    builder: Builder, good: Build, number: signal.Signals
) -> None:
    payload = builder.payload(f"killed by {number.name}")
    killed = builder.start(payload)
    wait_until(lambda: killed.containers, "a container of the build is there")
    killed.kill(number)
    wait_until(lambda: killed.left_behind() == [], "all that the build made is gone")
    following = builder.run(payload)
    assert following.process.returncode == 0, following.end
    assert {name for name, state in following.layers.items() if state == "built"} <= {"payload", "smoke"}
    assert content(following.image, "/app/marker.txt") == f"killed by {number.name}"
    assert killed.left_behind() == []
