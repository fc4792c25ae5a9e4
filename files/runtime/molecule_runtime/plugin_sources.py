"""Brings the plugins that the platform declares, and takes away those that it no longer does.

`MOLECULE_DECLARED_PLUGINS` is a list with commas. The platform always declares some, so that nothing in it
may ever stop a workspace. A source is one of

    gitea://OWNER/REPOSITORY[/DIRECTORY][#REF]          on the forge that MOLECULE_PLUGIN_REGISTRY names
    https://HOST/PATH[.git/DIRECTORY][#REF]             any forge; git+https:// is the same

and the plugin is called as the last part of DIRECTORY, else of the repository. REF is a branch, a tag or a
commit, `main` where it is left out. Each plugin is made complete beside its place and then moved there, so
that a fetch that fails leaves the one of before. Only what came from a declaration is ever replaced or
removed; the rest of the directory belongs to whoever put it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from molecule_runtime import logs
from molecule_runtime.files import write_atomic
from molecule_runtime.plugins import PluginError, plugin_name_is_good
from molecule_runtime.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PluginSource", "install_declared", "parse_source"]

_VARIABLE: Final = "MOLECULE_DECLARED_PLUGINS"
_FORGES: Final = ("MOLECULE_PLUGIN_REGISTRY", "MOLECULE_GITEA_BASE_URL")
_TIMEOUT: Final = "MOLECULE_PLUGIN_FETCH_TIMEOUT"
_SECONDS: Final = 120.0
# A plugin that is there already is only brought up to date, which must not hold up the boot for long.
_UPDATE_SECONDS: Final = 10.0
_SETUP_SECONDS: Final = 120.0
_STATE: Final = ".declared.json"
_PASSED_ON: Final = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "USER", "LOGNAME"})

_log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PluginSource:
    """Where a plugin comes from: a repository, a directory in it ("" for all of it), and a ref."""

    name: str
    repository: str
    directory: str
    ref: str

    @property
    def text(self) -> str:
        """The source in one line, which is the same for the same source."""
        return f"{self.repository} {self.directory or '.'} {self.ref}"


def parse_source(given: str, forge: str) -> PluginSource:
    """Read one source. Raises PluginError, which never repeats a credential that stands in it."""
    try:
        parts = urlsplit(given)
        has_credential = bool(parts.username or parts.password or parts.query)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise PluginError("it is no URL") from error
    if has_credential:
        raise PluginError(
            "a credential or a query in a source is refused: git asks for one where it needs it"
        )
    path = parts.path.strip("/")
    if parts.scheme == "gitea":
        if not forge.startswith("https://"):
            raise PluginError(f"gitea:// needs {_FORGES[0]} to be the https:// address of the forge")
        repository, _, directory = path.partition("/")
        repository, path = f"{forge.rstrip('/')}/{parts.netloc}/{repository}", repository
    elif parts.scheme in ("https", "git+https"):
        path, separator, directory = path.partition(".git/")
        repository = f"https://{parts.hostname}{port}/{path}{'.git' if separator else ''}"
    else:
        raise PluginError("only gitea://, https:// and git+https:// are allowed")
    name = (directory or path).rstrip("/").rpartition("/")[2].removesuffix(".git")
    directory_is_good = ".." not in directory.split("/") and "\\" not in directory
    if not parts.netloc or not path or not plugin_name_is_good(name) or not directory_is_good:
        raise PluginError("it names no repository, or no directory of one, with a usable name")
    ref = parts.fragment or "main"
    if ref.startswith("-") or not ref.isprintable() or " " in ref:
        raise PluginError("its #REF is no branch, tag or commit")
    return PluginSource(name, repository, directory.strip("/"), ref)


async def install_declared(env: Mapping[str, str], plugins: Path) -> list[str]:
    """Make `plugins` hold what is declared in `env`. Returns a sentence for each one that cannot be brought.

    Nothing is raised: a workspace starts without its plugins rather than not at all.
    """
    sources, problems = _declared(env)
    # A declaration that cannot be read may be that of a plugin which is there.
    may_remove = not problems
    known = _read_state(plugins)
    if not sources and not known:
        return problems
    try:
        await asyncio.to_thread(lambda: plugins.mkdir(mode=0o700, parents=True, exist_ok=True))
    except OSError as error:
        return [*problems, f"{plugins} cannot be written ({error.strerror}): no declared plugin is installed"]
    ours = [
        source for source in sources.values() if source.name in known or not (plugins / source.name).is_dir()
    ]
    for source in sources.values():
        if source not in ours:
            _log.info(
                "plugin is there already, and not from a declaration: left as it is", plugin=source.name
            )
    outcomes = await asyncio.gather(*(_bring(source, plugins, known, env) for source in ours))
    now = dict(known)
    for source, problem in zip(ours, outcomes, strict=True):
        if problem:
            problems.append(f"plugin {source.name}: {problem}")
        else:
            now[source.name] = source.text
    for name in sorted(set(known) - set(sources)) if may_remove else ():
        await asyncio.to_thread(shutil.rmtree, plugins / name, ignore_errors=True)
        del now[name]
        _log.info("plugin removed, it is not declared any more", plugin=name)
    if now != known:
        with contextlib.suppress(OSError):
            write_atomic(plugins / _STATE, json.dumps(now, indent=1).encode())
    return problems


def _declared(env: Mapping[str, str]) -> tuple[dict[str, PluginSource], list[str]]:
    forge = next((env[name] for name in _FORGES if env.get(name)), "")
    sources: dict[str, PluginSource] = {}
    problems = []
    for number, given in enumerate(filter(None, map(str.strip, env.get(_VARIABLE, "").split(","))), start=1):
        try:
            source = parse_source(given, forge)
        except PluginError as error:
            problems.append(f"source {number} of {_VARIABLE} is not used: {error}")
            continue
        if sources.setdefault(source.name, source) != source:
            problems.append(f"source {number} of {_VARIABLE} is not used: two are called {source.name}")
    return sources, problems


def _read_state(plugins: Path) -> dict[str, str]:
    """What earlier starts installed: the source by the plugin's name."""
    try:
        found = json.loads((plugins / _STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    items = found.items() if isinstance(found, dict) else ()
    return {name: text for name, text in items if isinstance(text, str) and plugin_name_is_good(name)}


async def _bring(
    source: PluginSource, plugins: Path, known: Mapping[str, str], env: Mapping[str, str]
) -> str:
    """Install or update one plugin. Returns what went wrong, "" for nothing."""
    place = plugins / source.name
    is_there = place.is_dir()
    is_update = is_there and known.get(source.name) == source.text
    staging = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=".staging-", dir=plugins))
    try:
        async with asyncio.timeout(_UPDATE_SECONDS if is_update else _seconds(env)):
            fetched = await _fetch(source, staging, env)
        await asyncio.to_thread(_swap, fetched, place, staging)
        if (place / "setup.sh").is_file():
            await _set_up(source.name, place, env)
    except TimeoutError:
        return "it could not be fetched in time" + (", the one of before is used" if is_there else "")
    except (PluginError, OSError) as error:
        return redact(str(error)) + (", the one of before is used" if is_there else "")
    finally:
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
    _log.info("plugin installed", plugin=source.name, ref=source.ref)
    return ""


