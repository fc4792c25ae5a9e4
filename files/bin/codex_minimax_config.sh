#!/usr/bin/env bash
# MiniMax in codex's config.toml, where it is the provider of the workspace. Kept for those who call it by this name.
# Without MINIMAX_API_KEY there is nothing to do. CODEX_MINIMAX_MODEL and MINIMAX_API_BASE name another model and address.
set -euo pipefail

here=${BASH_SOURCE[0]%/*}
[[ $here != "${BASH_SOURCE[0]}" ]] || here=.
exec "$here/workspace-python" "$here/render_provider_toml.py" --as codex-minimax "$@"
