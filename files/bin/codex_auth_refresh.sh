#!/usr/bin/env bash
# Keeps the ChatGPT tokens in codex's auth.json fresh. The work is done by codex_auth_refresh.py; this entry sleeps between
# rounds, since a sleeping shell is a fifth of a sleeping Python.
set -uo pipefail

readonly EXIT_USAGE=64 EXIT_BROKEN=70 EXIT_NO_PYTHON=127
readonly DEFAULT_INTERVAL=21600 LONGEST_INTERVAL=31536000 FIRST_RETRY=60 LONGEST_RESTART=300

# All that a child is given. auth.json may be in the environment too (CODEX_AUTH_JSON), beside other credentials.
readonly KEPT_VARIABLES=" PATH HOME USER LOGNAME LANG LC_ALL LC_CTYPE TZ TMPDIR CODEX_HOME CODEX_PYTHON \
CODEX_AUTH_REFRESH_INTERVAL_SECONDS CODEX_AUTH_SAFETY_MARGIN_SECONDS CODEX_AUTH_STALE_AFTER_SECONDS \
CODEX_REFRESH_TOKEN_URL_OVERRIDE SSL_CERT_FILE SSL_CERT_DIR \
CODEX_AUTH_REFRESH_OWNER CODEX_WORKSPACE_AGENT_USER HTTPS_PROXY https_proxy ALL_PROXY all_proxy NO_PROXY no_proxy "

# A module that does not even load would leave Python with exit code 1, which here means "skipped".
readonly BOOTSTRAP='
import runpy, sys
try:
    runpy.run_path(sys.argv[1], run_name="__main__")
except Exception as error:
    print(f"codex_auth_refresh: {sys.argv[1]} does not load: {type(error).__name__}", file=sys.stderr)
    sys.exit(70)
'

usage() {
    cat <<'TEXT'
Usage: codex_auth_refresh.sh [--once | --supervise | --help]

Refreshes the ChatGPT tokens in $CODEX_HOME/auth.json when they are about to expire.
Without an option it does so every CODEX_AUTH_REFRESH_INTERVAL_SECONDS until it is stopped.

  --once       one round; its exit code is the result's
  --supervise  without end: the loop is started again when it dies
  --help       this text

Exit codes: 0 refreshed, 1 skipped, 2 transient failure, 3 permanent failure (sign in again),
64 wrong option or setting, 70 broken installation, 127 no Python.

Environment (seconds): CODEX_AUTH_REFRESH_INTERVAL_SECONDS (21600),
CODEX_AUTH_SAFETY_MARGIN_SECONDS (14400), CODEX_AUTH_STALE_AFTER_SECONDS (604800).
Also: CODEX_HOME (~/.codex), CODEX_PYTHON, CODEX_REFRESH_TOKEN_URL_OVERRIDE.
CODEX_AUTH_REFRESH_OWNER: 1 this workspace refreshes its account, 0 somebody else does, and nothing is ever sent
here. Where it is not set, --once refreshes, and the loop where PLATFORM_URL names no platform.
As root it becomes the user of the workspace (CODEX_WORKSPACE_AGENT_USER, agent), with the CODEX_HOME of that user.
TEXT
}

say() {
    printf 'codex_auth_refresh: %s\n' "$*" >&2
}

drop_other_variables() {
    local name
    while IFS= read -r name; do
        case $KEPT_VARIABLES in
            *" $name "*) ;;
            *) export -n "${name?}" ;;
        esac
    done < <(compgen -e)
}

