#!/usr/bin/env bash
# Run a molecule scenario under names of this run's own. Usage: molecule.sh [SCENARIO [COMMAND [OPTION...]]], default: default test
#
# With MOLECULE_RUN set to a name of yours, the keys of the hosts are kept for the next command of the same run:
#   export MOLECULE_RUN=mine; scripts/molecule.sh vm create; scripts/molecule.sh vm verify; scripts/molecule.sh vm destroy
set -euo pipefail
cd "$(dirname "$0")/.."

readonly scenario=${1:-default} command=${2:-test}
shift $(($# < 2 ? $# : 2))
kept=${MOLECULE_RUN:-}
export MOLECULE_RUN=${MOLECULE_RUN:-$(od -An -N5 -tx1 /dev/urandom | tr -d ' \n')}
readonly directory=${TMPDIR:-/tmp}/molecule-$MOLECULE_RUN
export MOLECULE_EPHEMERAL_DIRECTORY=$directory/$scenario
cleanup() {
  rm -rf "$directory"
  # molecule destroys what it made, but not when it is interrupted.
  docker ps --all --quiet --filter "label=codex-workspace.molecule.run=$MOLECULE_RUN" | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
}
if [[ -z $kept ]]; then
  trap cleanup EXIT
fi
# molecule wraps what ansible prints, tables too.
export COLUMNS=${COLUMNS:-180}
(umask 077 && mkdir -p "$MOLECULE_EPHEMERAL_DIRECTORY")
molecule "$command" --scenario-name "$scenario" "$@"
