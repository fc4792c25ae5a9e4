#!/usr/bin/env bash
# Make the image of a disposable host: a fresh Debian with systemd, sshd and sudo, as a cloud image has them, and nothing of a workspace.
# Usage: host_image.sh TAG SUITE MIRROR SECURITY_MIRROR [PACKAGE...]
set -euo pipefail

readonly TAG=$1 SUITE=$2 MIRROR=$3 SECURITY_MIRROR=$4
shift 4
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

packages=(ca-certificates dbus iproute2 libpam-systemd openssh-server procps python3 sudo systemd systemd-sysv udev "$@")
# A container has no terminal, no kernel modules to load, and no seats.
masked=(console-getty.service getty.target systemd-logind.service systemd-modules-load.service)

# No sources stay: which mirror a host uses is written when it is made. Nor do keys and identities, which each host makes itself.
# shellcheck disable=SC2016 # $1 is for mmdebstrap's shell
mmdebstrap --quiet --mode=root --variant=minbase --format=tar --keyring="$KEYRING" --include="$(IFS=,; echo "${packages[*]}")" \
  --customize-hook="install -m 0755 '$here/init.sh' \"\$1/sbin/container-init\"" \
  --customize-hook="chroot \"\$1\" systemctl --quiet mask ${masked[*]}" \
  --customize-hook='chroot "$1" systemctl --quiet set-default multi-user.target' \
  --customize-hook='chroot "$1" useradd --uid 1200 --create-home --shell /bin/bash admin' \
  --customize-hook='echo "admin ALL=(ALL) NOPASSWD:ALL" >"$1/etc/sudoers.d/admin"; chmod 0440 "$1/etc/sudoers.d/admin"' \
  --customize-hook='rm -rf "$1"/etc/ssh/ssh_host_* "$1/etc/apt/sources.list" "$1"/etc/apt/sources.list.d/* "$1"/var/lib/apt/lists/*' \
  --customize-hook='rm -rf "$1"/var/cache/apt/archives/*.deb; : >"$1/etc/machine-id"' \
  "$SUITE" "$work/host.tar" \
  "deb $MIRROR $SUITE main" "deb $MIRROR $SUITE-updates main" "deb $SECURITY_MIRROR $SUITE-security main" </dev/null

docker import \
  --change 'ENV container=docker' \
  --change 'ENTRYPOINT ["/sbin/container-init"]' \
  --message "disposable host of Debian $SUITE packages" \
  "$work/host.tar" "$TAG"
