#!/usr/bin/env bash
# The main job as a story: a cart that is created at an edge, moves up to its parent
# and to the root while its client keeps using the old address, and comes home again
# with everything in it. Then a crowd comes to that edge, and its oracle does the same
# by itself. Ends with 1 as soon as anything is not as told.
#
# FUNICULAR_BIN: another program; FUNICULAR_TOPOLOGY: the same tree at other ports;
# DEMO_LOAD: for how long the crowd stays, in seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=${FUNICULAR_BIN:-target/release/funicular}
DIR=$(mktemp -d)
UP=
LOAD=
export FUNICULAR_TOPOLOGY=${FUNICULAR_TOPOLOGY:-topology/examples/italy.yaml}
DEMO_LOAD=${DEMO_LOAD:-25}

say()  { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf '\nNot as told: %s\n' "$*" >&2; exit 1; }
end()  {
  if [ -n "$LOAD" ]; then kill "$LOAD" 2>/dev/null || true; wait "$LOAD" 2>/dev/null || true; fi
  if [ -n "$UP" ]; then kill "$UP" 2>/dev/null || true; wait "$UP" 2>/dev/null || true; fi
  rm -rf "$DIR"
}
trap end EXIT
gateway() { # of a node
  awk -v node="$1" '$NF == node { it = 1 } it && /gateway:/ { print $2; exit }' "$FUNICULAR_TOPOLOGY"
}
port() { gateway "$1" | sed 's/.*://'; }

