#!/bin/sh
# List what a host is made of, a line an entry: its path, and the digest of a file. What any machine writes by itself while it runs is left
# out: logs, apt's lists and archives, journals of dpkg and systemd, caches that are made again, names that the network gives.
set -eu
find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /var/cache \
  -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /var/lib/docker -o -path /var/lib/containerd \
  -o -path '/etc/*-' -o -path /etc/hosts -o -path /etc/resolv.conf -o -path /etc/ld.so.cache -o -path /usr/share/man -o -path /root -o -path /home/admin -o -name __pycache__ \) -prune \
  -o -type f -exec sha256sum {} + -o ! -type f -print | sort
