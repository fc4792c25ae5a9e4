#!/usr/bin/python
"""Documentation of docker_image_commit. The action plugin of that name does the work, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_image_commit
short_description: Commit a container as a Docker image
description:
  - Commits a container, running or not, as an image. No collection has such a module.
  - Runs on the controller, with its C(docker) command, so it uses the engine that the command uses.
  - A container that was given variables beside those of its image is refused, since the new image would keep
    them. The proxies of a docker client's configuration are such.
  - When O(entrypoint) is set, the engine drops the container's own command unless O(command) is given. That
    is how the placeholder command of a build container stays out of the image.
options:
  container:
    description: Name or ID of the container.
    type: str
    required: true
  message:
    description: Comment of the new layer, shown by C(docker history).
    type: str
    default: ""
  remove:
    description: Whether the container is removed once it is committed. Nothing waits for its removal.
    type: bool
    default: false
  entrypoint:
    description: ENTRYPOINT, in exec form. Inherited from the container when not given.
    type: list
    elements: str
  command:
    description: CMD, in exec form.
    type: list
    elements: str
  env:
    description: Environment variables, laid over those of the container.
    type: dict
    default: {}
  labels:
    description: Labels, laid over those of the container.
    type: dict
    default: {}
  workdir:
    description: WORKDIR. Inherited from the container when not given.
    type: path
  exposed_ports:
    description: Ports to expose, such as V(8000/tcp).
    type: list
    elements: str
    default: []
  healthcheck:
    description: >-
      HEALTHCHECK - C(test) is a command in exec form, C(interval), C(timeout) and C(start_period) are times
      such as V(30s).
    type: dict
    suboptions:
      test:
        description: Command in exec form.
        type: list
        elements: str
        required: true
      interval:
        description: Time between two checks.
        type: str
        default: 30s
      timeout:
        description: Time after which a check has failed.
        type: str
        default: 10s
      start_period:
        description: Time in which failures do not count.
        type: str
        default: 30s
attributes:
  check_mode:
    support: full
    description: Says that it would change, and commits nothing.
notes:
  - The container is not paused while it is committed. Stop writing in it first.
  - No value may hold a newline, since the engine takes the configuration as lines. Everything else is quoted.
"""

EXAMPLES = r"""
- name: Commit the layer
  docker_image_commit:
    container: build-1
    message: packages
    labels:
      codex-workspace.layer: packages
  register: layer

- name: Commit the image with its configuration
  docker_image_commit:
    container: build-1
    entrypoint: [/usr/local/bin/start.sh]
    workdir: /app
    env: {ADAPTER_MODULE: adapter}
    exposed_ports: [8000/tcp]
"""

RETURN = r"""
image_id:
  description: ID of the new image. Empty in check mode.
  returned: always
  type: str
  sample: sha256:0f5b...
size:
  description: Size of the new image with all that it stands on, in bytes. 0 in check mode.
  returned: always
  type: int
"""