# What a client does: an ordinary request with one more header; redirects are followed.
cart() { # method, node, path, [body]
  local data=()
  if [ $# -gt 3 ]; then data=(-H 'Content-Type: application/json' -d "$4"); fi
  curl -sS -L --max-time 10 --fail-with-body -X "$1" -H 'X-session: ada' "${data[@]}" \
    -w '\n%{http_code} %{num_redirects} %{url_effective}' "$(gateway "$2")/function/cart$3"
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
# An edge is small: two requests run at once there, the others wait for their turn.
"$BIN" up --topology "$FUNICULAR_TOPOLOGY" --dir "$DIR/keys" --set navigli:max_running=2 \
  --oracle-config scripts/demo-oracle.yaml >"$DIR/up" 2>&1 &
UP=$!
for _ in $(seq 200); do
  grep -q '^ready' "$DIR/up" && break
  kill -0 "$UP" 2>/dev/null || { cat "$DIR/up" >&2; fail "the tree does not start"; }
  sleep 0.05
done
grep -q '^ready' "$DIR/up" || fail "the tree is not ready"
sed '/^ready/d' "$DIR/up"

say "2. Ada creates a cart at the edge she is near to: navigli ($(port navigli))."
cart POST navigli /items '{"sku":"apple","count":2}' >"$DIR/a"; expect 201 0 "POST apple at navigli" <"$DIR/a"
cart POST navigli /items '{"sku":"pear","count":1}' >"$DIR/a"; expect 201 0 "POST pear at navigli" <"$DIR/a"

say "3. navigli is loaded: the session moves up to milan ($(port milan))."
funicular offload ada --function cart --node navigli

say "4. Ada knows nothing of that and goes on at navigli; her client follows a 307."
cart POST navigli /items '{"sku":"fig","count":3}' >"$DIR/a"; expect 201 1 "POST fig at navigli" <"$DIR/a"

say "5. milan is loaded too: up again, to the root, italy ($(port italy))."
funicular offload ada --function cart --node milan
cart POST navigli /items '{"sku":"plum","count":5}' >"$DIR/a"; expect 201 2 "POST plum at navigli" <"$DIR/a"

say "6. Every node that may know the session gives the same answer."
first=
for node in navigli milan italy; do
  cart GET $node /items >"$DIR/a"; expect 200 2 "GET at $node" <"$DIR/a"
  first=${first:-$BODY}
  [ "$BODY" = "$first" ] || fail "$node answers $BODY instead of $first"
done
printf '   %s\n' "$first"

say "7. There is room again: the session comes home to navigli."
funicular onload ada --function cart --node navigli
cart GET navigli /items >"$DIR/a"; expect 200 0 "GET at navigli" <"$DIR/a"
[ "$BODY" = "$first" ] || fail "the cart changed on its way home: $BODY"
for sku in apple pear fig plum; do
  [ "$(grep -o "\"$sku\"" <<<"$BODY" | wc -l)" = 1 ] || fail "$sku is not there exactly once"
done
funicular where ada --function cart

CLIENTS=24
say "8. A crowd comes to navigli: $CLIENTS clients with a session each, all at once."
echo "   Each request of function \`work\` takes 0.1 s, and two run at once at navigli: 20 a second."
echo "   Nobody tells anybody to move anything now. The oracle of navigli goes by"
echo "   scripts/demo-oracle.yaml: at a wait of 0.25 s sessions go, down to 0.1 s, 8 in 3 s at most."
grep -i '^dashboard' "$DIR/up" | sed 's/^/   Watch it: /' || true
oracle() { funicular_oracle explain --node navigli --function work "$@"; }
funicular_oracle() { "$BIN" oracle "$@"; }
at() { # how many sessions of `work` a node has
  funicular status --function work --json >"$DIR/status" || fail "the nodes do not say what they have"
  awk -v node="\"$1\"," '/"node":/ { it = ($2 == node) } it && /"sessions":/ { gsub(/[^0-9]/, "", $2); print $2; exit }' \
    "$DIR/status"
}
# Prints what the oracle has decided since the last time: one of each kind, and how many.
LAST=-1
decided() {
  oracle --decisions 200 | awk -v last="$LAST" -v file="$DIR/last" '
    /^  #[0-9]+ / {
      id = substr($1, 2) + 0
      if (id > most) most = id
      if (id <= last) next
      kind = $3
      sub(/^  #[0-9]+ work: /, "")
      count[kind]++
      first[kind] = $0
    }
    END {
      for (kind in count) {
        text = first[kind]
        if (length(text) > 150) text = substr(text, 1, 147) "..."
        more = count[kind] > 1 ? " (and " count[kind] - 1 " more)" : ""
        print "   oracle: " text more
      }
      print (most == "" ? last : most) >file
    }'
  LAST=$(cat "$DIR/last")
}
"$BIN" load --node navigli --function work --path '/?ms=100' --clients "$CLIENTS" --pause 200ms \
  --sessions crowd --for "${DEMO_LOAD}s" >"$DIR/load" 2>&1 &
LOAD=$!
shown=0
show() { # the lines of the load that are new
  local lines
  lines=$(wc -l <"$DIR/load")
  sed -n "$((shown + 1)),${lines}s/^/   /p" "$DIR/load"
  shown=$lines
}
while kill -0 "$LOAD" 2>/dev/null; do
  sleep 1
  show
  decided || fail "the oracle of navigli does not say what it decided"
done
wait "$LOAD" && LOAD= || fail "the load ended badly: $(tail -n 3 "$DIR/load")"
show
# What was waited before anybody was sent elsewhere, and when it was half of that for good.
read -r before after half errors requests <<<"$(awk '
  $1 ~ /^[0-9]+$/ && NF == 8 {
    if ($7 == 0 && $5 + 0 > before) before = $5 + 0
    p99[++n] = $5 + 0
  }
  $1 == "all" { errors = $8 }
  / requests were answered / { requests = $1 }
  END {
    # A second in which the machine did something else is no second of the load.
    for (i = n; i >= 3; i--) {
      late = (p99[i] > before / 2) + (p99[i-1] > before / 2) + (p99[i-2] > before / 2)
      if (late >= 2) break
      half = i - 2
    }
    for (i = n - 4; i <= n; i++) last[i - n + 5] = p99[i]
    for (i = 1; i <= 5; i++) for (j = i + 1; j <= 5; j++)
      if (last[j] < last[i]) { t = last[i]; last[i] = last[j]; last[j] = t }
    print before, last[3], half + 0, errors + 0, requests + 0
  }' "$DIR/load")"
home=$(at navigli)
[ "$half" -gt 0 ] && [ "$half" -le 30 ] ||
  fail "99 of 100 waited $before ms, and never half of that: $after ms in the end"
[ "$errors" = 0 ] || fail "$errors requests were not answered well"
printf '   99 of 100 took at most %s ms at first, less than half of that from second %s on, %s ms in the end.\n' \
  "$before" "$half" "$after"
printf '   %s of %s sessions have gone up; no client saw an error.\n' $((CLIENTS - home)) "$CLIENTS"

say "9. The crowd rests, and its sessions come home."
for _ in $(seq 90); do
  home=$(at navigli)
  [ ! -t 1 ] || printf '\r   %s of %s sessions are at navigli ' "$home" "$CLIENTS"
  [ "$home" = "$CLIENTS" ] && break
  sleep 1
done
[ ! -t 1 ] || echo
[ "$home" = "$CLIENTS" ] || { oracle >&2; fail "only $home of $CLIENTS sessions came home"; }
decided
sum=0
for client in $(seq "$CLIENTS"); do
  count=$(curl -sS --max-time 10 --fail-with-body -H "X-session: crowd-$client" \
    "$(gateway navigli)/function/work/") || fail "crowd-$client is not served at home: $count"
  sum=$((sum + count))
done
[ "$sum" = "$requests" ] || fail "$requests requests were answered, and the sessions count $sum"
echo "   All $CLIENTS are at navigli. They have counted $sum requests, as many as were answered: each took effect once."

say "As told: nothing lost, nothing twice, no error seen. Try it yourself: $BIN up"
