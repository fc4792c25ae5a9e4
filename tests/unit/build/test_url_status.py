"""Whether a URL answers is told by its status, or by what went wrong, and never by a failure."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from support.local_target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Site(BaseHTTPRequestHandler):
    """Has one page, and answers HEAD alone."""

    def do_HEAD(self) -> None:
        """Answer 200 for the page, else 404."""
        self.send_response(HTTPStatus.OK if self.path == "/page" else HTTPStatus.NOT_FOUND)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("from_controller", [True, False])
def test_the_controller_and_the_target_say_the_same(site: str, tmp_path: Path, from_controller: bool) -> None:
    urls = [f"{site}/page", f"{site}/elsewhere", "http://127.0.0.1:9/page", "no-url"]
    tasks = [{"url_status": {"url": url, "from_controller": from_controller}} for url in urls]
    found = Target(tmp_path).run(*tasks)
    assert [task["status"] for task in found] == [200, 404, -1, -1]
    assert [task["msg"] == "" for task in found] == [True, False, False, False]
    assert "refused" in found[2]["msg"]
    assert not any(task.get("failed") or task["changed"] for task in found)


def test_check_mode_asks_too(site: str, tmp_path: Path) -> None:
    task = {"url_status": {"url": f"{site}/page", "from_controller": True}, "check_mode": True}
    (found,) = Target(tmp_path).run(task)
    assert found["status"] == 200
