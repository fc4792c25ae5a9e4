"""The model's side of the MCP server: a process of its own on stdio, driven by the official client."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_platform import FakePlatform

__all__ = ["Agent", "agent_process"]

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Agent:
    """The model's side of the server."""

    session: ClientSession
    platform: FakePlatform

    async def call(self, tool: str, **arguments: Any) -> str:
        """The text of a call that works."""
        failed, text = await self.outcome(tool, **arguments)
        assert not failed, text
        return text

    async def error(self, tool: str, **arguments: Any) -> str:
        """The text of a call that does not."""
        failed, text = await self.outcome(tool, **arguments)
        assert failed, text
        return text

    async def outcome(self, tool: str, **arguments: Any) -> tuple[bool, str]:
        result = await self.session.call_tool(tool, arguments)
        (content,) = result.content
        assert isinstance(content, TextContent)
        return bool(result.is_error), content.text


@contextlib.asynccontextmanager
async def agent_process(platform: FakePlatform, configs: Path, **variables: str) -> AsyncIterator[Agent]:
    """A server process with the environment that config.toml gives it, and a token on disk."""
    platform.rotate_token(configs / ".auth_token")
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "molecule_runtime.a2a_mcp_server"],
        env={
            "PYTHONPATH": f"{_REPOSITORY}/files/runtime:{_REPOSITORY}/files/config_document",
            "WORKSPACE_ID": "ws-self",
            "PLATFORM_URL": platform.url,
            "CONFIGS_DIR": str(configs),
            **variables,
        },
    )
    with os.fdopen(os.open(os.devnull, os.O_WRONLY), "w") as log:
        async with stdio_client(parameters, errlog=log) as streams, ClientSession(*streams) as session:
            initialized = await session.initialize()
            assert initialized.server_info.name == "a2a-delegation"
            assert initialized.capabilities.tools is not None
            assert not initialized.capabilities.tools.list_changed
            yield Agent(session, platform)
