#!/usr/bin/env bash
# Remove the environment, caches, and what builds of this repository have left on the Docker engine.
set -euo pipefail
cd "$(dirname "$0")/.."

rm -rf .venv .build .mypy_cache .pytest_cache .ruff_cache "${XDG_CACHE_HOME:-$HOME/.cache}/codex-workspace"
if docker version >/dev/null 2>&1; then
  docker images --quiet --filter label=codex-workspace.layer.key | sort -u | xargs --no-run-if-empty docker image rm --force
  for name in codex-workspace-base codex-workspace-host; do
    docker images --quiet "$name" | sort -u | xargs --no-run-if-empty docker image rm --force
  done
fi
