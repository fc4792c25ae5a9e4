#!/usr/bin/env bash
# Make a stand-in for python:3.11-slim of Debian packages, and import it into the Docker engine.
# Usage: bootstrap.sh TAG SUITE PYTHON_SUITE MIRROR SECURITY_MIRROR
set -euo pipefail
# What is copied into the tree keeps its mode, and apt reads it as a user of its own.
umask 022

readonly TAG=$1 SUITE=$2 PYTHON_SUITE=$3 MIRROR=$4 SECURITY_MIRROR=$5
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Apt as slim images have it: no package cache, no translations, nothing kept for a "suggests".
mkdir -p "$work/apt.conf.d" "$work/dpkg.cfg.d" "$work/preferences.d" "$work/sources.list.d"
# This one comes last: newer apt runs its hooks inside the tree, where there is no rm yet.
cat >"$work/docker-clean" <<'EOF'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
EOF
echo 'Acquire::Languages "none";' >"$work/apt.conf.d/docker-no-languages"
echo 'Acquire::GzipIndexes "true";' >"$work/apt.conf.d/docker-gzip-indexes"
echo 'Apt::AutoRemove::SuggestsImportant "false";' >"$work/apt.conf.d/docker-autoremove-suggests"
echo 'force-unsafe-io' >"$work/dpkg.cfg.d/docker-apt-speedup"
printf '%s\n' 'path-exclude /usr/share/doc/*' 'path-include /usr/share/doc/*/copyright' 'path-exclude /usr/share/man/*' \
  'path-exclude /usr/share/info/*' 'path-exclude /usr/share/locale/*' 'path-include /usr/share/locale/locale.alias' \
  >"$work/dpkg.cfg.d/docker-slim"

source_stanza() { printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' "$1" "$2" "$KEYRING"; }
{
  source_stanza "$MIRROR" "$SUITE $SUITE-updates"
  source_stanza "$SECURITY_MIRROR" "$SUITE-security"
} >"$work/sources.list.d/debian.sources"
if [[ $SUITE != "$PYTHON_SUITE" ]]; then
  {
    source_stanza "$MIRROR" "$PYTHON_SUITE $PYTHON_SUITE-updates"
    source_stanza "$SECURITY_MIRROR" "$PYTHON_SUITE-security"
  } >"$work/sources.list.d/python.sources"
  printf 'Package: *\nPin: release n=%s*\nPin-Priority: 100\n\nPackage: %s\nPin: release n=%s*\nPin-Priority: 900\n' \
    "$PYTHON_SUITE" 'python3.11* libpython3.11*' "$PYTHON_SUITE" >"$work/preferences.d/python"
fi

# shellcheck disable=SC2016 # $1 is for mmdebstrap's shell
mmdebstrap --quiet --mode=root --variant=minbase --format=tar --keyring="$KEYRING" \
  --include=ca-certificates,netbase,tzdata,python3.11,python3-pip-whl,python3-setuptools-whl \
  --setup-hook='mkdir -p "$1/etc/apt" "$1/etc/dpkg"; rm -f "$1/etc/apt/sources.list"' \
  --setup-hook="cp -r '$work/apt.conf.d' '$work/preferences.d' '$work/sources.list.d' \"\$1/etc/apt/\"" \
  --setup-hook="cp -r '$work/dpkg.cfg.d' \"\$1/etc/dpkg/\"" \
  --customize-hook="cp '$work/docker-clean' \"\$1/etc/apt/apt.conf.d/\"; rm -f \"\$1\"/var/cache/apt/*.bin" \
  --customize-hook='ln -s /usr/bin/python3.11 "$1/usr/local/bin/python3.11"' \
  --customize-hook='ln -s python3.11 "$1/usr/local/bin/python3"; ln -s python3 "$1/usr/local/bin/python"' \
  --customize-hook='rm -f "$1/usr/lib/python3.11/EXTERNALLY-MANAGED"' \
  --customize-hook='chroot "$1" sh -c "env -i PATH=\$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=\$(echo /usr/share/python-wheels/pip-*.whl) \
    /usr/local/bin/python3 -m pip install --quiet --no-compile --no-cache-dir --no-index --root-user-action ignore \
    --find-links /usr/share/python-wheels pip setuptools"' \
  --customize-hook='chroot "$1" dpkg --purge python3-pip-whl python3-setuptools-whl' \
  --customize-hook='rm -rf "$1"/var/log/*.log "$1"/var/log/apt "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old; : >"$1/etc/machine-id"' \
  --customize-hook='find "$1/usr" -name __pycache__ -type d -prune -exec rm -rf {} +' \
  "$SUITE" "$work/base.tar" - </dev/null

version=$(tar -xOf "$work/base.tar" ./var/lib/dpkg/status | sed -n '/^Package: python3.11$/,/^$/s/^Version: \([0-9.]*\).*/\1/p')
docker import \
  --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENV LANG=C.UTF-8' \
  --change "ENV PYTHON_VERSION=$version" \
  --change 'CMD ["python3"]' \
  --change 'LABEL codex-workspace.base.kind=stand-in' \
  --message "stand-in for python:3.11-slim from Debian $SUITE packages" \
  "$work/base.tar" "$TAG"
