#!/bin/sh
# What a host knows of the workspace on it. The role puts these variables before it and runs it as root, in one round trip:
#   ACTION       status, open, activate, close, restore or remove
#   AGENT        name of the workspace's user
#   APP          all files that belong below /app, where they have just been put there; else empty
#   APPLIED      layers that are applied between open and close, each as name=key
#   COMMANDS     files of the workspace in /usr/local/bin
#   CREDENTIALS  names of its secrets
#   DRAIN        longest time that a restart waits for turns, in seconds
#   LOCK         file that the run has locked, and whose first word is TOKEN
#   MINIMUM      free space that an installation needs, in MB
#   PURGE        true takes the data too (remove)
#   SCRATCH      directory in which a run makes one of its own, for what only the installation needs
#   UNIT         name of its service
#
# A run is open from its first change until the service runs on what it made. While it is, /var/lib/codex-workspace/previous holds hard
# links to what was there before: a run that fails puts that back, and one that was cut off is repaired by the next.
set -eu
umask 077

STATE=/var/lib/codex-workspace
LAYERS='python packages engine nodejs agent t4 codex runtime payload smoke'
RUNNING='codex runtime payload'
DATA='/configs /workspace'
ENGINE_DATA='/etc/cni /etc/docker /var/lib/containerd /var/lib/docker'
PATHS=
for name in $COMMANDS; do
  PATHS="$PATHS /usr/local/bin/$name"
done
KEPT="/app /opt/molecule-venv /usr/lib/node_modules/@openai /usr/bin/codex /etc/codex-workspace /etc/systemd/system/$UNIT"
# Those of earlier versions too, until they are taken away.
KNOWN=$(printf '%s\n' "$COMMANDS" | tr ' ' '\n' | sort -u - $STATE/commands 2>/dev/null || printf '%s' "$COMMANDS")
for name in $KNOWN; do
  KEPT="$KEPT /usr/local/bin/$name"
done

# Path, type, mode, owner, size, time and target of all files below, without what Python caches.
listing() {
  find "$@" -name __pycache__ -prune -o ! -type d -printf '%p %y %m %U %G %s %T@ %l\n' 2>/dev/null | sort
}

# All that a layer's tasks look at: while it is what it was when they were done, they would find nothing to do.
seen() {
  case $1 in
    python) listing /opt/molecule-venv/pyvenv.cfg /opt/molecule-venv/bin "$(readlink -f /opt/molecule-venv/bin/python3)" ;;
    packages) listing /var/lib/dpkg/status ;;
    engine)
      listing /var/lib/dpkg/status
      test ! -e /usr/sbin/dockerd || systemctl is-active docker.service
      ;;
    nodejs) listing /var/lib/dpkg/status /usr/bin/node /usr/bin/npm ;;
    agent) getent passwd "$AGENT" && stat -c '%n %a %U' /configs /workspace ;;
    t4) listing /etc/sudoers.d/agent-t4 && id -nG "$AGENT" ;;
    codex) listing /usr/bin/codex /usr/lib/node_modules/@openai ;;
    runtime) listing /opt/molecule-venv ;;
    payload)
      # shellcheck disable=SC2086 # several paths
      listing /app $PATHS
      ;;
    smoke) ;;
    service) listing /etc/codex-workspace "/etc/systemd/system/$UNIT" ;;
  esac
}

digest() {
  sum=$(seen "$1" 2>/dev/null | sha256sum)
  echo "${sum%% *}"
}

# What the service is started from.
running() {
  for layer in $RUNNING service; do
    printf '%s ' "$(digest "$layer")"
  done | sed 's/ $//'
}

# What is in the way of a first installation: the role takes nothing over that it did not make.
foreign() {
  test "$(id -u)" = 0 || return 0
  test ! -f "$STATE/found" || return 0
  test -z "$(ls -A /app 2>/dev/null)" || echo /app
  for name in $COMMANDS; do
    test ! -e "/usr/local/bin/$name" || echo "/usr/local/bin/$name"
  done
  # npm's link to another version is npm's to replace, and no other file.
  test ! -e /usr/bin/codex || test -e /usr/lib/node_modules/@openai/codex || echo /usr/bin/codex
}

# What the service would run instead of what the role installs.
shadowing() {
  for path in /usr/local/sbin/codex /usr/local/bin/codex /usr/sbin/codex; do
    test ! -e "$path" || test "$path" -ef /usr/bin/codex || echo "$path"
  done
}

