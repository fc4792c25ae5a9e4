"""What the agent does with its tools, in the few words that other people read.

codex tells each use of a tool as an item of its thread. Reasoning, plans and messages are items as well, and
no tools.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ToolCall", "tool_call"]

_LONGEST: Final = 64 * 1024
_SHELLS: Final = ("bash", "sh", "zsh")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One use of a tool. `input` is what it was given as one text, "" for nothing; it may hold secrets."""

    name: str
    input: str


def tool_call(item: dict[str, Any]) -> ToolCall | None:
    """The use of a tool that `item` of codex tells; None for an item of another kind.

    `item` is `{"type": "commandExecution" | "fileChange" | "mcpToolCall" | ..., ...}`. A tool of an MCP
    server is called `mcp__<server>__<tool>`, everything else like its item.
    """
    kind = item.get("type")
    match kind:
        case "commandExecution":
            given = _script(str(item.get("command") or ""))
        case "fileChange":
            changes = item.get("changes")
            paths = [change.get("path") for change in changes or () if isinstance(change, dict)]
            given = ", ".join(path for path in paths if isinstance(path, str))
        case "mcpToolCall":
            name = f"mcp__{item.get('server')}__{item.get('tool')}"
            return ToolCall(name, _text(item.get("arguments"))[:_LONGEST])
        case "webSearch":
            given = _search(item)
        case "dynamicToolCall":
            given = f"{item.get('tool')} {_text(item.get('arguments'))}".strip()
        case "collabAgentToolCall":
            given = f"{item.get('tool')} {item.get('prompt') or ''}".strip()
        case "imageView":
            given = str(item.get("path") or "")
        case "imageGeneration":
            given = str(item.get("revisedPrompt") or "")
        case _:
            return None
    return ToolCall(kind, given[:_LONGEST])


def _script(command: str) -> str:
    """`command` without the shell that codex runs each one in."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    in_shell = len(words) == 3 and words[0].rpartition("/")[2] in _SHELLS and words[1] in ("-c", "-lc")
    return words[2] if in_shell else command


def _search(item: dict[str, Any]) -> str:
    action = item.get("action")
    found = action if isinstance(action, dict) else {}
    return str(item.get("query") or found.get("query") or found.get("url") or "")


def _text(value: Any) -> str:
    if value is None or value == {}:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
