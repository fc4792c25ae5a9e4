"""Run a shell script on the target, and read what the script says and nothing else."""

from __future__ import annotations

import secrets
from typing import Any

from ansible.plugins.action import ActionBase

# The script arrives on the standard input, whole or with a parenthesis that is never closed: half of one does
# not run. It is in no argument, which has a length, and which a login shell that is no POSIX shell reads in
# its own way. There is no terminal, which would mix both streams.
RECEIVE = '/bin/sh -c "$(head -c {size})"'

# Who logs in there may have any umask, language and PATH. On a host the PATH that counts is that of services.
# A profile that speaks, or a sudo that warns, does so before the marks.
SCRIPT = """\
umask 022
unset LANGUAGE CDPATH ENV BASH_ENV POSIXLY_CORRECT
LC_ALL=C TERM=dumb; export LC_ALL TERM
{path}
printf '%s\\n' {mark}; printf '%s\\n' {mark} >&2
(
{script}
)
set -- $?
printf '%s %s\\n' {mark} "$1"; printf '%s\\n' {mark} >&2
exit "$1"
"""
PATH_OF_SERVICES = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH"


def between(said: str, mark: str) -> tuple[str | None, str]:
    """Return what stands between the two marks, and what follows the second one.

    None instead, and all that was said, where not even the first mark was said. Where only the second one is
    missing, the rest, and an empty text.
    """
    _, begun, rest = said.partition(f"{mark}\n")
    if not begun:
        return None, said
    inside, ended, after = rest.rpartition(mark)
    return (inside, after.strip()) if ended else (rest, "")


class ActionModule(ActionBase):
    """Run a script by the target's /bin/sh, in the C locale, with the umask 022, and without a terminal.

    Arguments: ``script``; ``stdin``, a text for its standard input, which is empty without one. It needs no
    Python there, and is skipped in check mode.

    Returns: ``rc``, ``stdout``, ``stderr`` and their lines, of the script alone; ``started``, whether it
    began. One that did not begin, since nobody let it, fails the task, with all that was said instead.
    """

    _VALID_ARGS = frozenset(("script", "stdin"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run it, and return what it said."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            result["skipped"] = True
            return result
        stdin = self._task.args.get("stdin", "").encode()
        result.update(self.execute(self._task.args["script"], task_vars or {}, stdin), changed=True)
        if result["rc"] != 0:
            result.update(failed=True, msg=result["stderr"].strip() or f"it exited {result['rc']}")
        return result

    def execute(self, script: str, task_vars: dict[str, Any], data: bytes = b"") -> dict[str, Any]:
        """Run a script, in check mode too, with ``data`` on its standard input; see `ActionModule`."""
        mark = f"codex-workspace-{secrets.token_hex(16)}"
        on_host = task_vars.get("codex_workspace_target") == "host"
        text = SCRIPT.format(mark=mark, script=script, path=PATH_OF_SERVICES if on_host else "").encode()
        done = self._low_level_execute_command(RECEIVE.format(size=len(text)), in_data=text + data)
        stdout, status = between(done["stdout"], mark)
        stderr, _ = between(done["stderr"], mark)
        started = stdout is not None
        if not started:
            stdout, stderr = done["stdout"], done["stderr"].strip() or done["stdout"].strip()
        return {
            "started": started,
            "rc": int(status) if started and status else done["rc"] or 1,
            "stdout": stdout,
            "stdout_lines": (stdout or "").splitlines(),
            "stderr": stderr or "",
            "stderr_lines": (stderr or "").splitlines(),
        }
