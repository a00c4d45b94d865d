# roomtone. `make run` shows a measured call within a minute; `make test` proves the rest. `make help` lists all targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
STATE := .state
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)

# gcc links and builds SQLite and ring, libasound reads the mixers (found by pkg-config), iproute2 makes the hosts that
# trials call between.
PACKAGES_BUILD := gcc libc6-dev libasound2-dev pkg-config
PACKAGES_TEST := iproute2 util-linux bsdutils
# Whoever is not root gives the agent the one capability that its tap needs.
PACKAGES_RUN := $(if $(SUDO),libcap2-bin)
# What a Debian package is made with.
PACKAGES_DEB := dpkg-dev binutils git
# The package's revision: raise it to build the same version again.
DEB_REVISION ?= 1
# What makes the Debian that packages are tried on.
PACKAGES_FLEET := mmdebstrap libarchive-tools
# Peers that figures are compared with.
PACKAGES_BENCH := tshark $(PACKAGES_RUN)

# Crates outside the workspace: a fuzz crate has its own profile, the no_std proof its own target.
APART := protocol/fuzz agent/fuzz protocol/no-std-proof

# $(call install,PACKAGES): says what is missing, installs that, and does nothing the second time.
define install
	@missing=""; \
	for package in $(1); do \
	  dpkg-query -W -f='$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  [ -z "$(SUDO)" ] || command -v sudo >/dev/null || { \
	    echo "no sudo: as root, run apt-get install$$missing, then this again" >&2; exit 1; }; \
	  echo "installing Debian packages:$$missing"; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get update -qq; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

# $(call allow-tap,PROGRAM): a rebuilt program is a new file and has to be granted anew. sbin is on no user's path.
define allow-tap
	@[ -z "$(SUDO)" ] || /sbin/getcap $(1) | grep -q cap_net_raw || { \
	  command -v sudo >/dev/null || { echo "no sudo: as root, run setcap cap_net_raw+ep $(1), then this again" >&2; exit 1; }; \
	  echo "granting $(1) the right to read packet heads (CAP_NET_RAW)"; \
	  $(SUDO) /sbin/setcap cap_net_raw+ep $(1); }
endef

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: run
run: build packages-run ## start collector and agent here, rehearse a call, show it, then show live legs until Ctrl-C
	$(call allow-tap,$(TARGET)/debug/roomtone-agent)
	@exec $(TARGET)/debug/roomtone-hw-tests play --state $(STATE)

.PHONY: build
build: packages-build ## build both programs
	$(CARGO) build --workspace --locked

# No doc tests: what is fenced in the docs are drawings, and rustdoc takes its time to find that out. No benches: they are not tests.
# The virtual bench's short trials, less than 5 minutes. Its guest's packages are unpacked into target/hw-tests/cache, not
# installed. Elsewhere than on Debian on amd64 no guest can be made: that is said, and no failure of the code.
define short_trials
if [ "$$(dpkg --print-architecture 2>/dev/null)" = amd64 ] && command -v apt-get >/dev/null; then \
  $(CARGO) build --workspace --locked --release --bins && $(TARGET)/release/roomtone-hw-tests trials --group short; \
else echo "not run: the virtual bench needs a Debian host of the architecture amd64"; fi
endef

# What sums up stands at the end, whatever failed: the lines of the tests scroll by long before the trials are done.
.PHONY: test
test: packages-build packages-test lint ## check format and lints, run all tests, replay the fuzz corpora, run the short trials
	$(CARGO) build --workspace --locked --bins
	@failed=""; \
	$(CARGO) test --workspace --locked --no-fail-fast --lib --bins --tests 2>&1 | tee $(TARGET)/test.log || failed=" tests"; \
	{ $(short_trials); } 2>&1 | tee $(TARGET)/trials.log || failed="$$failed trials"; \
	echo; \
	awk '/^test result:/ { passed += $$4; failed += $$6 } \
	  END { printf "tests:  %d passed, %d failed\n", passed, failed }' $(TARGET)/test.log; \
	echo "trials: $$(grep -E '^([0-9]+ passed,|not run:)' $(TARGET)/trials.log || echo none)"; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

.PHONY: hw-test-short
hw-test-short: packages-build packages-test
	@$(short_trials)

.PHONY: hw-test
hw-test: packages-build packages-test ## run all trials of sound devices on the virtual bench; also in target/hw-tests/report.json
	$(CARGO) build --workspace --locked --release --bins
	$(TARGET)/release/roomtone-hw-tests trials --group all

.PHONY: hw-test-long
hw-test-long: packages-build packages-test ## run the trials that take half an hour
	$(CARGO) build --workspace --locked --release --bins
	$(TARGET)/release/roomtone-hw-tests trials --group long

# The revision after this one is what trials upgrade to.
.PHONY: hw-test-fleet
hw-test-fleet: packages-test packages-fleet deb ## install, enrol, upgrade and purge the packages in a guest with systemd
	$(CARGO) build --workspace --locked --release --bins
	systemd/deb/build.sh $(TARGET)/deb/build/release $(TARGET)/deb/next $$(( $(DEB_REVISION) + 1 ))
	$(TARGET)/release/roomtone-hw-tests trials --group fleet --packages $(TARGET)/deb

# With a target folder of its own: the flags that keep this machine's paths out of the binaries would build all else anew.
.PHONY: deb
deb: packages-build packages-deb ## build the Debian packages of both programs into target/deb
	RUSTFLAGS="--remap-path-prefix=$(CURDIR)=roomtone --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo" \
	  $(CARGO) build --locked --release --bins -p roomtone-agent -p roomtone-collector --target-dir $(TARGET)/deb/build
	rm -f $(TARGET)/deb/*.deb
	systemd/deb/build.sh $(TARGET)/deb/build/release $(TARGET)/deb $(DEB_REVISION)

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
	$(call allow-tap,$(TARGET)/release/roomtone-agent)
	$(TARGET)/release/roomtone-hw-tests figures --folder $(TARGET)/bench

.PHONY: clean
clean: ## remove what was built and what `make run` keeps
	$(CARGO) clean
	rm -rf $(STATE)

.PHONY: packages-build packages-run packages-test packages-bench packages-deb packages-fleet
packages-build:
	$(call install,$(PACKAGES_BUILD))
	@command -v $(CARGO) >/dev/null || { echo "no cargo: install the Rust toolchain with rustup first (rustup.rs)" >&2; exit 1; }
packages-run:
	$(call install,$(PACKAGES_RUN))
packages-test:
	$(call install,$(PACKAGES_TEST))
packages-bench:
	$(call install,$(PACKAGES_BENCH))
packages-deb:
	$(call install,$(PACKAGES_DEB))
packages-fleet:
	$(call install,$(PACKAGES_FLEET))
