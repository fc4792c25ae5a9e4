#!/usr/bin/env bash
# MiniMax in codex's config.toml, where it is the provider of the workspace. Kept for those who call it by this name.
set -euo pipefail

exec "${BASH_SOURCE[0]%/*}/workspace-python" "${BASH_SOURCE[0]%/*}/render_provider_toml.py" "$@"
