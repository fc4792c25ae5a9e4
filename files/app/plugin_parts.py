"""What plugins of the workspace bring for codex itself: MCP servers in config.toml, skills in CODEX_HOME.

The bundled runtime hands over those of all plugins at each start, so that what a plugin no longer brings is
taken away. What people put there by hand is kept, and counts before a plugin's of the same name.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

import structlog
import tomlkit

from atomic_file import write_atomically
from codex_config import add_marked, remove_marked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["install_skills", "write_servers"]

log = structlog.get_logger(__name__)

_MARK: Final = "from a plugin of the workspace"
_MARKER: Final = ".from-a-plugin-of-the-workspace"


def write_servers(home: Path, servers: Sequence[Any]) -> None:
    """Make the plugins' MCP servers in `home`/config.toml be `servers`.

    Each has `name`, and `command`, `args`, `env` or `url`. Raises OSError.
    """
    path = home / "config.toml"
    before = path.read_text("utf-8")
    document = tomlkit.parse(before)
    remove_marked(document, _MARK)
    for server in servers:
        if server.name in document.get("mcp_servers", {}):
            reason = "config.toml has one of that name by hand"
            log.warning("plugin.server_not_used", server=server.name, reason=reason)
            continue
        values: dict[str, Any] = {"url": server.url} if server.url else {"command": server.command}
        if not server.url:
            values |= {"args": list(server.args), **({"env": dict(server.env)} if server.env else {})}
        add_marked(document, ("mcp_servers", server.name), values, _MARK)
    if (after := tomlkit.dumps(document)) != before:
        write_atomically(path, after, mode=path.stat().st_mode & 0o777)


def install_skills(home: Path, skills: Mapping[str, Path]) -> None:
    """Make the plugins' skills in `home`/skills be `skills`, directories by name. Raises OSError."""
    place = home / "skills"
    if place.is_dir():
        for old in place.iterdir():
            if (old / _MARKER).exists():
                shutil.rmtree(old)
    for name, source in skills.items():
        copy = place / name
        if copy.exists():
            log.warning("plugin.skill_not_used", skill=name, reason=f"{copy} is there already")
            continue
        try:
            shutil.copytree(source, copy)
            (copy / _MARKER).touch()
        except (OSError, shutil.Error) as error:
            # Half of a skill is worse than none.
            shutil.rmtree(copy, ignore_errors=True)
            log.warning("plugin.skill_not_used", skill=name, reason=str(error)[:200])
