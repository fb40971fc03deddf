#!/bin/sh
# Replaces functions' containers one by one without a refused request: a new one is
# started beside the old one, from the image and the settings as they are now, and the
# old one is told to leave when the new one is ready.
#
#   ./roll.sh                              every function of every node
#   ./roll.sh navigli-cart milan-cart      these
set -eu
[ -n "${COMPOSE_FILE:-}" ] || cd "$(dirname "$0")"

if docker compose version >/dev/null 2>&1; then
  compose() { docker compose "$@"; }
else
  compose() { docker-compose "$@"; }
fi

# Compose looks at every container of the tree, and gives up when one that it has listed is
# gone: another roll may be removing its own at the same time.
patiently() {
  for _ in 1 2 3 4; do
    "$@" 2>/dev/null && return
    sleep 1
  done
  "$@"
}

if [ $# -eq 0 ]; then
  # shellcheck disable=SC2046
  set -- $(compose config --services | grep -e - | grep -v -e '-redis$' -e '-oracle$' | sort)
fi

ready() { docker exec "$1" wget -q -O /dev/null http://127.0.0.1:8080/_/ready 2>/dev/null; }

for service in "$@"; do
  old=$(patiently compose ps -q "$service")
  [ -n "$old" ] || { echo "roll: $service does not run; start it with \`up\`" >&2; exit 1; }
  count=$(echo "$old" | wc -l)
  patiently compose up -d --no-deps --no-recreate --scale "$service=$((count * 2))" "$service" \
    >/dev/null 2>&1 ||
    { echo "roll: a second $service does not start; see \`docker compose logs $service\`" >&2; exit 1; }
  now=$(patiently compose ps -q "$service")
  for new in $now; do
    case $old in *"$new"*) continue ;; esac
    tries=60
    until ready "$new"; do
      tries=$((tries - 1))
      [ $tries -gt 0 ] ||
        { echo "roll: the new $service is not ready; the old one serves on" >&2; exit 1; }
      sleep 1
    done
  done
  # The gateway looks names up once a second.
  sleep 2
  # shellcheck disable=SC2086
  docker stop --time 45 $old >/dev/null
  # shellcheck disable=SC2086
  docker rm $old >/dev/null
  echo "roll: $service"
done
