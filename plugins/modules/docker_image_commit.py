#!/usr/bin/python
"""Commit a container as an image, with its configuration stated rather than inherited."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_image_commit
short_description: Commit a container as a Docker image
description:
  - Commits a container, running or not, as an image. No collection has such a module.
  - The configuration is sent as a structure and not as Dockerfile instructions, so no value needs quoting
    and no C($) in one is expanded by the engine.
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
attributes:
  check_mode:
    support: full
    description: Says that it would change, and commits nothing.
requirements:
  - docker (Docker SDK for Python)
notes:
  - The engine is found like the Docker CLI finds it, by E(DOCKER_HOST) and its kin.
  - The container is not paused while it is committed. Stop writing in it first.
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

import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import docker
    from docker.errors import APIError, DockerException, NotFound

    DOCKER_IMPORT_ERROR = None
except ImportError:
    DOCKER_IMPORT_ERROR = traceback.format_exc()


def container_config(params: dict[str, Any]) -> dict[str, Any]:
    """Translate parameters into the engine's ``ContainerConfig``: what was given, the rest is inherited."""
    config: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in sorted(params["env"].items())],
        "Labels": {name: str(value) for name, value in params["labels"].items()},
        "ExposedPorts": {port: {} for port in params["exposed_ports"]},
    }
    if params["entrypoint"] is not None:
        config["Entrypoint"] = params["entrypoint"]
    if params["command"] is not None:
        config["Cmd"] = params["command"]
    if params["workdir"] is not None:
        config["WorkingDir"] = params["workdir"]
    return config


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "required": True},
            "message": {"type": "str", "default": ""},
            "entrypoint": {"type": "list", "elements": "str"},
            "command": {"type": "list", "elements": "str"},
            "env": {"type": "dict", "default": {}},
            "labels": {"type": "dict", "default": {}},
            "workdir": {"type": "path"},
            "exposed_ports": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    if DOCKER_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("docker"), exception=DOCKER_IMPORT_ERROR)
    container = module.params["container"]
    try:
        client = docker.from_env()
        client.containers.get(container)
        if module.check_mode:
            module.exit_json(changed=True, image_id="", size=0)
        image_id = client.api.commit(
            container,
            message=module.params["message"],
            pause=False,
            conf=container_config(module.params),
        )["Id"]
        size = client.images.get(image_id).attrs["Size"]
    except NotFound:
        module.fail_json(msg=f"There is no container {container!r} to commit on this Docker engine.")
    except APIError as error:
        module.fail_json(msg=f"The Docker engine did not commit {container!r}: {error.explanation or error}")
    except DockerException as error:
        module.fail_json(
            msg=f"No Docker engine answered: {error}. Start one, or set DOCKER_HOST to one that runs."
        )
    module.exit_json(changed=True, image_id=image_id, size=size)


if __name__ == "__main__":
    main()