def _seconds(env: Mapping[str, str]) -> float:
    given = env.get(_TIMEOUT, "")
    return float(given) if given.isdigit() and int(given) > 0 else _SECONDS


async def _fetch(source: PluginSource, staging: Path, env: Mapping[str, str]) -> Path:
    """Check the source out. Returns its directory, without git's own. Raises PluginError."""
    tree = staging / "tree"
    quiet = {**env, "GIT_TERMINAL_PROMPT": "0"}
    await asyncio.to_thread(tree.mkdir)
    for verb, *arguments in (
        ["init", "--quiet"],
        ["fetch", "--quiet", "--depth", "1", "--", source.repository, source.ref],
        ["checkout", "--quiet", "FETCH_HEAD"],
    ):
        code, said = await _run(["git", verb, *arguments], quiet, cwd=tree)
        if code != 0:
            raise PluginError(f"git {verb} failed: {said}")
    await asyncio.to_thread(shutil.rmtree, tree / ".git")
    found = (tree / source.directory).resolve()
    if not found.is_relative_to(tree.resolve()) or not found.is_dir():
        raise PluginError(f"the repository has no directory {source.directory}")
    return found


def _swap(fetched: Path, place: Path, staging: Path) -> None:
    if place.exists():
        place.rename(staging / "before")
    fetched.rename(place)


async def _set_up(name: str, place: Path, env: Mapping[str, str]) -> None:
    """Run the plugin's setup.sh as the agent, with nothing of the workspace's secrets. A failure is said."""
    given = {key: value for key, value in env.items() if key in _PASSED_ON}
    try:
        async with asyncio.timeout(_SETUP_SECONDS):
            code, said = await _run(["bash", "setup.sh"], given, cwd=place)
    except (TimeoutError, OSError) as error:
        code, said = 1, type(error).__name__
    if code != 0:
        _log.warning("[WARN] a plugin's setup.sh failed", plugin=name, code=code, said=redact(said))


async def _run(command: list[str], env: Mapping[str, str], cwd: Path | None = None) -> tuple[int, str]:
    """Exit code and last words of a command, which ends with its children when it is given up."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return process.returncode or 0, " ".join(output.decode(errors="replace").split())[-300:]
