# What a developer does every day; `make help` lists it. Needs the Rust toolchain and, for `test`,
# what tests/install.sh installs from Debian's packages.

.DEFAULT_GOAL := help
.PHONY: help build release demo cluster cluster-down dashboards test chaos sim planted upgrade fmt lint deny doc ci clean

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the rota binary for development
	$(CARGO) build --package rota

release: ## Build the rota binary for use: target/release/rota
	$(CARGO) build --package rota --release

demo: ## Watch real tasks run on real processes; DIR=… names documents, KEEP=1 leaves the server up
	@demo/run.sh

cluster: ## Start three members of etcd, three nodes and three workers on this machine
	@deploy/local/cluster.sh up

cluster-down: ## End them; data and logs stay in cluster-data
	@deploy/local/cluster.sh down

dashboards: ## Make the JSON of Grafana's dashboards anew from deploy/grafana/rota_dashboards
	@tests/install.sh
	@cd deploy/grafana && $(abspath $(TARGET))/tools/grafana/bin/python -B -m rota_dashboards dashboards

test: ## Install what the tests need and run them all
	@tests/install.sh
	@tests/run.sh

chaos: ## Hurt a cluster under load in every way; SEED=… repeats a plan, DURATION=10m goes on for that long
	@tests/install.sh
	@tests/chaos.sh "$(SEED)" "$(DURATION)" "$(FAULTS)"

sim: ## Run the simulator over new seeds; SEED=… begins there, DURATION=10m lasts that long, WIRE=1 runs the server too
	$(CARGO) run --profile sim --package rota-sim -- $(if $(SEED),--seed $(SEED)) --for $(or $(DURATION),1m) \
		$(if $(WIRE),--wire) --record sim-record.tsv --label "$$(git describe --always --dirty)"

planted: ## Look for every mistake that is planted in the engine, also those that take the simulator long
	$(CARGO) run --profile sim --package rota-sim --features planted-faults -- --planted all --seed $(or $(SEED),100)

upgrade: ## Upgrade and downgrade a cluster under load, with older versions built from the history
	@tests/install.sh
	@tests/upgrade.sh

fmt: ## Format the sources
	$(CARGO) fmt --all

lint: ## Check formatting, lints and the project's own rules
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	$(CARGO) xtask tidy

deny: ## Check licences, versions, sources and known holes of what comes from elsewhere
	@.ci/deny

doc: ## Build the documentation of the crates: target/doc
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --document-private-items

ci: ## Everything that a change must pass
	@.ci/run

clean: ## Remove what was built and what the demo, a cluster and tests left
	@deploy/local/cluster.sh down
	$(CARGO) clean
	rm -rf rota-data demo-data cluster-data
