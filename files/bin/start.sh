#!/usr/bin/env bash
# Entry point of the workspace. As root it prepares what the agent owns, then drops to the agent for good.
set -euo pipefail

readonly AGENT=agent
readonly CONFIGS=/configs

say() { printf '[start] %s\n' "$*" >&2; }

# Multi-line secrets do not survive an environment file, so the platform seeds them as files. Sourced before anything reads them.
load_secrets() {
  local loader="$CONFIGS/secrets.d/load.sh"
  [[ -r $loader ]] || return 0
  # shellcheck source=/dev/null
  source "$loader"
  say "secrets: loaded from $loader"
}

# Owned by the agent: the runtime and codex's MCP child read the same token from there, both as the agent.
own_directories() {
  local directory
  for directory in "$CONFIGS" /workspace; do
    if [[ ! -d $directory ]]; then
      say "$directory: absent"
    elif ! chown -R "$AGENT:$AGENT" "$directory" 2>/dev/null; then
      say "$directory: not writable here, left as it is"
    fi
  done
}

main() {
  load_secrets
  say "workspace ${WORKSPACE_ID:-(no WORKSPACE_ID)}, platform ${PLATFORM_URL:-(no PLATFORM_URL)}, uid $(id -u)"

  local drop=()
  if (($(id -u) == 0)); then
    own_directories
    export HOME="/home/$AGENT"
    drop=(gosu "$AGENT")
  else
    say "not root: ownership is left as it is"
  fi

  if (($# == 0)); then
    set -- molecule-runtime
  fi
  exec "${drop[@]}" "$@"
}

main "$@"
