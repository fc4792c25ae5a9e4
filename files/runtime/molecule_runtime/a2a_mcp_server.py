"""The MCP server on stdio that codex starts: `python -m molecule_runtime.a2a_mcp_server`.

codex passes on few variables, so WORKSPACE_ID, PLATFORM_URL, MOLECULE_ORG_ID and the resolved CONFIGS_DIR
must stand in `[mcp_servers.molecule.env]`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolResult, ListToolsResult, TextContent, ToolAnnotations
from mcp.types import Tool as ToolDeclaration
from pydantic import ValidationError

from molecule_runtime import configs_dir, environment, logs
from molecule_runtime.config import ConfigFileError, RbacConfig, load
from molecule_runtime.mcp_tool import Tool, ToolError
from molecule_runtime.mcp_tools import TOOLS, Toolbox
from molecule_runtime.network import NetworkError
from molecule_runtime.platform import PlatformClient
from molecule_runtime.rbac import allowed_actions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.types import CallToolRequestParams

__all__ = ["build_server", "main"]

SERVER_NAME = "a2a-delegation"
SERVER_VERSION = "1.0.0"

_log = logs.get_logger(__name__)


def build_server(toolbox: Toolbox, offered: Sequence[Tool] = TOOLS) -> Server[Any]:
    """The server. The SDK runs each call as a task of its own: a slow delegation holds up nothing else."""
    tools = {tool.name: tool for tool in offered}
    declared = [_declaration(tool) for tool in offered]

    async def list_tools(_: Any, __: Any) -> ListToolsResult:
        return ListToolsResult(tools=declared)

    async def call_tool(_: Any, params: CallToolRequestParams) -> CallToolResult:
        tool = tools.get(params.name)
        if tool is None:
            return _failure(f"Error: unknown tool {params.name}; there are {', '.join(tools)}")
        try:
            toolbox.require(tool.right)
            text = await tool.run(toolbox, _arguments(tool, params.arguments or {}))
        except ToolError as error:
            return _failure(str(error))
        except Exception as error:  # noqa: BLE001 (the model must get an answer, whatever went wrong)
            _log.exception("tool failed", tool=tool.name)
            return _failure(f"Error: {tool.name} failed inside: {type(error).__name__}")
        return CallToolResult(content=[TextContent(type="text", text=text)])

    return Server(SERVER_NAME, version=SERVER_VERSION, on_list_tools=list_tools, on_call_tool=call_tool)


def _declaration(tool: Tool) -> ToolDeclaration:
    schema = tool.arguments.model_json_schema()
    schema.pop("description", None)
    return ToolDeclaration(
        name=tool.name,
        description=tool.description,
        input_schema=schema,
        annotations=ToolAnnotations(read_only_hint=tool.read_only, destructive_hint=False),
    )


def _arguments(tool: Tool, given: dict[str, Any]) -> Any:
    try:
        arguments = tool.arguments.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ToolError(f"Error: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for name, field in tool.arguments.model_fields.items():
        value = getattr(arguments, name)
        # check_task_status requires both and lets both be empty.
        if (
            isinstance(value, str)
            and field.is_required()
            and tool.name != "check_task_status"
            and not value.strip()
        ):
            raise ToolError(f"Error: {name} must not be empty")
    return arguments


def _failure(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


async def _serve() -> int:
    try:
        workspace_id = environment.workspace_id(os.environ)
        platform_url = environment.platform_url(os.environ)
        client = PlatformClient(platform_url or "", workspace_id, os.environ.get("MOLECULE_ORG_ID", ""))
    except (environment.EnvironmentVariableError, NetworkError) as error:
        _log.error(f"[FAIL] {error}")
        return 2
    # Without a platform there is nothing that a tool could do: the model is better off with none.
    tools = TOOLS if platform_url else ()
    server = build_server(Toolbox(client, allowed_actions(_rbac())), tools)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
    await client.aclose()
    return 0


def _rbac() -> RbacConfig:
    """The roles of the workspace. A file that cannot be read allows nothing beyond reading the memory."""
    directory = Path(os.environ.get("WORKSPACE_CONFIG_PATH") or configs_dir.resolve())
    try:
        return load(None, directory).rbac
    except ConfigFileError as error:
        _log.error(f"[FAIL] {error}")
        return RbacConfig(roles=["read-only"])


def main() -> int:
    """Serve until stdin ends. Returns the exit code: 2 where the environment cannot be used."""
    logs.configure("WARNING")
    return asyncio.run(_serve())


if __name__ == "__main__":
    sys.exit(main())
