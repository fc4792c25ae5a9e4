"""Hold a lock on a host from task to task, for as long as the playbook runs and no longer."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# On the host. The lock belongs to a process there, which ends when its standard input does. What a profile or
# sudo says before has no word of this run in it. One line: login shells that are no POSIX shell take no more.
HOLD = (
    "export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin; umask 077; exec 9>>{path};"
    " if flock --wait {wait} 9;"
    " then date '+{name} since %F %T %Z' >{path}; echo; echo {name}: held; cat >/dev/null;"
    " else echo; echo \"{name}: busy $(cut -d' ' -f2- {path})\"; fi"
)

# On the controller. Its end of that input closes with the playbook, however the playbook ends, or with the
# token. The first line is sudo's password, where it wants one.
HOLDER = """
IFS= read -r password
playbook=$1 token=$2
shift 2
{
  printf '%s\\n' "$password"
  while kill -0 "$playbook" 2>/dev/null && test -e "$token"; do sleep 1; done
} | "$@"
rm -f "$token"
"""


class ActionModule(ActionBase):
    """Take a lock, or with ``token`` give one back.

    Arguments: ``path`` of a file on the host, and ``wait_seconds``, the longest time to wait for another run;
    or ``token``.

    Returns: ``token``, a file of the controller. While the lock is held, its name is the first word of the
    file on the host. Fails where the other run has not ended in time. Nothing is taken in check mode, where
    nothing is changed.
    """

    _VALID_ARGS = frozenset(("path", "wait_seconds", "token"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start the holder, and wait until it has the lock."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result["changed"] = False
        args = self._task.args
        if "token" in args:
            Path(args["token"]).unlink(missing_ok=True)
            return result
        descriptor, token = tempfile.mkstemp(prefix="codex-workspace-lock-")
        os.close(descriptor)
        result["token"] = token
        if self._task.check_mode:
            return result
        name = Path(token).name
        script = HOLD.format(path=shlex.quote(args["path"]), name=name, wait=int(args["wait_seconds"]))
        holder = subprocess.Popen(
            ["sh", "-c", HOLDER, "holder", str(os.getppid()), token, *self._command(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        word, said = self._start(holder, name)
        if word == "held":
            return result
        Path(token).unlink(missing_ok=True)
        if word == "busy":
            reason = f"another run has been changing this host {said}. Run this again when it has ended"
        else:
            reason = f"the lock {args['path']} was not taken: {said}"
        raise AnsibleActionFail(reason)

    def _command(self, script: str) -> list[str]:
        """The command line that runs `script` on the host as the task would be run."""
        command = f"/bin/sh -c {shlex.quote(script)}"
        # As Ansible does: who is root already needs no sudo, which may not be there.
        user, root = self._get_remote_user(), self.get_become_option("become_user")
        if self._connection.become and (C.BECOME_ALLOW_SAME_USER or user != root or not user):
            command = self._connection.become.build_become_command(command, self._connection._shell)
        if self._connection.transport == "ssh":
            program = self._connection.get_option("ssh_executable")
            built = self._connection._build_command(program, "ssh", self._connection.host, command)
            return [os.fsdecode(word) for word in built]
        if self._connection.transport == "local":
            return ["sh", "-c", command]
        message = f"a host is locked over ssh or local, and not over {self._connection.transport}"
        raise AnsibleActionFail(message)

    def _start(self, holder: subprocess.Popen[str], name: str) -> tuple[str, str]:
        """Hand over the password, and return the holder's word and what came with it."""
        assert holder.stdin is not None  # noqa: S101 (both are pipes)
        assert holder.stdout is not None  # noqa: S101
        become = self._connection.become
        password = become.get_option("become_pass") if become else None
        holder.stdin.write(f"{password or ''}\n")
        holder.stdin.close()
        said = []
        for line in holder.stdout:
            mark, _, rest = line.strip().partition(": ")
            if mark == name:
                word, _, since = rest.partition(" ")
                return word, since
            said.append(line.strip())
        return "", " ".join(said) or "no reason given"
