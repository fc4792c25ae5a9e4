"""Read what the controller's docker client is configured with, as far as a build has to do with it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: docker_client
short_description: Configuration of the docker client
description:
  - Returns what C(config.json) of the controller's docker client says about reaching an engine, and about
    proxies for containers.
  - A file that is not there, cannot be read or is no JSON counts as empty, as it does for the client.
options: {}
"""

EXAMPLES = r"""
- name: Show through which proxies containers are to work
  ansible.builtin.debug:
    msg: "{{ lookup('docker_client').proxies | list }}"
"""

RETURN = r"""
_raw:
  description: >-
    One dict: C(directory) (path of the client's configuration), C(reach) (dict, the part of C(config.json)
    without which the client finds another engine or none) and C(proxies) (dict of the variables that the
    client gives to each new container, by their names in lower case).
  type: list
  elements: dict
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

PROXIES = {
    "httpProxy": "http_proxy",
    "httpsProxy": "https_proxy",
    "ftpProxy": "ftp_proxy",
    "noProxy": "no_proxy",
    "allProxy": "all_proxy",
}
REACH = ("currentContext", "HttpHeaders")


def directory(env: Mapping[str, str]) -> Path:
    """Return the directory of the client's configuration."""
    return Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME") or Path.home()) / ".docker")


def configuration(where: Path) -> dict[str, Any]:
    """Return the content of config.json; empty where the client has none that it can read."""
    try:
        content = json.loads((where / "config.json").read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):  # the client warns of it, and goes on
        return {}
    return content if isinstance(content, dict) else {}


def field(content: Any, name: str) -> Any:
    """Return a field of a JSON object by its name, for which Go passes over upper and lower case."""
    if not isinstance(content, dict):
        return None
    return next((value for key, value in content.items() if key.lower() == name.lower()), None)


def engine_address() -> str:
    """Return the address of the engine that the client reaches, by which config.json may name proxies."""
    command = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip()


def proxies(content: dict[str, Any]) -> dict[str, str]:
    """Return the proxy variables of containers; see RETURN."""
    of_engines = field(content, "proxies")
    if not isinstance(of_engines, dict):
        return {}
    # The client is only asked for its engine where one engine has proxies of its own.
    address = engine_address() if of_engines.keys() - {"default"} else ""
    chosen = of_engines.get(address, of_engines.get("default"))
    found = {variable: field(chosen, name) for name, variable in PROXIES.items()}
    return {variable: value for variable, value in found.items() if isinstance(value, str) and value}


def read(env: Mapping[str, str]) -> dict[str, Any]:
    """Return all of it; see RETURN."""
    where = directory(env)
    content = configuration(where)
    reach = {name: field(content, name) for name in REACH}
    return {
        "directory": str(where),
        "reach": {name: value for name, value in reach.items() if value},
        "proxies": proxies(content),
    }


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(
        self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Return the configuration of this controller's client; terms are not used."""
        return [read(os.environ)]
