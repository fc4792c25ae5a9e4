#!/usr/bin/env bash
# Run the molecule scenarios under names of this run's own. Arguments go to molecule.
set -euo pipefail
cd "$(dirname "$0")/.."

MOLECULE_RUN=$(od -An -N5 -tx1 /dev/urandom | tr -d ' \n')
export MOLECULE_RUN MOLECULE_EPHEMERAL_DIRECTORY=${TMPDIR:-/tmp}/molecule-$MOLECULE_RUN
trap 'rm -rf "$MOLECULE_EPHEMERAL_DIRECTORY"' EXIT
molecule "${@:-test}"
