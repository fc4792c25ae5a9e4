from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from a2a.types import Message, Part
from google.protobuf.struct_pb2 import Value  # type: ignore[import-untyped]  # ships no types

from attachments import AttachmentError, Attachments, is_empty
from platform_api import PlatformApi

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


def message(*parts: Part) -> Message:
    return Message(message_id="m", parts=parts)


def data(value: dict[str, Any]) -> Part:
    part = Part()
    part.data.struct_value.update(value)
    return part


def platform(handler: Callable[[httpx.Request], httpx.Response]) -> PlatformApi:
    return PlatformApi(
        "http://platform/",
        "ws-1",
        lambda: {"Authorization": "Bearer token"},
        transport=httpx.MockTransport(handler),
    )


def text(items: list[dict[str, Any]]) -> str:
    (item,) = [item for item in items if item["type"] == "text"]
    return str(item["text"])


async def test_text_parts_are_joined_by_one_space(root: Path) -> None:
    items = await Attachments(root).input(message(Part(text=" one"), Part(text="two ")))
    assert items == [{"type": "text", "text": "one two"}]


async def test_a_preamble_and_data_parts_stand_in_paragraphs_of_their_own(root: Path) -> None:
    items = await Attachments(root).input(message(Part(text="hi"), data({"a": [1, "ü"]})), preamble="before")
    before, hi, value = text(items).split("\n\n")
    assert (before, hi, json.loads(value)) == ("before", "hi", {"a": [1, "ü"]})


@pytest.mark.parametrize("form", ["workspace:/workspace/{}", "file:///workspace/{}", "/workspace/{}"])
async def test_a_file_of_the_workspace_is_named_by_its_real_path(root: Path, form: str) -> None:
    (root / "report 1.pdf").write_bytes(b"x")
    name = "report%201.pdf" if ":" in form else "report 1.pdf"
    items = await Attachments(root).input(message(Part(url=form.format(name), filename="report 1.pdf")))
    assert text(items) == f"Attached files:\n- report 1.pdf (application/pdf) at {root}/report 1.pdf"


async def test_a_file_of_no_known_type_says_so(root: Path) -> None:
    (root / "blob").write_bytes(b"x")
    items = await Attachments(root).input(message(Part(text="look"), Part(url="/workspace/blob")))
    assert text(items) == f"look\n\nAttached files:\n- blob (unknown type) at {root}/blob"


async def test_an_image_is_shown_to_the_model_as_well(root: Path) -> None:
    """B-20: named in the text alone, it was never seen."""
    (root / "a.png").write_bytes(b"x")
    items = await Attachments(root).input(message(Part(url="/workspace/a.png", media_type="image/png")))
    assert items[1] == {"type": "localImage", "path": f"{root}/a.png"}


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "/workspace/../etc/passwd",
        "workspace:/workspace/%2e%2e/etc/passwd",
        "file:///etc/passwd",
        "file://elsewhere/workspace/a",
        "/workspace/link/passwd",
        "/workspace/file-link",
        "https://example.com/a",
        "relative.txt",
        "/workspace/a\0b",
        "/workspacex/a",
    ],
)
async def test_nothing_outside_the_workspace_is_ever_read(root: Path, uri: str) -> None:
    (root / "link").symlink_to("/etc")
    (root / "file-link").symlink_to("/etc/passwd")
    with pytest.raises(AttachmentError, match=r"outside|no path under|another host"):
        await Attachments(root).input(message(Part(url=uri)))


async def test_a_directory_is_no_attachment(root: Path) -> None:
    (root / "sub").mkdir()
    with pytest.raises(AttachmentError, match="no regular file"):
        await Attachments(root).input(message(Part(url="/workspace/sub")))


async def test_inline_bytes_are_laid_into_the_inbox_under_a_safe_name(root: Path) -> None:
    part = Part(raw=b"content", filename="../../etc/my report.txt", media_type="text/plain")
    items = await Attachments(root).input(message(part))
    (stored,) = (root / ".molecule/inbox").glob("*/*")
    assert stored.name == "my_report.txt"
    assert stored.read_bytes() == b"content"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert f"(text/plain) at {stored}" in text(items)


