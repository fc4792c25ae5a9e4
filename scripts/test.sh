#!/usr/bin/env bash
# Run every test there is, from a fresh clone on. An engine that was not there before is stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

engine=started
docker version >/dev/null 2>&1 && engine=found
times=()
finish() {
  status=$?
  if [[ $engine == started ]]; then
    make --no-print-directory engine-stop || status=1
  fi
  printf '\n-- seconds of each part\n'
  printf '%s\n' "${times[@]}"
  exit "$status"
}
trap finish EXIT

for part in venv lint unit build demo image-test e2e build-test molecule molecule-vm molecule-t4 fresh; do
  printf '\n-- make %s\n' "$part"
  SECONDS=0
  make --no-print-directory "$part"
  times+=("$(printf '%6d %s' "$SECONDS" "$part")")
done
