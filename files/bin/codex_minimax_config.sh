#!/usr/bin/env bash
# MiniMax in codex's config.toml, where it is the provider of the workspace. Kept for those who call it by this name.
set -euo pipefail

here=${BASH_SOURCE[0]%/*}
[[ $here != "${BASH_SOURCE[0]}" ]] || here=.
exec "$here/workspace-python" "$here/render_provider_toml.py" "$@"
