#!/usr/bin/env bash
# Sees that the public images are there which functions and the compose file are made
# of, so that tests in containers build and run what is shipped, unchanged. An image
# that is missing is pulled; where there is no registry to pull from, an image of the
# same name is made of this machine's own files (a Debian's), and says so in its label.
#
#   scripts/test-images.sh            what is missing
#   scripts/test-images.sh --remove   takes away what was made here
set -euo pipefail
cd "$(dirname "$0")/.."

LABEL=org.funicular.made-of
RUST=rust:1.95-slim-bookworm
BUSYBOX=busybox:1.37
REDIS=redis:7-alpine
NGINX=nginx:stable-alpine

if [ "${1:-}" = --remove ]; then
  docker images --quiet --filter "label=$LABEL" | sort -u | xargs -r docker rmi --force
  exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools=$PWD/${CARGO_TARGET_DIR:-target}/tools
root=
no_registry=

as_root=()
if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then as_root=(sudo); fi

fail() { printf 'test-images: %s\n' "$*" >&2; exit 1; }
label() { docker image inspect --format "{{index .Config.Labels \"$LABEL\"}}" "$1" 2>/dev/null; }

# begin IMAGE: an empty root, laid out as Debian's.
begin() {
  echo "test-images: no registry, so $1 is made of this machine's files"
  root=$work/${1//[:\/]/-}
  mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,etc/ssl/certs,tmp,var,proc,sys,dev,root}
  for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
  chmod 1777 "$root/tmp"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
}

# program FILE [AS]: a program with the libraries that it is linked with.
program() {
  local file=$1 as=${2:-$1} library
  library=$(ldd "$file" 2>/dev/null | awk '/not found/ { print $1; exit }')
  [ -z "$library" ] || fail "$(basename "$file") needs $library, which this machine lacks; install it"
  mkdir -p "$root$(dirname "$as")"
  cp -L "$file" "$root$as"
  for library in $(ldd "$file" 2>/dev/null | grep -oE '/[^ ]+' || true); do
    mkdir -p "$root$(dirname "$library")"
    [ -e "$root$library" ] || cp -L "$library" "$root$library"
  done
}

# Downloads a package; where nobody has asked for the lists of packages yet, those first.
downloaded() {
  local get=(apt-get -qq -o APT::Sandbox::User= download "$1")
  (cd "$work" && "${get[@]}" 2>"$work/why") && return
  "${as_root[@]}" apt-get update -qq 2>"$work/why" >&2 || true
  (cd "$work" && "${get[@]}" 2>"$work/why")
}

# Debian's package of a program that is not to be installed here, only looked into.
unpacked() {
  local package=$1 dir=$tools/$1
  if [ ! -d "$dir" ]; then
    downloaded "$package" || fail "no package $package to be had here: $(tail -n 1 "$work/why")"
    dpkg -x "$work/$package"_*.deb "$work/$package"
    mkdir -p "$tools"
    mv "$work/$package" "$dir"
  fi
  printf '%s' "$dir"
}

shell() {
  program "$(unpacked busybox-static)/bin/busybox" /usr/bin/busybox
  local name
  for name in $("$root/usr/bin/busybox" --list); do
    [ -e "$root/usr/bin/$name" ] || ln -s busybox "$root/usr/bin/$name"
  done
}

# end IMAGE MADE_OF [CHANGE...]
end() {
  local image=$1 made_of=$2 change changes=()
  shift 2
  for change in "LABEL $LABEL=\"$made_of\"" "$@"; do changes+=(--change "$change"); done
  tar -C "$root" --numeric-owner --owner=0 --group=0 -cf - . |
    docker import --platform "linux/$(dpkg --print-architecture)" "${changes[@]}" - "$image" >/dev/null
  rm -rf "$root"
}

make_busybox() {
  begin "$BUSYBOX"
  shell
  end "$BUSYBOX" "$1" 'CMD ["sh"]'
}

make_redis() {
  begin "$REDIS"
  shell
  program "$(command -v redis-server)" /usr/bin/redis-server
  program "$(command -v redis-cli)" /usr/bin/redis-cli
  mkdir "$root/data"
  end "$REDIS" "$1" 'WORKDIR /data' 'VOLUME /data' 'EXPOSE 6379' 'CMD ["redis-server"]'
}

