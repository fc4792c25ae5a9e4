"""An MCP server with one tool, `write`, without annotations: `tiny_mcp FILE` appends its text to FILE."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_TOOL = {
    "name": "write",
    "description": "Write a text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


def _result(method: str, params: dict[str, Any], path: Path) -> dict[str, Any]:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "tiny", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [_TOOL]}
    if method == "tools/call":
        with path.open("a") as file:
            file.write(params["arguments"]["text"])
        return {"content": [{"type": "text", "text": "written"}]}
    return {}


def main() -> None:
    """Serve until stdin ends."""
    path = Path(sys.argv[1])
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            result = _result(message["method"], message.get("params", {}), path)
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()
