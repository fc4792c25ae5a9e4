#!/usr/bin/env bash
# Make the controller's virtual environment from requirements.txt, hashes checked. Usage: venv.sh DIRECTORY
set -euo pipefail

readonly venv=$1
here=$(cd "$(dirname "$0")/.." && pwd)

python=
for candidate in python3 python3.13 python3.12 python3.11; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])'; then
    python=$candidate
    break
  fi
done
if [[ -z $python ]]; then
  echo "venv.sh: no Python 3.11 or newer was found on PATH. Install python3.11 or newer." >&2
  exit 1
fi

# Debian ships Python without the means to make a virtual environment.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  if (($(id -u) != 0)) || ! command -v apt-get >/dev/null; then
    echo "venv.sh: $python cannot make virtual environments. Install its venv module (Debian: apt-get install python3-venv)." >&2
    exit 1
  fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
fi

if [[ ! -x $venv/bin/python ]]; then
  "$python" -m venv "$venv"
fi
# The lock pins uv too; pip installs that one package, with its hash, and uv does the rest several times faster. It also removes
# what is not in the lock, pip included.
"$venv/bin/python" -m ensurepip >/dev/null
uv_lock=$(mktemp)
trap 'rm -f "$uv_lock"' EXIT
awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' "$here/requirements.txt" >"$uv_lock"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$uv_lock"

# uv does not read pip's configuration: hand it the index that a user behind a mirror has given pip.
if [[ -z ${UV_DEFAULT_INDEX:-} ]]; then
  index=$("$venv/bin/python" -m pip config get global.index-url 2>/dev/null || echo "${PIP_INDEX_URL:-}")
  if [[ -n $index ]]; then
    export UV_DEFAULT_INDEX=$index
  fi
fi
if [[ -z ${SSL_CERT_FILE:-} ]]; then
  cert=$("$venv/bin/python" -m pip config get global.cert 2>/dev/null || echo "${PIP_CERT:-}")
  if [[ -n $cert ]]; then
    export SSL_CERT_FILE=$cert
  fi
fi
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "$here/requirements.txt"
# Where Python may write no bytecode (PYTHONDONTWRITEBYTECODE, a virtual environment of another user), each start of ansible-playbook
# would compile it anew, which takes longer than a build that finds nothing to do. Of the collections, only those in use.
"$venv/bin/python" -m compileall -q -j 0 -x '/(ansible_test|ansible_collections/(?!ansible/posix/|community/docker/))' \
  "$venv/lib"
touch "$venv/.locked"
