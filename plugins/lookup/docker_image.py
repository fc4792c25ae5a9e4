"""Inspect images of the Docker engine, without a module's process for each look."""

from __future__ import annotations

DOCUMENTATION = r"""
name: docker_image
short_description: Inspect images of the Docker engine
description:
  - Returns what C(docker image inspect) says of each image, and nothing for one that is not there.
options:
  _terms:
    description: Names or IDs.
    required: true
"""

EXAMPLES = r"""
- name: Show the size
  ansible.builtin.debug:
    msg: "{{ (query('docker_image', 'codex-workspace:latest') | first).Size }}"
"""

RETURN = r"""
_list:
  description: The inspections, in the order of the terms.
  type: list
  elements: dict
"""

import json
import subprocess
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase


def inspect(names: list[str]) -> list[dict[str, Any]]:
    """Inspect those of the images that exist. Raises AnsibleError when no engine answers."""
    done = subprocess.run(
        ["docker", "image", "inspect", *names], capture_output=True, text=True, check=False, timeout=60
    )
    try:
        images: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    except ValueError as error:
        message = f"docker image inspect {' '.join(names)} gave no JSON: {error} {done.stderr.strip()}"
        raise AnsibleError(message) from error
    # Whatever else is on the standard error are warnings: of a configuration that the client could not read.
    gone = sum("no such image" in line.lower() for line in done.stderr.splitlines())
    if done.returncode != 0 and len(images) + gone < len(names):
        message = f"docker image inspect {' '.join(names)}: {' '.join(done.stderr.split())}"
        raise AnsibleError(message)
    return images


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(
        self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Inspect the images named by the terms."""
        return inspect([str(term) for term in terms]) if terms else []
