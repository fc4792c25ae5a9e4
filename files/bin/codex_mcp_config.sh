#!/usr/bin/env bash
# The platform's tools in codex's config.toml. Kept for those who call it by this name: all of config.toml is rendered in one piece.
# Without a credential the tools are written all the same, and what is said of a provider stays as it is.
set -euo pipefail

here=${BASH_SOURCE[0]%/*}
[[ $here != "${BASH_SOURCE[0]}" ]] || here=.
exec "$here/workspace-python" "$here/render_provider_toml.py" --as codex-mcp "$@"
