#!/usr/bin/env bash
# The platform's tools in codex's config.toml. Kept for those who call it by this name: all of config.toml is rendered in one piece.
set -euo pipefail

exec "${BASH_SOURCE[0]%/*}/workspace-python" "${BASH_SOURCE[0]%/*}/render_provider_toml.py" "$@"
