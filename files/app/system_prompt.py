"""The instructions that codex gets with each thread.

Whose they are: the runtime's. The bundled one hands them over ready; the platform's own builds them when the
adapter asks for its common set-up (plugins, skills, peers and prompt files in one). Under a runtime that does
neither, they are the workspace's prompt files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from molecule_runtime.adapters.base import AdapterConfig, BaseAdapter

__all__ = ["build_system_prompt"]

log = structlog.get_logger(__name__)

_DEFAULT_FILES: Final = ("system-prompt.md",)


async def build_system_prompt(adapter: BaseAdapter, config: AdapterConfig, directory: Path) -> str | None:
    """The instructions for `config`, whose files are in `directory`; None where there are none.

    Raises what the runtime's common set-up raises: it decides which of its failures may be lived with.
    """
    if given := getattr(config, "system_prompt", None):
        return str(given)
    if (common_setup := getattr(adapter, "_common_setup", None)) is not None:
        result: Any = await common_setup(config)
        # The card of the runtime shows what it finds here.
        adapter.loaded_skills = getattr(result, "loaded_skills", [])  # type: ignore[attr-defined]
        built = getattr(config, "system_prompt", None) or getattr(result, "system_prompt", None)
        return str(built) if built else None
    return _read(directory, getattr(config, "prompt_files", None) or _DEFAULT_FILES)


def _read(directory: Path, names: Sequence[str]) -> str | None:
    texts = []
    for name in names:
        try:
            texts.append((directory / name).read_text("utf-8").strip())
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            log.warning("prompt.not_read", file=str(directory / name), reason=str(error))
    return "\n\n".join(filter(None, texts)) or None
