"""The conformance gate on a host that is a workspace itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from support.responses_server import Answer, ResponsesServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.vm_host import VmHost

pytestmark = pytest.mark.anyio

TOKEN = "/configs/.auth_token"


@pytest.fixture
async def registered(workspace: VmHost, model: ResponsesServer) -> AsyncIterator[VmHost]:
    """The workspace with a token, as a platform would have given it, and a model that answers once."""
    model.script(Answer.text("Yes."))
    await workspace.sh(f"umask 077; echo token >{TOKEN}; chown agent: {TOKEN}")
    yield workspace
    await workspace.sh(f"rm {TOKEN}")


def failed(report: Path) -> tuple[int, list[str | None]]:
    """How many assertions a report of the gate has, and the names of those that do not hold."""
    cases = ElementTree.parse(report).findall(".//testcase")
    return len(cases), [case.get("name") for case in cases if case.find("failure") is not None]


async def test_the_gate_finds_a_workspace_of_tier_t4(registered: VmHost, tmp_path: Path) -> None:
    gate = await registered.conformance("-e", f"codex_workspace_conformance_report_dir={tmp_path}", code=0)
    assert gate.changed == 0
    assert failed(tmp_path / f"{registered.name}.xml") == (9, [])


async def test_the_gate_names_what_is_wrong_with_a_workspace(registered: VmHost, tmp_path: Path) -> None:
    rule = "/etc/sudoers.d/agent-t4"
    await registered.sh(f"chown root {TOKEN}; cp {rule} /root/rule; echo 'agent ALL=(ALL' >>{rule}")
    gate = await registered.conformance("-e", f"codex_workspace_conformance_report_dir={tmp_path}", code=2)
    await registered.sh(f"mv /root/rule {rule}")
    count, names = failed(tmp_path / f"{registered.name}.xml")
    assert (count, names) == (
        9,
        [
            "The sudoers files are valid",
            "The runtime finds a token that is the agent's alone",
            "The MCP child finds the same token",
        ],
    )
    assert f"{registered.name} is no T4 workspace. 3 of 9 assertions do not hold" in gate.said
