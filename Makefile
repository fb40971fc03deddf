# What there is to do here. `make help` prints the line behind each target.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help
help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build everything, as it is released
	$(CARGO) build --workspace --release --exclude funicular-simulator

.PHONY: check
check: ## See whether everything compiles, tests included
	$(CARGO) check --workspace --all-targets

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: lint
lint: fmt-check clippy deny doc ## Everything that is checked without running it

.PHONY: fmt-check
fmt-check: ## See whether the code is formatted
	$(CARGO) fmt --all --check

.PHONY: clippy
clippy: ## Clippy, a warning is an error
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p funicular -p funicular-traced --all-targets --all-features -- -D warnings

.PHONY: deny
deny: ## Licences, bans and sources of what we depend on (if cargo-deny is there)
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny --offline check licenses bans sources; \
	else \
	  echo "deny: skipped, cargo-deny is not installed (cargo install cargo-deny)"; \
	fi

.PHONY: doc
doc: ## Build the API's pages, a warning is an error
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --lib

.PHONY: demo
demo: ## The main job as a story: nothing to install, a minute once it is built
	$(CARGO) build --release -p funicular-cli
	scripts/demo.sh

.PHONY: setup
setup: ## Install what tests need besides Rust
	scripts/setup-tests.sh

# Half of what a test does is waiting for somebody else. Its files need no disk, and a disk
# that is busy with something else would hold up every store that syncs.
TEST_THREADS ?= $(shell echo $$(( $$(nproc) * 3 / 2 )))
TEST_FILES ?= $(if $(wildcard /dev/shm/.),/dev/shm,/tmp)

# One set of features for all that is built for tests, or crates are built once a set. The
# program of `funicular-cli` is built as it is shipped.
TESTED = --workspace --features funicular-traced/otel

.PHONY: test
test: export TMPDIR ?= $(TEST_FILES)
test: setup ## Run all tests and say how many there were
	$(CARGO) build -p funicular-cli
	$(CARGO) build $(TESTED) --tests --bin traced
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run $(TESTED) --no-fail-fast --test-threads $(TEST_THREADS); \
	else \
	  $(CARGO) test $(TESTED) --lib --bins --tests --no-fail-fast $(TOTAL); \
	fi
	$(CARGO) test $(TESTED) --doc $(TOTAL)
	scripts/faults.sh

.PHONY: faults
faults: ## Break the protocol on purpose and see that simulator and chaos notice
	scripts/faults.sh $(FAULT)

SEEDS ?= 1..256
THREADS ?= 1
.PHONY: sim
sim: ## Run seeds of the simulator: SEEDS=1..100000 THREADS=2, or REPLAY=17
	$(CARGO) build --release -p funicular-simulator
	target/release/simulate $(if $(REPLAY),--replay $(REPLAY),$(SEEDS) --threads $(THREADS)) $(SIM)

.PHONY: model
model: ## Explore the protocol within larger bounds (minutes), or SCOPE="crashes moves=3"
	$(CARGO) run -p funicular-model -- $(if $(SCOPE),"$(SCOPE)")

.PHONY: chaos
chaos: ## Kill, stop and cut off nodes and stores of a real tree for SECONDS (default 300), SEED
	FUNICULAR_CHAOS_SECONDS=$(or $(SECONDS),300) FUNICULAR_CHAOS_SEED=$(or $(SEED),$$RANDOM) \
	  $(CARGO) test -p funicular-tests --test chaos -- --nocapture

# Adds up what each test binary says of itself.
TOTAL = 2>&1 | awk '{ print } \
  /^test result:/ { passed += $$4; failed += $$6; ignored += $$8 } \
  END { printf "total: %d passed, %d failed, %d ignored\n", passed, failed, ignored }'

.PHONY: bench
bench: ## Measure the table of docs/performance.md, or ONLY=move_1k,victims of it
	$(CARGO) build --profile dist -p funicular-benches
	target/dist/bench run $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: bench-docs
bench-docs: ## Write the last measured figures and plots into docs/
	$(CARGO) build --profile dist -p funicular-benches
	target/dist/bench docs
