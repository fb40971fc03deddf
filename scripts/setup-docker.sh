#!/usr/bin/env bash
# Sees that a Docker daemon runs, for the tests in containers: installs Docker and
# docker-compose with apt where there is none, starts the daemon by hand where nobody
# else does, and gets the images that functions are built from.
#
#   scripts/setup-docker.sh          what is missing
#   scripts/setup-docker.sh --stop   ends the daemon that was started here
set -euo pipefail
cd "$(dirname "$0")/.."

state=${CARGO_TARGET_DIR:-target}/docker

as_root=()
if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then as_root=(sudo); fi

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
runs() { docker info >/dev/null 2>&1; }
has_compose() { command -v docker-compose || docker compose version; } >/dev/null 2>&1

if [ "${1:-}" = --stop ]; then
  [ -f "$state/pid" ] || { echo "setup: no Docker daemon was started here"; exit 0; }
  "${as_root[@]}" kill "$(cat "$state/pid")" && rm -f "$state/pid"
  exit
fi

install_docker() {
  command -v apt-get >/dev/null || fail "there is no apt-get here; install Docker and docker-compose by hand"
  echo "setup: installing $*"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

missing=()
runs || { command -v docker && command -v dockerd; } >/dev/null || missing+=(docker.io)
has_compose || missing+=(docker-compose)
[ "${#missing[@]}" -eq 0 ] || install_docker "${missing[@]}"

# start [ARGUMENT...]: starts the daemon, and says whether it serves.
start() {
  mkdir -p "$state"
  setsid nohup "${as_root[@]}" dockerd "$@" >"$state/log" 2>&1 </dev/null &
  echo $! >"$state/pid"
  for _ in $(seq 150); do
    runs && return
    kill -0 "$!" 2>/dev/null || return 1
    sleep 0.2
  done
  kill "$!" 2>/dev/null || true
  return 1
}

if ! runs; then
  command -v dockerd >/dev/null || fail "there is no dockerd here, and no daemon answers: start Docker"
  echo "setup: starting dockerd; its log is $state/log, scripts/setup-docker.sh --stop ends it"
  # Not every file system takes layers.
  start || start --storage-driver vfs || { tail -n 5 "$state/log" >&2; fail "dockerd does not start"; }
fi
scripts/test-images.sh