make_nginx() {
  begin "$NGINX"
  shell
  program "$(unpacked nginx)/usr/sbin/nginx" /usr/sbin/nginx
  mkdir -p "$root"/{etc/nginx,var/log/nginx,var/lib/nginx}
  end "$NGINX" "$1" 'EXPOSE 80' 'CMD ["nginx", "-g", "daemon off;"]'
}

# A C compiler as Debian has it, and this machine's Rust, with the crates that it has
# loaded: what is built with it needs no network, and is built quickly rather than quick.
make_rust() {
  begin "$RUST"
  local packages=(bash dash coreutils sed grep findutils mawk gcc libc6-dev ca-certificates)
  apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts \
    --no-breaks --no-replaces --no-enhances "${packages[@]}" |
    grep -oE '^[a-z0-9.+-]+' | sort -u | xargs -r dpkg-query --listfiles 2>/dev/null |
    grep -vE '^/usr/share/(doc|man|locale|info|lintian)/' | sort -u >"$work/files" || true
  # As they are below /usr, whatever the packages call them.
  while read -r file; do
    [ -d "$file" ] && [ ! -L "$file" ] && continue
    [ -e "$file" ] || [ -L "$file" ] || continue
    case $file in /bin/* | /sbin/* | /lib/* | /lib64/*) file=/usr$file ;; esac
    printf '%s\n' "${file#/}"
  done <"$work/files" | sort -u >"$work/existing"
  tar -C / --no-recursion --ignore-failed-read --files-from "$work/existing" -cf - 2>/dev/null |
    tar -C "$root" -xf -
  ln -sf bash "$root/usr/bin/sh"
  ln -sf gcc "$root/usr/bin/cc"
  ln -sf mawk "$root/usr/bin/awk"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  local sysroot home=${CARGO_HOME:-$HOME/.cargo}
  # On a machine that has built nothing yet there are none.
  echo "test-images: loading the crates that go into $RUST"
  cargo fetch --locked --quiet || fail "the crates of Cargo.lock cannot be loaded (see above)"
  sysroot=$(rustc --print sysroot)
  mkdir -p "$root/usr/local/cargo/registry"
  tar -C "$sysroot" -cf - bin/cargo bin/rustc bin/rustdoc lib | tar -C "$root/usr/local" -xf -
  cp -a "$home"/registry/{index,cache} "$root/usr/local/cargo/registry/"
  end "$RUST" "$1" 'ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true' \
    'ENV CARGO_PROFILE_RELEASE_OPT_LEVEL=1' 'CMD ["bash"]'
}

# Pulls an image. Where one could not be had the others cannot either: asking for each
# would only take its time.
pulled() {
  [ -z "$no_registry" ] || { echo "$no_registry" >"$work/why"; return 1; }
  docker pull --quiet "$1" >/dev/null 2>"$work/why" && { echo "test-images: pulled $1"; return; }
  no_registry=$(tail -n 1 "$work/why")
  return 1
}

# need IMAGE MAKE WHAT: WHAT changes when what was made here is out of date.
need() {
  local image=$1 make=$2 what=$3 there
  : >"$work/why"
  if docker image inspect "$image" >/dev/null 2>&1; then
    there=$(label "$image")
    [ -z "$there" ] || [ "$there" = "$what" ] && return
  elif pulled "$image"; then
    return
  fi
  command -v dpkg apt-get ldd >/dev/null ||
    fail "$image cannot be pulled ($(tail -n 1 "$work/why")), and without Debian's tools it cannot be made"
  "$make" "$what"
}

version=$(dpkg-query --showformat '${Version}' --show libc6 2>/dev/null || true)
need "$BUSYBOX" make_busybox busybox-static
need "$REDIS" make_redis "$(redis-server --version | grep -o 'v=[^ ]*')"
need "$NGINX" make_nginx nginx
need "$RUST" make_rust "$(rustc --version) $version $(cksum <Cargo.lock | tr ' ' -)"
