#!/bin/sh
# What a machine's firmware and first boot do: a cgroup tree of its own, host keys of its own, then systemd.
set -eu

mount -o remount,rw /sys
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As systemd does where it is not in a container; without it, services never see their credentials.
mount --make-rshared /
ssh-keygen -q -A
exec /lib/systemd/systemd
