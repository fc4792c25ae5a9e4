#!/usr/bin/env bash
# The platform's tools in codex's config.toml. Kept for those who call it by this name: all of config.toml is rendered in one piece.
set -euo pipefail

here=${BASH_SOURCE[0]%/*}
[[ $here != "${BASH_SOURCE[0]}" ]] || here=.
exec "$here/workspace-python" "$here/render_provider_toml.py" "$@"
