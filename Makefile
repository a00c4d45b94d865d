# roomtone. `make run` shows a measured call within a minute; `make test` proves the rest. `make help` lists all targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
STATE := .state

# gcc links and builds SQLite and ring, libpcap is the tap, iproute2 makes the hosts that trials call between.
PACKAGES_BUILD := gcc libc6-dev libpcap-dev
PACKAGES_TEST := iproute2 util-linux
# Peers that figures are compared with.
PACKAGES_BENCH := tshark

# Crates outside the workspace: a fuzz crate has its own profile, the no_std proof its own target.
APART := protocol/fuzz agent/fuzz protocol/no-std-proof

# $(call install,PACKAGES): says what is missing, installs that, and does nothing the second time.
define install
	@missing=""; \
	for package in $(1); do \
	  dpkg-query -W -f='$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "installing Debian packages:$$missing"; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get update -qq; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: run
run: build ## start collector and agent here, rehearse a call, show it, then show live legs until Ctrl-C
	@[ -z "$(SUDO)" ] || $(SUDO) setcap cap_net_raw+ep target/debug/roomtone-agent
	@exec target/debug/roomtone-hw-tests play --state $(STATE)

.PHONY: build
build: packages-build ## build both programs
	$(CARGO) build --workspace --locked

.PHONY: test
test: packages-build packages-test lint ## check format and lints, run all tests, replay the fuzz corpora
	$(CARGO) build --workspace --locked --bins
	$(CARGO) test --workspace --locked --no-fail-fast

.PHONY: lint
lint: packages-build ## check format and lints, change nothing
	$(CARGO) fmt --all --check
	@for crate in $(APART); do $(CARGO) fmt --manifest-path $$crate/Cargo.toml --check; done
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

.PHONY: fmt
fmt: ## format all crates
	$(CARGO) fmt --all
	@for crate in $(APART); do $(CARGO) fmt --manifest-path $$crate/Cargo.toml; done

.PHONY: bench
bench: packages-build packages-bench ## measure the promised figures; also in target/bench/report.json
	$(CARGO) build --workspace --locked --release --bins
	$(CARGO) bench -p roomtone-agent --locked --bench figures
	@[ -z "$(SUDO)" ] || $(SUDO) setcap cap_net_raw+ep target/release/roomtone-agent
	target/release/roomtone-hw-tests figures --folder target/bench

.PHONY: clean
clean: ## remove what was built and what `make run` keeps
	$(CARGO) clean
	rm -rf $(STATE)

.PHONY: packages-build packages-test packages-bench
packages-build:
	$(call install,$(PACKAGES_BUILD))
	@command -v $(CARGO) >/dev/null || { echo "no cargo: install the Rust toolchain with rustup first (rustup.rs)"; exit 1; }
packages-test:
	$(call install,$(PACKAGES_TEST))
packages-bench:
	$(call install,$(PACKAGES_BENCH))
