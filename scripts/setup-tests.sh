#!/usr/bin/env bash
# Installs what the tests need besides Rust, with apt, as far as it is missing:
# a redis-server (one is started for each test that wants it), curl and Python's
# requests (the clients that tests follow redirects with).
set -euo pipefail

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v curl >/dev/null || missing+=(curl)
[ -x /usr/bin/python3 ] || missing+=(python3)
/usr/bin/python3 -c 'import requests' 2>/dev/null || missing+=(python3-requests)

if [ "${#missing[@]}" -eq 0 ]; then
  echo "setup: nothing is missing"
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "setup: there is no apt-get here; install by hand: ${missing[*]}" >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "setup: run this as root, or install sudo, to get: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi

# The server that the package starts by itself would only be in the way; it is
# left alone if it was there before.
had_redis=$(command -v redis-server || true)
echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
if [ -z "$had_redis" ] && [ -d /run/systemd/system ]; then
  "${as_root[@]}" systemctl disable --now redis-server || true
fi
echo "setup: done"
