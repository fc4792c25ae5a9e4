#!/usr/bin/env bash
# Every linter and type checker of the project. Runs them all, and fails when one of them did.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

failed=()
run() {
  printf -- '-- %s\n' "$*"
  "$@" || failed+=("$1")
}

mapfile -t scripts < <(git ls-files -z --cached --others --exclude-standard | xargs -0 grep --directories=skip -lE '^#!.*(bash|/sh)$')
run ruff check .
run ruff format --check .
run mypy
run shellcheck "${scripts[@]}"
run yamllint --strict .
run ansible-lint

if ((${#failed[@]} > 0)); then
  echo "lint: failed: ${failed[*]}" >&2
  exit 1
fi
