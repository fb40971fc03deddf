#!/usr/bin/env bash
# Installs what the tests need besides Rust, with apt, as far as it is missing:
# a redis-server (one is started for each test that wants it), curl, patch and Python's
# requests (the clients that tests follow redirects with), a Prometheus, which the oracle
# asks, a Chromium (65 MB to fetch), which looks at the dashboard, and tmux, whose terminals
# `funicular top` is looked at in.
#
# Two more servers are put into target/tools, beside the system and not into it, if
# they are not there yet: a Redis 8, which can be waited for until the disk has what
# was written (Debian 12 has 7.0), and a Valkey, which can not though it says so.
# Without them the tests that need them say that they are skipped.
#
# Docker, its daemon and images: scripts/setup-docker.sh. Tests in containers are not
# skipped without them, they fail.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v curl >/dev/null || missing+=(curl)
command -v patch >/dev/null || missing+=(patch)
[ -x /usr/bin/python3 ] || missing+=(python3)
/usr/bin/python3 -c 'import requests' 2>/dev/null || missing+=(python3-requests)
command -v prometheus >/dev/null || missing+=(prometheus)
command -v tmux >/dev/null || missing+=(tmux)
if ! command -v chromium-headless-shell >/dev/null && ! command -v chromium >/dev/null &&
  ! command -v google-chrome >/dev/null; then
  # The part of it that needs no window, where Debian has it by itself. It draws with these
  # fonts, wherever the pictures of the documentation are made.
  missing+=("$(apt-cache show chromium-headless-shell 2>/dev/null | grep -q ^Package: &&
    echo chromium-headless-shell || echo chromium)" fonts-dejavu-core)
fi

install_missing() {
  if ! command -v apt-get >/dev/null; then
    echo "setup: there is no apt-get here; install by hand: ${missing[*]}" >&2
    exit 1
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "setup: run this as root, or install sudo, to get: ${missing[*]}" >&2
      exit 1
    }
    as_root=(sudo)
  fi
  # The server that the package starts by itself would only be in the way; it is
  # left alone if it was there before.
  local had_redis had_prometheus
  had_redis=$(command -v redis-server || true)
  had_prometheus=$(command -v prometheus || true)
  echo "setup: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
  if [ -z "$had_redis" ] && [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl disable --now redis-server || true
  fi
  if [ -z "$had_prometheus" ] && [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl disable --now prometheus prometheus-node-exporter || true
  fi
}

tools=${CARGO_TARGET_DIR:-target}/tools
loader=ld-linux-x86-64.so.2

# fetch SUITE PACKAGE...: unpacks packages of Debian into $unpacked. With lists and
# settings of its own, apt leaves the system as it is.
fetch() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg suite=$1 work=$unpacked deb
  shift
  [ -r "$keyring" ] && [ "$(uname -m)" = x86_64 ] && command -v apt-get dpkg >/dev/null ||
    return 1
  # From wherever this system has its packages.
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$') || return 1
  mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/debs
  echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/sources.list"
  local apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list"
    -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=
    -o Acquire::Retries=2 -o Acquire::http::Timeout=20)
  "${apt[@]}" update || return 1
  (cd "$work/debs" && "${apt[@]}" download "$@") || return 1
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/root" || return 1; done
}

# The server itself is in the package of its tools. It comes with the libraries it
# was built for, which a system of another release does not have.
fetch_server() {
  local server=$1 suite=$2 unpacked status=0
  unpacked=$(mktemp -d)
  echo "setup: fetching $server from $suite into $tools"
  fetch "$suite" "$server-server" "$server-tools" libc6 libatomic1 libgcc-s1 "libstdc++6" \
    libjemalloc2 libcap2 liblzf1 libzstd1 libssl3t64 libsystemd0 zlib1g &&
    place "$server" "$unpacked/root" || status=1
  rm -rf "$unpacked"
  return "$status"
}

place() {
  local server=$1 root=$2 home
  home=$(mkdir -p "$tools/$server" && cd "$tools/$server" && pwd) || return 1
  cp -L "$root/usr/bin/$server-server" "$home/server" &&
    cp -aL "$root"/usr/lib/x86_64-linux-gnu/*.so* "$home/" &&
    printf '#!/bin/sh\nhome=${0%%/*}/%s\nexec "$home/%s" --library-path "$home" "$home/server" "$@"\n' \
      "$server" "$loader" >"$home/start" &&
    chmod +x "$home/start" && "$home/$loader" --library-path "$home" "$home/server" --version \
      >/dev/null && mv "$home/start" "$tools/$server-server"
}

is_redis_8() {
  "$1" --version 2>/dev/null | grep -qE '^Redis server v=([89]|[1-9][0-9])\.'
}

done_something=
if [ "${#missing[@]}" -ne 0 ]; then
  install_missing
  done_something=yes
fi
if ! is_redis_8 redis-server && ! is_redis_8 "$tools/redis-server"; then
  fetch_server redis trixie ||
    echo "setup: no Redis 8 to be had here; tests that need it are skipped" >&2
  done_something=yes
fi
if ! command -v valkey-server >/dev/null && ! [ -x "$tools/valkey-server" ]; then
  fetch_server valkey trixie ||
    echo "setup: no Valkey to be had here; tests that need it are skipped" >&2
  done_something=yes
fi
scripts/setup-docker.sh ||
  echo "setup: no Docker to be had here (see above); tests in containers will fail" >&2
[ -n "$done_something" ] && echo "setup: done" || echo "setup: nothing is missing"
