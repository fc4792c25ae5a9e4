"""What the runtime tells systemd, over a socket of the kind that systemd listens on."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from molecule_runtime.service_manager import ServiceManager
from support.runtime_process import free_port, run_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The receiving end, at `notify` in the test's directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(30)
        yield receiver


def states(receiver: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in receiver.recv(4096).decode().splitlines())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("adapter", "word"), [("support.scripted_adapter", "ready"), ("no_such_module", "not ready: ")]
)
async def test_systemd_is_told_when_the_port_is_bound_and_when_the_workspace_stops(
    tmp_path: Path, manager: socket.socket, adapter: str, word: str
) -> None:
    port = free_port()
    (tmp_path / "config.yaml").write_text(f"a2a: {{port: {port}}}\n")
    variables = {
        "WORKSPACE_ID": "ws-self",
        "PLATFORM_URL": "off",
        "ADAPTER_MODULE": adapter,
        "WORKSPACE_CONFIG_PATH": str(tmp_path),
        "CONFIGS_DIR": str(tmp_path),
        "NOTIFY_SOCKET": manager.getsockname(),
    }
    async with run_runtime(tmp_path, port, variables) as running:
        await running.ready()
        told = states(manager)
        assert told["READY"] == "1"
        assert told["STATUS"].startswith(f"serving A2A on port {port}, {word}")
        assert await running.stop() == 0
    assert states(manager)["STOPPING"] == "1"


def test_an_address_in_the_abstract_namespace_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"codex-workspace-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        ServiceManager().tell("READY=1")
        assert receiver.recv(100) == b"READY=1"


def test_what_the_agent_starts_does_not_get_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    ServiceManager()
    assert "NOTIFY_SOCKET" not in os.environ


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with capture_logs() as lines:
        ServiceManager().tell("READY=1")
    assert lines == []


def test_a_manager_that_has_gone_is_logged_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with capture_logs() as lines:
        ServiceManager().tell("READY=1")
    (line,) = lines
    assert "was not told READY=1" in line["event"]
