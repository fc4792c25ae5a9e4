#!/usr/bin/env -S --block-signal=TERM,INT bash
# Entry point of the workspace. All that it does is in entrypoint.py: as root it prepares what the agent owns, then it becomes the agent.
# As PID 1 it would lose a signal that comes before somebody handles it. Blocked, it waits for launcher.py.
set -euo pipefail

here=${BASH_SOURCE[0]%/*}
[[ $here != "${BASH_SOURCE[0]}" ]] || here=.
# In the repository files/bin is beside files/app; installed, the modules are in /app.
for app in "$here/../app" /app; do
    if [[ -r $app/entrypoint.py ]]; then
        exec "$here/workspace-python" "$app/launcher.py" "$app/entrypoint.py" "$@"
    fi
done
printf '[start] entrypoint.py is neither in %s/../app nor in /app: install it\n' "$here" >&2
exit 70
