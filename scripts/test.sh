#!/usr/bin/env bash
# Run the tests, from a fresh clone on. An engine that was not there before is stopped at the end. Usage: test.sh [all]
# With `all` come those that take longer than CI may: the README, followed on a fresh machine.
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

parts=(venv lint unit build demo image-test e2e build-test molecule molecule-vm molecule-t4)
if [[ ${1:-} == all ]]; then
  parts+=(fresh)
fi
for part in "${parts[@]}"; do
  printf '\n-- make %s\n' "$part"
  SECONDS=0
  make --no-print-directory "$part"
  times+=("$(printf '%6d %s' "$SECONDS" "$part")")
done