# The directory itself, or the nearest one above it that is there.
nearest() {
  directory=$1
  while [ ! -d "${directory:-/}" ]; do
    directory=${directory%/*}
  done
  echo "${directory:-/}"
}

# Root may write wherever a file system takes it.
read_only() {
  for path in /etc /opt /usr /usr/local/bin /var/lib "$SCRATCH"; do
    test -w "$(nearest "$path")" || echo "$path"
  done
}

# uv runs from the one, and Python maps libraries from the other.
not_executable() {
  for path in /opt/molecule-venv "$SCRATCH"; do
    case ",$(findmnt --noheadings --output OPTIONS --target "$(nearest "$path")")," in
      *,noexec,*) echo "$path" ;;
    esac
  done
}

# Whose directory it is that others could put something into, in root's way.
unsafe_scratch() {
  test -e "$SCRATCH" || return 0
  test -d "$SCRATCH" || {
    echo 'is no directory'
    return 0
  }
  test -z "$(find -H "$SCRATCH" -maxdepth 0 ! -user 0)" || {
    echo "belongs to the user $(stat -Lc %U "$SCRATCH"), who could change what root runs from there"
    return 0
  }
  test -z "$(find -H "$SCRATCH" -maxdepth 0 -perm /022 ! -perm -1000)" || echo 'other users may write into'
}

# File systems without the room for an installation: where, what is free and what is needed, in MB. Most of it is in /usr.
short() {
  df -Pm / /usr /opt /var/lib "$(nearest "$SCRATCH")" | awk -v all="$MINIMUM" 'NR > 1 {
    needed = NR < 4 ? all : int(all / 4)
    if ($4 < needed && !said[$6]++) print $6, $4, needed
  }'
}

status() {
  echo "uid=$(id -u)"
  echo "init=$(cat /proc/1/comm)"
  echo "systemd=$(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')"
  echo "foreign=$(foreign | paste -sd ' ')"
  echo "shadowing=$(shadowing | paste -sd ' ')"
  echo "read_only=$(read_only | paste -sd ' ')"
  echo "not_executable=$(not_executable | paste -sd ' ')"
  echo "unsafe_scratch=$(unsafe_scratch)"
  echo "short=$(short | head -n 1)"
  systemctl show --property=ActiveState,UnitFileState "$UNIT"
  service_runs_on=
  for layer in $LAYERS; do
    now=$(digest "$layer")
    ! has "$layer" "$RUNNING" || service_runs_on="$service_runs_on$now "
    read -r key recorded 2>/dev/null <"$STATE/layers/$layer" || key=
    if [ -n "$key" ] && [ "$recorded" = "$now" ]; then
      echo "layer_$layer=$key"
    else
      about "$layer"
    fi
  done
  test "$(cat "$STATE/running" 2>/dev/null)" != "$service_runs_on$(digest service)" || echo current=yes
  test ! -d "$STATE/previous" || echo open=yes
}

# What is looked at only where a layer is not as it was left.
about() {
  case $1 in
    python) echo "modules_python=$(/usr/bin/python3 -c 'import sys; print(sys.version_info >= (3, 9))' 2>/dev/null)" ;;
    nodejs)
      echo "node=$(node --version 2>/dev/null)"
      echo "node_path=$(command -v node)"
      echo "npm=$(command -v npm)"
      echo "our_node=$(if [ -f "$STATE/found" ] && ! was_found /usr/bin/node; then echo yes; fi)"
      ;;
  esac
}

installed() {
  # shellcheck disable=SC2016 # a format of dpkg
  dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort
}

# Names of what the role makes only where it is missing, and so takes away only where it was.
found() {
  ! getent passwd "$AGENT" >/dev/null || echo user
  ! getent group docker >/dev/null || echo group
  ! getent group "$AGENT" >/dev/null || echo agent-group
  for path in $DATA $ENGINE_DATA /usr/bin/node /usr/lib/node_modules/@openai/codex /etc/apt/keyrings/nodesource.asc \
    /etc/apt/sources.list.d/nodesource.sources; do
    test ! -e "$path" || echo "$path"
  done
}

replace() {
  cat >"$1.new"
  mv "$1.new" "$1"
}

# Says where it is. Nobody knows its name beforehand, and of what was in the directory already, nothing is touched.
make_scratch() {
  remove_scratch
  if [ ! -d "$SCRATCH" ]; then
    mkdir -p "${SCRATCH%/*}/"
    mkdir "$SCRATCH"
    made=$SCRATCH
  else
    made=
  fi
  directory=$(mktemp -d "${SCRATCH%/}/codex-workspace.XXXXXXXXXX")
  printf '%s\n' "$directory" "$made" | replace "$STATE/scratch"
  echo "$directory"
}

# That of this run, or of one that was cut off.
remove_scratch() {
  test -f "$STATE/scratch" || return 0
  { read -r directory; read -r made; } <"$STATE/scratch"
  rm -rf "$directory"
  test -z "$made" || test ! -d "$made" || rmdir --ignore-fail-on-non-empty "$made"
  rm "$STATE/scratch"
}

open() {
  mkdir -p "$STATE/layers"
  test -f "$STATE/found" || found | replace "$STATE/found"
  printf '%s\n' "$KNOWN" | replace "$STATE/commands"
  if [ ! -d "$STATE/previous" ]; then
    rm -rf "$STATE/previous.new"
    mkdir -p "$STATE/previous.new/tree"
    for path in $KEPT; do
      test -e "$path" || continue
      keep "$path" "$STATE/previous.new/tree$path"
    done
    cp -a "$STATE/layers" "$STATE/previous.new/"
    installed >"$STATE/previous.new/packages"
    mv "$STATE/previous.new" "$STATE/previous"
  fi
  for layer in $APPLIED; do
    rm -f "$STATE/layers/${layer%%=*}"
  done
  make_scratch
}

# Links, and copies where /var is a file system of its own: links that fail leave the directories that they were to be in.
keep() {
  mkdir -p "${2%/*}"
  if ! cp -a --link "$1" "$2" 2>/dev/null; then
    rm -rf "$2"
    cp -a "$1" "$2"
  fi
}

# Packages that came while the run was open are the role's to take away again.
note_packages() {
  installed | comm -13 "$STATE/previous/packages" - | sort -u - "$STATE/packages" 2>/dev/null | replace "$STATE/packages"
}

close() {
  touch "$STATE/packages"
  note_packages
  for layer in $APPLIED; do
    echo "${layer#*=} $(digest "${layer%%=*}")" | replace "$STATE/layers/${layer%%=*}"
  done
  running | replace "$STATE/running"
  ! grep -qx docker.io "$STATE/packages" || touch "$STATE/engine"
  rm -rf "$STATE/previous"
}

# Runs the service on what is there now, as soon as no turn is under way.
activate() {
  if [ -n "$APP" ]; then
    find /app -name __pycache__ -prune -o -type f -print | while IFS= read -r path; do
      has "$path" "$APP" || rm -v "$path"
    done
  fi
  for name in $KNOWN; do
    has "$name" "$COMMANDS" || rm -fv "/usr/local/bin/$name"
  done
  find /etc/codex-workspace/credentials -type f | while IFS= read -r path; do
    has "${path##*/}" "$CREDENTIALS" || rm -v "$path"
  done
  systemctl daemon-reload
  systemctl enable --quiet "$UNIT"
  if [ "$(cat "$STATE/running" 2>/dev/null)" = "$(running)" ] && systemctl --quiet is-active "$UNIT"; then
    return 0
  fi
  echo restarted
  drain
  if ! goes_on; then
    echo "The run was ended before the service was restarted." >&2
    return 1
  fi
  touch "$STATE/previous/restarted"
  restart
}

