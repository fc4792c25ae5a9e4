"""What the agent has changed of its card, kept on disk: every registration and heartbeat sends the card."""

from __future__ import annotations

import json
from typing import Any, Final

from molecule_runtime import configs_dir, logs
from molecule_runtime.files import write_atomic

__all__ = ["CHANGEABLE", "changes", "save_changes"]

CHANGEABLE: Final = ("name", "description", "version", "skills")
"""The fields that are the agent's to change. Where it is reached, and how, is not."""

_NAME: Final = ".agent_card.json"

_log = logs.get_logger(__name__)


def changes() -> dict[str, Any]:
    """The fields that differ from `config.yaml`; {} where nothing was changed, or nothing can be read."""
    path = configs_dir.resolve() / _NAME
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning(f"[WARN] {path} is not used ({type(error).__name__}): remove it")
        return {}
    return {key: found[key] for key in CHANGEABLE if key in found} if isinstance(found, dict) else {}


def save_changes(card: dict[str, Any]) -> None:
    """Add to what was changed before. Raises OSError."""
    write_atomic(configs_dir.resolve() / _NAME, json.dumps({**changes(), **card}).encode())
