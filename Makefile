# Everyday commands for developers; `make help` lists them. They need the Rust toolchain. The test commands
# also need Debian packages, which tests/install.sh installs.

.DEFAULT_GOAL := help
.PHONY: help build release quick dist manifests demo cluster cluster-down dashboards test test-all chaos sim planted upgrade fmt lint deny doc ci clean

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the rota binary in development mode
	$(CARGO) build --package rota

release: ## Build the rota binary in release mode: target/release/rota
	$(CARGO) build --package rota --release

quick: ## Build an optimised binary in a fraction of the time of a release: target/quick/rota
	$(CARGO) build --package rota --profile quick

dist: ## Make and test packages, images and manifests of a release in target/dist; needs root, buildah and mmdebstrap
	@deploy/dist/dist.sh

manifests: ## Render the Kubernetes manifests in deploy/kubernetes from the Helm chart, and check both
	@deploy/dist/manifests.sh write
	@deploy/dist/manifests.sh check

demo: ## Run the demo: real tasks on real processes; DIR=… sets the documents, KEEP=1 keeps the server running
	@demo/run.sh

cluster: ## Start a cluster on this machine: a store, three nodes, three workers; STORE=redis or consul instead of etcd
	@STORE="$(STORE)" deploy/local/cluster.sh up

cluster-down: ## Stop the cluster; data and logs stay in cluster-data
	@deploy/local/cluster.sh down

dashboards: ## Generate the Grafana dashboards from deploy/grafana/rota_dashboards
	@tests/install.sh
	@cd deploy/grafana && $(abspath $(TARGET))/tools/grafana/bin/python -B -m rota_dashboards dashboards

test: ## Run all tests; installs the tools that they need
	@tests/install.sh
	@tests/run.sh

test-all: ## Run everything that tests Rota: test, upgrade, planted, and five minutes of chaos
	@BUDGET_HOLDS=1 ROTA_TEST_KILLS=3 ROTA_TEST_STALLS=1 $(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory upgrade
	@$(MAKE) --no-print-directory planted
	@$(MAKE) --no-print-directory chaos DURATION=$(or $(DURATION),5m)

chaos: ## Inject every kind of fault into a cluster under load; STORE=redis or consul instead of etcd, SEED=… repeats a plan, DURATION=10m sets the time, FAULTS=Kill,Cut selects faults
	@tests/install.sh
	@tests/chaos.sh "$(STORE)" "$(SEED)" "$(DURATION)" "$(FAULTS)"

sim: ## Run the simulator over new seeds; SEED=… sets the first one, DURATION=10m the time, WIRE=1 includes the server
	$(CARGO) run --profile sim --package rota-sim -- $(if $(SEED),--seed $(SEED)) --for $(or $(DURATION),1m) \
		$(if $(WIRE),--wire) --record sim-record.tsv --label "$$(git describe --always --dirty)"

planted: ## Check that the simulator finds every planted fault, including the slow ones
	$(CARGO) run --profile sim --package rota-sim --features planted-faults -- --planted all --seed $(or $(SEED),100)

upgrade: ## Upgrade and downgrade a cluster under load; builds older versions from the history
	@tests/install.sh
	@tests/upgrade.sh

fmt: ## Format the sources
	$(CARGO) fmt --all

lint: ## Check formatting, lints and the rules of the project
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	$(CARGO) xtask tidy

deny: ## Check licences, versions, sources and known vulnerabilities of dependencies
	@.ci/deny

doc: ## Build the documentation of the crates in target/doc
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --document-private-items

ci: ## Run all checks that a change must pass
	@.ci/run

clean: ## Remove build output and the data of the demo, clusters and tests
	@deploy/local/cluster.sh down
	$(CARGO) clean
	rm -rf rota-data demo-data cluster-data
