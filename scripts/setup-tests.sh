#!/usr/bin/env bash
# Installs what the tests need besides Rust, with apt, as far as it is missing:
# a redis-server (one is started for each test that wants it), curl and Python's
# requests (the clients that tests follow redirects with).
#
# Where Debian's own redis-server has no WAITAOF (before 7.2), a valkey-server from
# its backports is put into target/tools, beside it and not into the system. Without
# one, the tests of power loss with `everysec` say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v curl >/dev/null || missing+=(curl)
[ -x /usr/bin/python3 ] || missing+=(python3)
/usr/bin/python3 -c 'import requests' 2>/dev/null || missing+=(python3-requests)

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
  local had_redis
  had_redis=$(command -v redis-server || true)
  echo "setup: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
  if [ -z "$had_redis" ] && [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl disable --now redis-server || true
  fi
}

# Whether this server (7.2 or newer, or any Valkey) can be waited for.
has_waitaof() {
  local version
  version=$("$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9]*\.[0-9]*\).*/\1/p') || return 1
  [ -n "$version" ] && [ "$(printf '%s\n' 7.2 "$version" | sort -V | head -n 1)" = 7.2 ]
}

tools=${CARGO_TARGET_DIR:-target}/tools

have_waitaof() {
  local server
  for server in "${FUNICULAR_WAITAOF_SERVER:-}" redis-server valkey-server \
    "$tools/valkey-server"; do
    [ -n "$server" ] && has_waitaof "$server" && return 0
  done
  return 1
}

unpack() {
  local deb
  for deb in "$1"/debs/*.deb; do dpkg -x "$deb" "$1/root" || return 1; done
}

# With lists and settings of its own, apt leaves the system as it is.
fetch_valkey() {
  local release keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null)
  grep -q '^ID=debian$' /etc/os-release 2>/dev/null && [ -n "$release" ] && [ -r "$keyring" ] &&
    command -v apt-get dpkg >/dev/null || return 1
  local work status=0
  work=$(mktemp -d)
  mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/debs
  echo "deb [signed-by=$keyring] http://deb.debian.org/debian $release-backports main" \
    >"$work/sources.list"
  local apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list"
    -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=
    -o Acquire::Retries=2 -o Acquire::http::Timeout=20)
  # The server itself is in the package of its tools.
  {
    "${apt[@]}" update &&
      (cd "$work/debs" && "${apt[@]}" download valkey-server valkey-tools) &&
      unpack "$work" &&
      mkdir -p "$tools" &&
      cp -L "$work/root/usr/bin/valkey-server" "$tools/valkey-server.new" &&
      has_waitaof "$tools/valkey-server.new" &&
      mv "$tools/valkey-server.new" "$tools/valkey-server"
  } || status=1
  rm -rf "$work" "$tools/valkey-server.new"
  return "$status"
}

done_something=
if [ "${#missing[@]}" -ne 0 ]; then
  install_missing
  done_something=yes
fi
if ! have_waitaof; then
  echo "setup: fetching valkey-server, a server with WAITAOF, into $tools"
  fetch_valkey || echo "setup: there is none to be had here; tests that need it are skipped" >&2
  done_something=yes
fi
[ -n "$done_something" ] && echo "setup: done" || echo "setup: nothing is missing"
