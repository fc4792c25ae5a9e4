#!/usr/bin/env bash
# Run tests/e2e with the codex binary of the built image. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
container=$(docker create "${CODEX_WORKSPACE_IMAGE:-codex-workspace:latest}")
trap 'docker rm --force "$container" >/dev/null; rm -rf "$work"' EXIT
docker cp "$container:/usr/lib/node_modules/@openai" "$work/"
CODEX_BIN=$(find "$work" -path '*/vendor/*/codex/codex' -type f)
export CODEX_BIN
pytest tests/e2e "$@"
