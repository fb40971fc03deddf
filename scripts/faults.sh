#!/usr/bin/env bash
# Breaks one transition of the protocol in a copy of the sources, and sees that the
# simulator and the chaos suite notice. (That the model notices each patch of
# tests/faults is a test of its own: tests/model/tests/faults.rs.)
set -euo pipefail
cd "$(dirname "$0")/.."

fault=${1:-rule-1-a-yes-is-taken-for-a-no}
step=${2:-target.installed}
copy=target/faults/tree
log=$PWD/target/faults/log
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug
export CARGO_TARGET_DIR=$PWD/target/faults/tree-target
# As `make test` builds them: with the same features nothing else is built anew.
chaos=(--quiet --workspace --features funicular-traced/otel --test chaos)

# What was built of other people's crates serves here too; what is broken on purpose, and
# all that is made of it, is newer than what was built of ours.
if [ -d "$built/.fingerprint" ] && [ ! -d "$CARGO_TARGET_DIR" ]; then
  mkdir -p "$CARGO_TARGET_DIR/debug/deps"
  cp -a "$built/build" "$built/.fingerprint" "$CARGO_TARGET_DIR/debug/"
  find "$built/deps" -maxdepth 1 -type f \
    \( -name '*.rlib' -o -name '*.rmeta' -o -name '*.so' -o -name '*.d' \) -print0 |
    xargs -0 cp -a -t "$CARGO_TARGET_DIR/debug/deps"
fi

echo "faults: building with tests/faults/$fault.patch"
rm -rf "$copy"
mkdir -p "$copy"
tar --exclude=./target --exclude=./.git -cf - . | tar -xf - -C "$copy"
patch -d "$copy" -p1 --silent --fuzz=0 --no-backup-if-mismatch -i "$PWD/tests/faults/$fault.patch"
(
  cd "$copy"
  cargo build "${chaos[@]}" --bin simulate
)

# A crash of the simulator is not a fault that it found.
if "$CARGO_TARGET_DIR/debug/simulate" 1..256 >"$log" 2>&1 || ! grep -q '^seed .* fails:' "$log"; then
  tail -n 20 "$log"
  echo "faults: the simulator did not notice $fault" >&2
  exit 1
fi
echo "faults: the simulator noticed: $(grep -A 1 -m 1 '^seed .* fails:' "$log" | tr -s '\n ' ' ')"

# What comes of a schedule depends on the machine: no single one has to hit, though all
# fail where this fault shows: when a source has to ask what became of its move.
for seed in {1..12}; do
  if (
    cd "$copy"
    FUNICULAR_CHAOS_SECONDS=20 FUNICULAR_CHAOS_SEED=$seed FUNICULAR_CHAOS_STEP=$step \
      cargo test "${chaos[@]}" -- --nocapture
  ) >"$log" 2>&1; then
    echo "faults: chaos with seed $seed did not meet it"
    continue
  fi
  if grep -q '^test result: FAILED' "$log"; then
    echo "faults: chaos noticed, with seed $seed"
    exit 0
  fi
  tail -n 20 "$log"
  echo "faults: chaos did not run" >&2
  exit 1
done
echo "faults: chaos did not notice $fault" >&2
exit 1
