"""Plugins of the workspace: rules, texts for the prompt, skills and MCP servers, read and verified.

A plugin is a directory. All of it is optional:

    plugin.yaml            name, version, description, runtimes (whom it is for)
    rules/*.md             rules for the agent
    *.md                   more text for the prompt, but README, CHANGELOG, LICENSE and CONTRIBUTING
    skills/NAME/SKILL.md   skills, which the agent's own loader reads
    mcp-servers.json       MCP servers, {"mcpServers": {NAME: {"command", "args", "env"} or {"url"}}}, or the
                           inner object alone; settings-fragment.json may hold the same

A plugin that is broken is left out and reported, and harms no other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["McpServerSpec", "Plugin", "PluginError", "Plugins", "load_plugins", "plugin_name_is_good"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_SERVER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FOR_PEOPLE: Final = frozenset({"readme.md", "changelog.md", "license.md", "contributing.md"})
_SERVER_FILES: Final = ("mcp-servers.json", "settings-fragment.json")
_FILE_LIMIT: Final = 256 << 10
_RESERVED: Final = ("MCP server molecule",)


class PluginError(Exception):
    """Why a plugin cannot be used: which file, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class McpServerSpec:
    """One MCP server: a `command` to start on stdio, or a `url` that speaks HTTP."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict, repr=False)
    url: str = ""


@dataclass(frozen=True, slots=True)
class Plugin:
    """What one plugin brings. `skills` are directories by the name of the skill."""

    name: str
    path: Path
    version: str = ""
    description: str = ""
    rules: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()
    skills: dict[str, Path] = field(default_factory=dict)
    servers: tuple[McpServerSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Plugins:
    """All plugins that can be used, and one sentence for each that cannot."""

    plugins: tuple[Plugin, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def servers(self) -> list[McpServerSpec]:
        """The MCP servers of all of them."""
        return [server for plugin in self.plugins for server in plugin.servers]

    @property
    def skills(self) -> dict[str, Path]:
        """The skills of all of them."""
        return {name: path for plugin in self.plugins for name, path in plugin.skills.items()}


def plugin_name_is_good(name: str) -> bool:
    """Whether a plugin may be called so: its name becomes that of a directory."""
    return _NAME.fullmatch(name) is not None


def load_plugins(directories: Iterable[Path], runtime: str) -> Plugins:
    """Read the plugins below `directories`; of two with one name, that of the earlier directory counts.

    Plugins for other runtimes than `runtime` are passed over without a word.
    """
    plugins: dict[str, Plugin] = {}
    problems: dict[str, str] = {}
    taken: dict[str, str] = dict.fromkeys(_RESERVED, "the workspace itself")
    for path in _candidates(directories):
        if path.name in plugins or path.name in problems:
            continue
        try:
            plugin = _load(path, runtime)
            if plugin is not None:
                _claim(plugin, taken)
                plugins[path.name] = plugin
        except PluginError as error:
            problems[path.name] = f"plugin {path.name} is not used: {error}"
    return Plugins(tuple(plugins.values()), tuple(problems.values()))


def _candidates(directories: Iterable[Path]) -> Iterator[Path]:
    for directory in directories:
        try:
            entries = sorted(directory.iterdir())
        except OSError:
            continue
        yield from (entry for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _claim(plugin: Plugin, taken: dict[str, str]) -> None:
    """Let no two plugins bring one server or one skill: the agent could not tell them apart."""
    brought = [f"MCP server {server.name}" for server in plugin.servers]
    brought += [f"skill {name}" for name in plugin.skills]
    for each in brought:
        if each in taken:
            raise PluginError(f"the {each} belongs to {taken[each]}")
    taken.update(dict.fromkeys(brought, f"plugin {plugin.name}"))


def _load(path: Path, runtime: str) -> Plugin | None:
    """The plugin in `path`; None where it is for others. Raises PluginError."""
    if not plugin_name_is_good(path.name):
        raise PluginError("its directory's name has other characters than letters, digits, '.', '_' and '-'")
    manifest = _manifest(path)
    runtimes = manifest.get("runtimes")
    if isinstance(runtimes, list) and runtimes and not {runtime, "*"} & {str(each) for each in runtimes}:
        return None
    return Plugin(
        name=path.name,
        path=path,
        version=str(manifest.get("version") or ""),
        description=str(manifest.get("description") or ""),
        rules=tuple(_texts(path, path / "rules")),
        fragments=tuple(_texts(path, path)),
        skills=_skills(path),
        servers=tuple(_servers(path)),
    )


def _manifest(path: Path) -> dict[str, Any]:
    text = _read(path, path / "plugin.yaml")
    if text is None:
        return {}
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PluginError(f"plugin.yaml is not YAML ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise PluginError("plugin.yaml holds no keys such as 'name: example'")
    return found


def _texts(root: Path, directory: Path) -> Iterator[str]:
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.suffix == ".md" and entry.name.lower() not in _FOR_PEOPLE:
            text = (_read(root, entry) or "").strip()
            if text:
                yield text


def _skills(root: Path) -> dict[str, Path]:
    try:
        entries = sorted((root / "skills").iterdir())
    except OSError:
        return {}
    found = {}
    for entry in entries:
        if _read(root, entry / "SKILL.md") is None:
            continue
        if not plugin_name_is_good(entry.name):
            raise PluginError(f"skills/{entry.name!r} is no name of a skill")
        found[entry.name] = entry
    return found


def _servers(root: Path) -> Iterator[McpServerSpec]:
    for name in _SERVER_FILES:
        text = _read(root, root / name)
        if text is None:
            continue
        try:
            found = json.loads(text)
        except ValueError as error:
            raise PluginError(f"{name} is not JSON") from error
        inner = found.get("mcpServers") if isinstance(found, dict) else None
        if inner is None:
            inner = found if name == _SERVER_FILES[0] else {}
        if not isinstance(inner, dict):
            raise PluginError(f"{name} holds no object of servers by name")
        yield from (_server(root, server, given) for server, given in inner.items())
        return


def _server(root: Path, name: str, given: Any) -> McpServerSpec:
    if not _SERVER.fullmatch(name):
        raise PluginError(f"MCP server {name[:64]!r}: a name has letters, digits, '_' and '-' only")
    if not isinstance(given, dict):
        raise PluginError(f"MCP server {name}: it is no object with a command or a url")
    url = given.get("url")
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        return McpServerSpec(name, url=url)
    command, args, env = given.get("command"), given.get("args") or [], given.get("env") or {}
    if not isinstance(command, str) or not command:
        raise PluginError(f"MCP server {name}: it has neither a command nor a url of http or https")
    if not isinstance(args, list) or not all(isinstance(each, str) for each in args):
        raise PluginError(f"MCP server {name}: args must be a list of texts")
    if not isinstance(env, dict) or not all(isinstance(each, str) for each in (*env, *env.values())):
        raise PluginError(f"MCP server {name}: env must be an object of texts")
    return McpServerSpec(name, _executable(root, name, command), tuple(args), env)


def _executable(root: Path, server: str, command: str) -> str:
    """Where `command` is. codex would only say at each new thread that it cannot start it."""
    found = shutil.which(str(root / command) if "/" in command and not command.startswith("/") else command)
    if found is None:
        raise PluginError(f"MCP server {server}: the command {command!r} is not there, or not executable")
    return str(Path(found).absolute())


def _read(root: Path, path: Path) -> str | None:
    """The text of a file of the plugin; None without one. A link out of it could lead to a secret."""
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    if not resolved.is_relative_to(root.resolve()):
        raise PluginError(f"{path.relative_to(root)} leads out of the plugin")
    try:
        if not resolved.is_file():
            return None
        if resolved.stat().st_size > _FILE_LIMIT:
            raise PluginError(f"{path.relative_to(root)} is larger than {_FILE_LIMIT} bytes")
        return resolved.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise PluginError(f"{path.relative_to(root)} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise PluginError(
            f"{path.relative_to(root)} cannot be read: {os.strerror(error.errno or 0)}"
        ) from error