has() {
  case " $2 " in
    *" $1 "*) ;;
    *) return 1 ;;
  esac
}

# Whether the run that this is a part of still is one. A controller that was killed leaves its last command behind.
goes_on() {
  test "$(cut -d' ' -f1 "$LOCK")" = "$TOKEN" && ! flock --nonblock "$LOCK" true
}

# Comes back when the runtime has no turn, has ended, or does not answer. It says its port when it is ready.
drain() {
  left=$DRAIN
  while [ "$left" -gt 0 ]; do
    port=$(systemctl show --property=StatusText --value "$UNIT" | sed -n 's/.* port \([0-9]*\).*/\1/p')
    test -n "$port" || return 0
    metrics=$(curl --silent --fail --noproxy '*' --max-time 5 "http://127.0.0.1:$port/metrics") || return 0
    turns=$(echo "$metrics" | awk '/^molecule_turns_(running|queued) / {turns += $2} END {print turns + 0}')
    test "$turns" != 0 || return 0
    sleep 1
    left=$((left - 1))
  done
  echo "$turns turns still ran after $DRAIN s, and are cut off"
}

restart() {
  systemctl reset-failed "$UNIT"
  if ! systemctl restart "$UNIT"; then
    echo "$UNIT does not start. Its last words:" >&2
    journalctl --unit "$UNIT" --lines 20 --no-pager --output cat >&2
    systemctl stop "$UNIT"
    return 1
  fi
}

