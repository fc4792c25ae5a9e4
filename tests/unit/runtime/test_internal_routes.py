"""The routes that the platform calls, and the transcript: who may, and what they get."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette

from molecule_runtime import platform_auth
from molecule_runtime.routes_internal import InternalRoutes, safe_name

if TYPE_CHECKING:
    from pathlib import Path

    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio

SECRET = {"Authorization": "Bearer inbound-secret"}
INGEST = "/internal/chat/uploads/ingest"
READ = "/internal/file/read"


@pytest.fixture
def secret() -> None:
    platform_auth.save_inbound_secret("inbound-secret")


@pytest.mark.parametrize(
    "header", [None, "", "inbound-secret", "bearer inbound-secret", "Bearer wrong", "Bearer"]
)
async def test_nothing_is_written_or_read_without_the_exact_secret(
    live: LiveWorkspace, secret: None, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    assert (await live.http.post(INGEST, headers=headers, files={"files": ("a", b"a")})).status_code == 401
    assert (await live.http.get(READ, headers=headers, params={"path": "/x"})).status_code == 401


async def test_without_a_known_secret_nobody_gets_in(live: LiveWorkspace) -> None:
    for header in ("Bearer", "Bearer None", "Bearer inbound-secret"):
        response = await live.http.get(READ, headers={"Authorization": header}, params={"path": "/x"})
        assert response.status_code == 401


async def test_a_secret_that_was_rotated_on_disk_is_taken_up(
    live: LiveWorkspace, secret: None, configs: Path
) -> None:
    await live.http.get(READ, headers=SECRET, params={"path": "/x"})
    (configs / ".platform_inbound_secret").write_text("another")
    response = await live.http.get(READ, headers={"Authorization": "Bearer another"}, params={"path": "/x"})
    assert response.status_code == 400


async def test_uploads_are_stored_privately_under_safe_names_in_the_order_sent(
    live: LiveWorkspace, secret: None, tmp_path: Path
) -> None:
    """B-18: a multipart body needs python-multipart, which nobody declared."""
    files = [
        ("files", ("../../my plan.pdf", b"plan", "application/pdf")),
        ("files", ("..", b"dots", "text/plain")),
        ("files", ("b.bin", bytes(3_000_000), "application/octet-stream")),
    ]
    response = await live.http.post(INGEST, headers=SECRET, files=files)
    assert response.status_code == 200
    stored = response.json()["files"]
    assert [item["name"] for item in stored] == ["my_plan.pdf", "file", "b.bin"]
    assert [item["size"] for item in stored] == [4, 4, 3_000_000]
    assert stored[0]["mimeType"] == "application/pdf"
    path = tmp_path / "workspace" / stored[0]["uri"].removeprefix("workspace:/workspace/")
    assert path.read_bytes() == b"plan"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.name.split("-")[0]) == 32


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"no multipart", "text/plain"),
        (b"--b\r\n\xff\xff\r\n\r\n--b", "multipart/form-data; boundary=b"),
        (b"", "multipart/form-data"),
        (
            b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--',
            "multipart/form-data; boundary=b",
        ),
    ],
)
async def test_a_body_that_is_no_upload_is_refused_with_the_reason(
    live: LiveWorkspace, secret: None, content: bytes, kind: str
) -> None:
    response = await live.http.post(INGEST, headers={**SECRET, "Content-Type": kind}, content=content)
    assert response.status_code == 400
    assert response.json()["error"]


async def test_too_much_at_once_is_refused_and_nothing_of_it_is_kept(tmp_path: Path, secret: None) -> None:
    routes = InternalRoutes(tmp_path, max_bytes=1000).routes()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://x"
    ) as http:
        files = [("files", ("a", bytes(600))), ("files", ("b", bytes(600)))]
        response = await http.post(INGEST, headers=SECRET, files=files)
        assert response.status_code == 413
        files = [("files", ("a", bytes(3_000_000)))]
        assert (await http.post(INGEST, headers=SECRET, files=files)).status_code == 413
    assert not (tmp_path / ".molecule").exists()


async def test_more_than_64_files_are_refused(live: LiveWorkspace, secret: None) -> None:
    files = [("files", (f"f{number}", b"x")) for number in range(65)]
    response = await live.http.post(INGEST, headers=SECRET, files=files)
    assert response.status_code == 400
    assert "64" in response.json()["error"]


async def test_a_working_tree_that_cannot_be_written_says_which_path_and_why(
    tmp_path: Path, secret: None
) -> None:
    (tmp_path / ".molecule").write_text("a file where a directory must be")
    routes = InternalRoutes(tmp_path).routes()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://x"
    ) as http:
        response = await http.post(INGEST, headers=SECRET, files={"files": ("a", b"a")})
    assert response.status_code == 500
    assert ".molecule" in response.json()["error"]


async def test_a_file_that_the_platform_put_into_a_hidden_directory_of_the_working_tree_is_served(
    live: LiveWorkspace, secret: None, tmp_path: Path
) -> None:
    stored = (await live.http.post(INGEST, headers=SECRET, files={"files": ("a.txt", b"a")})).json()["files"][
        0
    ]
    path = str(tmp_path / "workspace" / stored["uri"].removeprefix("workspace:/workspace/"))
    assert (await live.http.get(READ, headers=SECRET, params={"path": path})).content == b"a"


async def test_a_file_is_served_with_its_name(live: LiveWorkspace, secret: None, tmp_path: Path) -> None:
    path = tmp_path / "workspace" / "résumé 1.txt"
    path.write_bytes(b"content")
    response = await live.http.get(READ, headers=SECRET, params={"path": str(path)})
    assert (response.status_code, response.content) == (200, b"content")
    disposition = response.headers["content-disposition"]
    assert disposition == "attachment; filename=\"r_sum__1.txt\"; filename*=UTF-8''r%C3%A9sum%C3%A9%201.txt"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{root}/workspace/../configs/x", 400),
        ("{root}/workspace//x", 400),
        ("{root}/workspace/", 400),
        ("{root}/workspace", 400),
        ("workspace/x", 400),
        ("", 400),
        ("/etc/passwd", 400),
        ("{root}/workspace-evil/x", 400),
        ("{root}/configs/.auth_token", 400),
        ("{root}/configs/secrets.d/KEY", 400),
        ("{root}/home/agent/.codex/auth.json", 400),
        ("{root}/workspace/nothing", 404),
        ("{root}/workspace/directory", 404),
        ("{root}/workspace/link", 404),
        ("{root}/workspace/linked/passwd", 404),
    ],
)
async def test_nothing_but_regular_files_of_the_readable_trees_is_served(
    live: LiveWorkspace, secret: None, tmp_path: Path, path: str, status: int
) -> None:
    (tmp_path / "configs" / ".auth_token").write_text("token")
    (tmp_path / "configs" / "secrets.d").mkdir()
    (tmp_path / "configs" / "secrets.d" / "KEY").write_text("key")
    (tmp_path / "workspace" / "directory").mkdir()
    (tmp_path / "workspace" / "link").symlink_to("/etc/passwd")
    (tmp_path / "workspace" / "linked").symlink_to("/etc")
    response = await live.http.get(READ, headers=SECRET, params={"path": path.format(root=tmp_path)})
    assert response.status_code == status


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("report.pdf", "report.pdf"),
        ("a b\tc.txt", "a_b_c.txt"),
        ("C:\\docs\\x.txt", "x.txt"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("x" * 200 + ".pdf", "x" * 96 + ".pdf"),
        ("x." + "y" * 200, "x." + "y" * 98),
    ],
)
def test_a_safe_name_keeps_what_it_can(given: str, expected: str) -> None:
    assert safe_name(given) == expected


async def test_the_transcript_is_served_to_the_holder_of_the_workspaces_own_token(
    live: LiveWorkspace,
) -> None:
    platform_auth.save_token("own-token")
    for number in range(3):
        await live.send(f"say:{number}")
    headers = {"Authorization": "Bearer own-token"}
    page = (await live.http.get("/transcript", headers=headers, params={"since": 1, "limit": 1})).json()
    assert page == {
        "runtime": "scripted",
        "supported": True,
        "lines": [{"text": "say:1"}],
        "cursor": 2,
        "more": True,
        "source": None,
    }


async def test_the_transcript_is_closed_while_no_token_is_known(live: LiveWorkspace) -> None:
    for header in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer None"}):
        assert (await live.http.get("/transcript", headers=header)).status_code == 401


@pytest.mark.parametrize("query", [{"since": "x"}, {"limit": "1.5"}, {"since": "-1"}, {"limit": "0"}])
async def test_a_transcript_query_that_is_no_number_is_refused(
    live: LiveWorkspace, query: dict[str, str]
) -> None:
    platform_auth.save_token("own-token")
    headers = {"Authorization": "Bearer own-token"}
    assert (await live.http.get("/transcript", headers=headers, params=query)).status_code == 400


async def test_a_transcript_that_cannot_be_read_is_a_503_with_the_reason(
    live: LiveWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise OSError("rollout is gone")

    monkeypatch.setattr(live.adapter, "transcript_lines", broken)
    platform_auth.save_token("own-token")
    response = await live.http.get("/transcript", headers={"Authorization": "Bearer own-token"})
    assert (response.status_code, response.json()) == (503, {"error": "rollout is gone"})