async def test_an_inbox_that_leads_outside_is_not_written_to(root: Path, tmp_path: Path) -> None:
    (root / ".molecule").symlink_to(tmp_path)
    with pytest.raises(AttachmentError, match="outside"):
        await Attachments(root).input(message(Part(raw=b"x", filename="a")))
    assert not (tmp_path / "inbox").exists()


async def test_a_file_that_is_not_there_is_fetched_once_with_the_workspaces_token(root: Path) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b"fetched")

    attachments = Attachments(root, platform(handler))
    for _ in range(2):
        items = await attachments.input(message(Part(url="workspace:/workspace/up/a.txt")))
        (stored,) = (root / ".molecule/inbox").glob("*/*")
        assert stored.read_bytes() == b"fetched"
        assert str(stored) in text(items)
    (request,) = asked
    assert request.url.path == "/workspaces/ws-1/chat/download"
    assert request.url.params["path"] == "/workspace/up/a.txt"
    assert request.headers["authorization"] == "Bearer token"


async def test_a_pending_upload_is_fetched_and_acknowledged(root: Path) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(200, content=b"x")

    await Attachments(root, platform(handler)).input(
        message(Part(url="platform-pending:ws-1/f-1", filename="a"))
    )
    assert asked == [
        "GET /workspaces/ws-1/pending-uploads/f-1/content",
        "POST /workspaces/ws-1/pending-uploads/f-1/ack",
    ]


@pytest.mark.parametrize(
    "uri", ["platform-pending:ws-1/../x", "platform-pending:ws-1", "platform-pending:/f"]
)
async def test_an_invalid_id_of_a_pending_upload_is_never_asked_for(root: Path, uri: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"asked for {request.url}")

    with pytest.raises(AttachmentError, match="no id of a pending upload"):
        await Attachments(root, platform(handler)).input(message(Part(url=uri)))


async def test_the_pending_upload_of_another_workspace_is_refused(root: Path) -> None:
    with pytest.raises(AttachmentError, match="another workspace"):
        await Attachments(root, platform(lambda _request: httpx.Response(200))).input(
            message(Part(url="platform-pending:ws-2/f-1"))
        )


async def test_a_refusal_of_the_platform_is_named_with_its_status(root: Path) -> None:
    with pytest.raises(AttachmentError, match="the platform answered 404"):
        await Attachments(root, platform(lambda _request: httpx.Response(404))).input(
            message(Part(url="/workspace/a"))
        )


async def test_a_download_above_the_limit_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attachments._LIMIT", 10)
    with pytest.raises(AttachmentError, match="more than 10 bytes"):
        await Attachments(root, platform(lambda _request: httpx.Response(200, content=b"x" * 11))).input(
            message(Part(url="/workspace/a"))
        )


async def test_without_a_platform_a_missing_file_is_said_to_be_missing(root: Path) -> None:
    with pytest.raises(AttachmentError, match="not in the workspace"):
        await Attachments(root).input(message(Part(url="/workspace/a")))


async def test_an_inbox_that_is_a_file_is_reported(root: Path) -> None:
    (root / ".molecule").write_text("")
    with pytest.raises(AttachmentError, match="cannot be stored"):
        await Attachments(root).input(message(Part(raw=b"x", filename="a")))


@pytest.mark.parametrize(
    ("parts", "empty"),
    [
        ([], True),
        ([Part(text="")], True),
        ([Part(text=" \n")], True),
        ([Part()], True),
        ([Part(text="x")], False),
        ([Part(raw=b"")], False),
        ([Part(url="/workspace/a")], False),
        ([Part(data=Value(null_value=0))], False),
    ],
)
def test_a_message_is_empty_only_without_text_file_and_data(parts: list[Part], empty: bool) -> None:
    """B-19: a message of one file was answered as an empty one."""
    assert is_empty(message(*parts)) is empty


def test_no_message_at_all_is_empty() -> None:
    assert is_empty(None)
