"""Commit a container as an image. plugins/modules/docker_image_commit.py documents it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

HEALTH_TIMES = {"interval": "30s", "timeout": "10s", "start_period": "30s"}


def quoted(text: object) -> str:
    """Quote a word of a Dockerfile instruction, so that the engine takes it as it is, and expands nothing.

    Raises ValueError for a newline, which would end the instruction.
    """
    word = str(text)
    if "\n" in word or "\r" in word:
        message = f"{word!r} holds a newline, which no ENV or LABEL of an image can"
        raise ValueError(message)
    return '"' + re.sub(r'(["\\$])', r"\\\1", word) + '"'


def changes(args: dict[str, Any]) -> list[str]:
    """Translate the task's arguments into the instructions that ``docker commit --change`` takes."""
    instructions = [f"ENV {name}={quoted(value)}" for name, value in args["env"].items()]
    instructions += [f"LABEL {quoted(name)}={quoted(value)}" for name, value in args["labels"].items()]
    instructions += [f"EXPOSE {port}" for port in args["exposed_ports"]]
    if args["healthcheck"] is not None:
        check = args["healthcheck"]
        times = " ".join(f"--{name.replace('_', '-')}={check[name]}" for name in HEALTH_TIMES)
        instructions.append(f"HEALTHCHECK {times} CMD {json.dumps(check['test'])}")
    if args["workdir"] is not None:
        instructions.append(f"WORKDIR {args['workdir']}")
    # ENTRYPOINT first: it resets CMD.
    if args["entrypoint"] is not None:
        instructions.append(f"ENTRYPOINT {json.dumps(args['entrypoint'])}")
    if args["command"] is not None:
        instructions.append(f"CMD {json.dumps(args['command'])}")
    return instructions


def _docker(*argv: str) -> str:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"docker {argv[0]}: {done.stderr.strip()}"
        raise AnsibleActionFail(message)
    return done.stdout.strip()


def added_variables(container: str) -> list[str]:
    """Return the names of variables that a container has of its own, and not of its image."""
    image, _, own = _docker(
        "container", "inspect", "--format={{.Image}} {{json .Config.Env}}", container
    ).partition(" ")
    given = json.loads(_docker("image", "inspect", "--format={{json .Config.Env}}", image)) or []
    added = set(json.loads(own) or []) - set(given)
    return sorted({variable.partition("=")[0] for variable in added})


class ActionModule(ActionBase):
    """See the module's documentation."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Commit the container."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(
            argument_spec={
                "container": {"type": "str", "required": True},
                "message": {"type": "str", "default": ""},
                "remove": {"type": "bool", "default": False},
                "entrypoint": {"type": "list", "elements": "str"},
                "command": {"type": "list", "elements": "str"},
                "env": {"type": "dict", "default": {}},
                "labels": {"type": "dict", "default": {}},
                "workdir": {"type": "path"},
                "exposed_ports": {"type": "list", "elements": "str", "default": []},
                "healthcheck": {
                    "type": "dict",
                    "options": {
                        "test": {"type": "list", "elements": "str", "required": True},
                        **{name: {"type": "str", "default": time} for name, time in HEALTH_TIMES.items()},
                    },
                },
            }
        )
        try:
            options = [f"--change={instruction}" for instruction in changes(args)]
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        if self._task.check_mode:
            result.update(changed=True, image_id="", size=0)
            return result
        added = added_variables(args["container"])
        if added:
            raise AnsibleActionFail(
                f"The container {args['container']} has {', '.join(added)} in its environment, and its image "
                "has not: the new image would keep that. Take away what gives variables to new containers."
            )
        image = _docker(
            "commit", "--pause=false", f"--message={args['message']}", *options, args["container"]
        )
        if args["remove"]:
            # Nothing waits for it: a removal that fails is the business of whoever cleans up at the end.
            quiet = subprocess.DEVNULL
            command = ["docker", "rm", "--force", args["container"]]
            subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        size = _docker("image", "inspect", "--format={{.Size}}", image)
        result.update(changed=True, image_id=image, size=int(size))
        return result