restore() {
  # Of a copy that was not finished.
  rm -rf "$STATE/previous.new"
  test -d "$STATE/previous" || return 0
  touch "$STATE/packages"
  note_packages
  for path in $KEPT; do
    test -e "$STATE/previous/tree$path" || continue
    rm -rf "$path"
    mv "$STATE/previous/tree$path" "$path"
  done
  for layer in $RUNNING; do
    test ! -f "$STATE/previous/layers/$layer" || cp -a "$STATE/previous/layers/$layer" "$STATE/layers/"
  done
  systemctl daemon-reload
  # Not before it was tried with the new version: until then, the old one has not been stopped.
  if [ -f "$STATE/previous/restarted" ] && [ -f "$STATE/running" ]; then
    restart
  fi
  rm -rf "$STATE/previous"
  test ! -f "$STATE/running" || echo restored
}

# As `apt-get autoremove` would, but no package that was there before, or that another one depends on.
remove_packages() {
  test -s "$STATE/packages" || return 0
  installed | comm -12 - "$STATE/packages" | xargs --no-run-if-empty apt-mark auto >/dev/null
  removable=$(apt-get --simulate -o APT::AutoRemove::RecommendsImportant=false -o APT::AutoRemove::SuggestsImportant=false autoremove |
    sed -n 's/^Remv \([^ ]*\) .*/\1/p' | sort | comm -12 - "$STATE/packages")
  test -n "$removable" || return 0
  # shellcheck disable=SC2086 # names of packages
  others=$(apt-get --simulate purge $removable | sed -n 's/^\(Remv\|Purg\) \([^ ]*\) .*/\2/p' | sort -u | comm -23 - "$STATE/packages")
  if [ -n "$others" ]; then
    echo "Packages stay, since other ones would go with them: $others"
    return 0
  fi
  # shellcheck disable=SC2086 # names of packages
  DEBIAN_FRONTEND=noninteractive apt-get -q -y purge $removable
}

was_found() {
  grep -qx "$1" "$STATE/found"
}

remove() {
  test -f "$STATE/found" || return 0
  test -d "$STATE/layers" || [ "$PURGE" = true ] || return 0
  echo removed
  if [ -f "/etc/systemd/system/$UNIT" ]; then
    systemctl disable --quiet --now "$UNIT"
    rm -f "/etc/systemd/system/$UNIT"
    systemctl daemon-reload
  fi
  rm -rf /app /opt/molecule-venv /etc/codex-workspace /etc/sudoers.d/agent-t4
  for name in $KNOWN; do
    rm -f "/usr/local/bin/$name"
  done
  if ! was_found /usr/lib/node_modules/@openai/codex; then
    rm -rf /usr/bin/codex /usr/lib/node_modules/@openai/codex
  fi
  if ! was_found /usr/bin/node && ! dpkg-query --search /usr/bin/node >/dev/null 2>&1; then
    rm -rf /usr/bin/node /usr/bin/npm /usr/bin/npx /usr/lib/node_modules/npm
  fi
  for path in /etc/apt/keyrings/nodesource.asc /etc/apt/sources.list.d/nodesource.sources; do
    was_found "$path" || rm -f "$path"
  done
  remove_packages
  for path in /usr/lib/node_modules/@openai /usr/lib/node_modules; do
    test ! -d "$path" || rmdir --ignore-fail-on-non-empty "$path"
  done
  if ! was_found user && id -nG "$AGENT" | grep -qw docker; then
    gpasswd --delete "$AGENT" docker
  fi
  if ! was_found group && getent group docker >/dev/null && ! dpkg-query --show docker.io >/dev/null 2>&1; then
    groupdel docker
  fi
  remove_scratch
  rm -rf "$STATE/layers" "$STATE/previous" "$STATE/packages" "$STATE/running" "$STATE/commands"
  if [ "$PURGE" = true ]; then
    # Of an engine that the role brought, and that is gone: another one may have the same directories by now.
    if [ -f "$STATE/engine" ] && [ -z "$(command -v dockerd)" ]; then
      DATA="$DATA $ENGINE_DATA"
    fi
    for path in $DATA; do
      was_found "$path" || rm -rf "$path"
    done
    if ! was_found user; then
      group=$(getent group "$AGENT" | cut -d: -f3)
      userdel --remove "$AGENT"
      # It takes the group of that name with it.
      ! was_found agent-group || getent group "$AGENT" >/dev/null || groupadd --gid "$group" "$AGENT"
    fi
    rm -rf "$STATE"
  fi
}

"$ACTION"
