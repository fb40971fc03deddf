#!/usr/bin/env bash
# The main job as a story: a cart that is created at an edge, moves up to its parent
# and to the root while its client keeps using the old address, and comes home again
# with everything in it. Ends with 1 as soon as anything is not as told.
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=${FUNICULAR_BIN:-target/release/funicular}
DIR=$(mktemp -d)
UP=
export FUNICULAR_TOPOLOGY=topology/examples/italy.yaml

say()  { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf '\nNot as told: %s\n' "$*" >&2; exit 1; }
end()  {
  if [ -n "$UP" ]; then kill "$UP" 2>/dev/null || true; wait "$UP" 2>/dev/null || true; fi
  rm -rf "$DIR"
}
trap end EXIT

# What a client does: an ordinary request with one more header; redirects are followed.
cart() { # method, node's port, path, [body]
  local data=()
  if [ $# -gt 3 ]; then data=(-H 'Content-Type: application/json' -d "$4"); fi
  curl -sS -L --max-time 10 --fail-with-body -X "$1" -H 'X-session: ada' "${data[@]}" \
    -w '\n%{http_code} %{num_redirects} %{url_effective}' "http://127.0.0.1:$2/function/cart$3"
}
# Prints an answer and checks its status and how many redirects led to it.
expect() { # status, most redirects, what; the answer on stdin
  local answer status redirects url
  answer=$(cat)
  read -r status redirects url <<<"$(tail -n 1 <<<"$answer")"
  BODY=$(sed '$d' <<<"$answer")
  printf '   %s -> %s, %s redirects, answered by %s\n' "$3" "$status" "$redirects" "${url%%/function*}"
  [ "$status" = "$1" ] || fail "$3: status $status instead of $1: $BODY"
  [ "$redirects" -le "$2" ] || fail "$3: $redirects redirects"
}
funicular() { "$BIN" "$@" --secrets "$DIR/keys"; }
owner() { # the node that the session should be at
  funicular where ada --function cart --json >"$DIR/where"
  grep -q "\"$1\"" "$DIR/where" || fail "the session is not at $1: $(cat "$DIR/where")"
}

say "1. A country, two cities, three districts: six nodes in one process, nothing installed."
"$BIN" up --topology "$FUNICULAR_TOPOLOGY" --dir "$DIR/keys" >"$DIR/up" 2>&1 &
UP=$!
for _ in $(seq 200); do
  grep -q '^ready' "$DIR/up" && break
  kill -0 "$UP" 2>/dev/null || { cat "$DIR/up" >&2; fail "the tree does not start"; }
  sleep 0.05
done
grep -q '^ready' "$DIR/up" || fail "the tree is not ready"
sed '/^ready/d' "$DIR/up"

say "2. Ada creates a cart at the edge she is near to: navigli (8083)."
cart POST 8083 /items '{"sku":"apple","count":2}' >"$DIR/a"; expect 201 0 "POST apple at navigli" <"$DIR/a"
cart POST 8083 /items '{"sku":"pear","count":1}' >"$DIR/a"; expect 201 0 "POST pear at navigli" <"$DIR/a"

say "3. navigli is loaded: the session moves up to milan (8082)."
funicular offload ada --function cart --node navigli

say "4. Ada knows nothing of that and goes on at navigli; her client follows a 307."
cart POST 8083 /items '{"sku":"fig","count":3}' >"$DIR/a"; expect 201 1 "POST fig at navigli" <"$DIR/a"

say "5. milan is loaded too: up again, to the root, italy (8081)."
funicular offload ada --function cart --node milan
cart POST 8083 /items '{"sku":"plum","count":5}' >"$DIR/a"; expect 201 2 "POST plum at navigli" <"$DIR/a"

say "6. Every node that may know the session gives the same answer."
first=
for port in 8083 8082 8081; do
  cart GET $port /items >"$DIR/a"; expect 200 2 "GET at $port" <"$DIR/a"
  first=${first:-$BODY}
  [ "$BODY" = "$first" ] || fail "port $port answers $BODY instead of $first"
done
printf '   %s\n' "$first"

say "7. There is room again: the session comes home to navigli."
funicular onload ada --function cart --node navigli
cart GET 8083 /items >"$DIR/a"; expect 200 0 "GET at navigli" <"$DIR/a"
[ "$BODY" = "$first" ] || fail "the cart changed on its way home: $BODY"
for sku in apple pear fig plum; do
  [ "$(grep -o "\"$sku\"" <<<"$BODY" | wc -l)" = 1 ] || fail "$sku is not there exactly once"
done
funicular where ada --function cart

say "As told: nothing lost, nothing twice, no error seen. Try it yourself: $BIN up"