check_interval() {
    interval=${CODEX_AUTH_REFRESH_INTERVAL_SECONDS:-$DEFAULT_INTERVAL}
    if [[ ! $interval =~ ^[0-9]{1,8}$ ]] || ((10#$interval < 1 || 10#$interval > LONGEST_INTERVAL)); then
        say "CODEX_AUTH_REFRESH_INTERVAL_SECONDS is '${interval//[![:print:]]/?}': give a whole number of seconds" \
            "from 1 to $LONGEST_INTERVAL, or unset it for $DEFAULT_INTERVAL"
        exit "$EXIT_USAGE"
    fi
    interval=$((10#$interval))
}

# A refresh token is single-use: of all who hold it one spends it, and the others only look. A platform refreshes the accounts that it
# gives out. Who asks for one round by hand asks for a refresh, unless it is said that somebody else does that.
decide_owner() {
    local mode=$1 platform=${PLATFORM_URL:-off}
    case ${CODEX_AUTH_REFRESH_OWNER:-} in
        0 | 1) ;;
        '')
            platform=${platform//[[:space:]]/}
            platform=${platform,,}
            CODEX_AUTH_REFRESH_OWNER=1
            if [[ $mode != once && ! $platform =~ ^(off|none)?/*$ ]]; then
                CODEX_AUTH_REFRESH_OWNER=0
            fi
            ;;
        *)
            say "CODEX_AUTH_REFRESH_OWNER is '${CODEX_AUTH_REFRESH_OWNER//[![:print:]]/?}': give 1 (this workspace refreshes" \
                "its own account) or 0 (another one does), or unset it for 0 under a platform and 1 without one"
            exit "$EXIT_USAGE"
            ;;
    esac
    export CODEX_AUTH_REFRESH_OWNER
}

find_module() {
    local candidate
    here=${BASH_SOURCE[0]%/*}
    [[ $here != "${BASH_SOURCE[0]}" ]] || here=.
    # In the repository files/bin is beside files/app; installed, the module is in /app.
    for candidate in "$here/../app/codex_auth_refresh.py" /app/codex_auth_refresh.py; do
        if [[ -r $candidate ]]; then
            module=$candidate
            return
        fi
    done
    say "codex_auth_refresh.py is neither in $here/../app nor in /app: install it"
    exit "$EXIT_BROKEN"
}

# Ends as the signal would have ended it, once the child has saved what it may just have been sent.
stop() {
    local signal=$1 number=$2 pid
    trap '' HUP INT TERM
    for pid in $(jobs -p); do
        kill -TERM "$pid" 2>/dev/null
    done
    wait
    trap - "$signal"
    kill -s "$signal" "$BASHPID"
    exit $((128 + number)) # PID 1 outlives its own signal
}

run_round() {
    "$here/workspace-python" -I -S -B -c "$BOOTSTRAP" "$module" </dev/null &
    wait "$!"
}

pause() {
    sleep "$1" >/dev/null 2>&1 &
    wait "$!"
    case $? in
        126 | 127)
            say "cannot sleep between two rounds: there is no sleep on PATH (${PATH//[![:print:]]/?}); add its directory"
            exit "$EXIT_BROKEN"
            ;;
    esac
}

loop() {
    local result retry=$FIRST_RETRY delay
    trap 'stop HUP 1' HUP
    trap 'stop INT 2' INT
    trap 'stop TERM 15' TERM
    while true; do
        run_round
        result=$?
        delay=$interval
        case $result in
            0 | 1 | 3) retry=$FIRST_RETRY ;;
            "$EXIT_USAGE" | "$EXIT_BROKEN" | "$EXIT_NO_PYTHON") exit "$result" ;;
            *)
                delay=$((retry < interval ? retry : interval))
                retry=$((delay * 2))
                ;;
        esac
        pause "$delay"
    done
}

# The loop in a child of its own. What no restart would mend ends it for good: that is said once, and not for ever.
supervise() {
    local result delay=1 started
    trap 'stop HUP 1' HUP
    trap 'stop INT 2' INT
    trap 'stop TERM 15' TERM
    while true; do
        started=$SECONDS
        loop &
        wait "$!"
        result=$?
        case $result in
            "$EXIT_USAGE" | "$EXIT_BROKEN" | "$EXIT_NO_PYTHON")
                say "ended with exit code $result, and is not started again: correct what it says above, and restart"
                exit "$result"
                ;;
        esac
        ((SECONDS - started < LONGEST_RESTART)) || delay=1
        say "the watchdog died (exit code $result) and is started again in $delay s"
        pause "$delay"
        delay=$((delay * 2 < LONGEST_RESTART ? delay * 2 : LONGEST_RESTART))
    done
}

main() {
    local mode=loop
    case ${1-} in
        '') ;;
        --once) mode=once ;;
        --supervise) mode=supervise ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            say "unknown option '${1//[![:print:]]/?}'"
            usage >&2
            exit "$EXIT_USAGE"
            ;;
    esac
    if (($# > 1)); then
        say "one option at most, $# given"
        usage >&2
        exit "$EXIT_USAGE"
    fi
    drop_other_variables
    check_interval
    find_module
    decide_owner "$mode"
    [[ $mode == once || $CODEX_AUTH_REFRESH_OWNER == 0 ]] || "$mode"
    exec "$here/workspace-python" -I -S -B -c "$BOOTSTRAP" "$module" </dev/null
}

main "$@"
