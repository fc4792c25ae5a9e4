"""Read where the controller's package clients get packages: a build then needs no mirror settings."""

from __future__ import annotations

DOCUMENTATION = r"""
name: client_config
short_description: Mirrors and trust of the controller's package clients
description:
  - Returns what apt, pip and npm are configured with on the controller, in their own files and variables.
  - A value that is configured nowhere is an empty string, which means the client's own public default.
options: {}
"""

EXAMPLES = r"""
- name: Show the index that pip uses
  ansible.builtin.debug:
    msg: "{{ lookup('client_config').pip_index_url }}"
"""

RETURN = r"""
_raw:
  description: >-
    One dict: C(apt_mirror) and C(apt_security_mirror) (URLs of Debian archives), C(pip_index_url),
    C(npm_registry), C(ca_file) (path of an extra CA bundle), C(proxies) (dict of the variables
    set, by their names in lower case).
  type: list
  elements: dict
"""

import configparser
import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


def text_of(file: Path) -> str:
    """Return the content of a file; empty where there is none that this user can read, as the clients do."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def is_file(path: str) -> bool:
    """Whether there is a file; not where this user may not look."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def expanded(path: str, env: Mapping[str, str]) -> str:
    """Return a path of a client's configuration, whose ``~`` is the home of this user."""
    return str(Path(env.get("HOME", "/root")) / path[2:]) if path.startswith("~/") else path


def with_variables(value: str, env: Mapping[str, str]) -> str:
    """Return a value of npm's configuration with its ``${NAME}``; npm leaves one that is not set as it is.

    ``${NAME?}`` is empty where it is not set.
    """
    pattern = r"\$\{([^${}?]+)(\??)\}"
    return re.sub(pattern, lambda found: env.get(found[1], "" if found[2] else found[0]), value)


def pip_config(env: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """Return pip's ``global`` options, later files over earlier ones, as pip reads them."""
    own = env.get("PIP_CONFIG_FILE", "")
    home = Path(env.get("HOME", "/root"))
    xdg_dirs = env.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    files = [root / d.lstrip("/") / "pip/pip.conf" for d in xdg_dirs if d]
    files.append(root / "etc/pip.conf")
    if own == os.devnull:  # pip's way to say that no file counts
        files = []
    elif own and Path(own).exists():
        files.append(Path(own))
    else:
        files += [home / ".pip/pip.conf"]
        files += [Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"]
    parser = configparser.RawConfigParser(strict=False)
    for file in files:
        with contextlib.suppress(configparser.Error):
            parser.read_string(text_of(file), str(file))
    options: dict[str, str] = {}
    # `pip install` lays its own section over that of all commands.
    for section in ("global", "install"):
        if parser.has_section(section):
            options.update(parser.items(section))
    for option in ("index-url", "cert"):
        value = env.get("PIP_" + option.replace("-", "_").upper())
        if value:
            options[option] = value
    if options.get("cert"):
        options["cert"] = expanded(options["cert"], env)
    return options


def npm_config(env: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """Return npm's options, the user's file over the global ones, the environment over both."""
    home = Path(env.get("HOME", "/root"))
    files = [root / "etc/npmrc", root / "usr/etc/npmrc", root / "usr/local/etc/npmrc"]
    files.append(Path(env.get("NPM_CONFIG_USERCONFIG") or home / ".npmrc"))
    options: dict[str, str] = {}
    for file in files:
        for line in text_of(file).splitlines():
            name, sep, value = line.partition("=")
            if sep and not name.lstrip().startswith(("#", ";")):
                options[name.strip()] = with_variables(value.strip().strip('"').strip("'"), env)
    for name, value in env.items():
        if name.lower().startswith("npm_config_") and value:
            options[name.lower().removeprefix("npm_config_")] = value
    if options.get("cafile"):
        options["cafile"] = expanded(options["cafile"], env)
    return options


def apt_sources(root: Path = Path("/")) -> Iterator[tuple[str, str]]:
    """Yield (URI, suite) of every binary package source of apt, in both of its formats."""
    etc = root / "etc/apt"
    for file in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        text = text_of(file)
        if file.suffix == ".sources":
            for stanza in text.split("\n\n"):
                yield from _deb822(stanza)
        elif file.suffix == ".list":
            for line in text.splitlines():
                words = [w for w in _without_options(line).split() if w]
                if len(words) >= 3 and words[0] == "deb":
                    yield words[1], words[2]


def _without_options(line: str) -> str:
    before, bracket, rest = line.partition("[")
    return before + rest.partition("]")[2] if bracket else line


def _deb822(stanza: str) -> Iterator[tuple[str, str]]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    if (
        fields.get("enabled", "yes").lower() in ("no", "false")
        or "deb" not in fields.get("types", "").split()
    ):
        return
    for uri in fields.get("uris", "").split():
        for suite in fields.get("suites", "").split():
            yield uri, suite


def debian_mirrors(codename: str, root: Path = Path("/")) -> tuple[str, str]:
    """Return the controller's mirrors of the Debian archive and its security archive, empty if none.

    ``codename`` is the controller's own release, which tells its archive from those of other vendors.
    """
    sources = list(apt_sources(root))
    # Other vendors name their suites after the release too, but none has its updates.
    updated = {uri for uri, suite in sources if suite == f"{codename}-updates"}
    archives = [uri for uri, suite in sources if suite == codename]
    archives.sort(key=lambda uri: uri not in updated)
    securities = [uri for uri, suite in sources if suite == f"{codename}-security"]
    return _first_url(archives, root), _first_url(securities, root)


def _first_url(uris: list[str], root: Path) -> str:
    """URL of the first source; of its first mirror, where it is a list of mirrors as in cloud images."""
    if not uris:
        return ""
    uri = uris[0]
    if uri.startswith("mirror+file:"):
        listing = root / uri.removeprefix("mirror+file:").lstrip("/")
        lines = text_of(listing).splitlines()
        uri = next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), "")
    return uri.rstrip("/")


def proxies(env: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables that are set, by their names in lower case, which go before the others."""
    found = {name: env.get(name) or env.get(name.upper()) for name in PROXY_VARIABLES}
    return {name: value for name, value in found.items() if value}


def read(env: Mapping[str, str], root: Path = Path("/")) -> dict[str, Any]:
    """Return the whole configuration; see RETURN. Files are read below ``root``."""
    release = {}
    for line in text_of(root / "etc/os-release").splitlines():
        name, _, value = line.partition("=")
        release[name] = value.strip('"')
    mirror = security = ""
    if release.get("ID") == "debian":
        mirror, security = debian_mirrors(release.get("VERSION_CODENAME", ""), root)
    pip, npm = pip_config(env, root), npm_config(env, root)
    candidates = (env.get("SSL_CERT_FILE"), env.get("REQUESTS_CA_BUNDLE"), pip.get("cert"), npm.get("cafile"))
    return {
        "apt_mirror": mirror,
        "apt_security_mirror": security,
        "pip_index_url": pip.get("index-url", ""),
        "npm_registry": npm.get("registry", ""),
        "ca_file": next((file for file in candidates if file and is_file(file)), ""),
        "proxies": proxies(env),
    }


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(
        self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Return the configuration of this controller; terms are not used."""
        return [read(os.environ)]
