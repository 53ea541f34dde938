# The ways into this repository. `make` alone lists them.
#
# Everything that needs root asks sudo for just that; everything is kept between runs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PREFIX ?= /usr/local
# Options for `make demo` and `make bench`, names of tests for `make test`.
ARGS ?=

target := $(abspath $(or $(CARGO_TARGET_DIR),target))
triple := x86_64-unknown-linux-gnu
bin := $(target)/release/warren
libexec := $(target)/release/libexec
sudo := $(if $(filter 0,$(shell id -u)),,sudo -E)
# Where the tests find what they run.
export WARREN_BIN := $(bin)
export WARREN_LIBEXEC := $(libexec)
export WARREN_ORACLES ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/warren/oracles

# $(call or_help,TEXT): after a command; says what to do when it fails.
or_help = || { status=$$?; printf 'make %s failed.\n  help: %s\n' '$@' '$(strip $(1))' >&2; exit $$status; }

.PHONY: help setup build demo test bench fmt lint clean install

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the tools and the guest kernel that are missing (asks sudo)
	@scripts/setup

build: setup ## build the binary and what runs inside the VMs
	@cargo build --release -p warren \
	    $(call or_help, the first error above is the cause; Rust 1.94 or newer is needed: rustup update stable)
	@RUSTFLAGS='-C target-feature=+crt-static' \
	    cargo build --profile guest --target $(triple) -p guest -p jail -p worker \
	    $(call or_help, these are static binaries: the target $(triple) must be installed with rustup target add)
	@cargo build --profile guest -p ramguard \
	    $(call or_help, the first error above is the cause)
	@mkdir -p $(libexec)
	@( for file in $(addprefix $(target)/$(triple)/guest/,warren-guest warren-jail warren-worker) $(target)/guest/libramguard.so; do \
	    to=$(libexec)/$${file##*/}; \
	    cmp -s $$file $$to || { cp $$file $$to.new && mv $$to.new $$to; } || exit 1; \
	done ) $(call or_help, the disk with $(target) may be full)

demo: build ## run one session in a microVM and show its timeline (ARGS=--help)
	@$(sudo) $(bin) demo $(ARGS) \
	    $(call or_help, "$(bin) doctor" says what this machine lacks)

test: ## run every test, those in VMs too (asks sudo; ARGS=name of a test)
	@scripts/setup --tests
	@$(MAKE) --no-print-directory build
	@$(if $(sudo),CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$(sudo)') \
	    cargo test --release --workspace --no-fail-fast -- $(ARGS) \
	    $(call or_help, the list of failed tests is above; run one alone with make test ARGS=its_name)

bench: build ## measure launches and memory against the goals (ARGS=--help)
	@cargo build --release -p bench \
	    $(call or_help, the first error above is the cause)
	@$(sudo) $(target)/release/bench $(ARGS) \
	    $(call or_help, "$(bin) doctor" says what this machine lacks)

fmt: ## format the code
	@cargo fmt --all

lint: setup ## check format, lints, licences and house rules
	@cargo fmt --all --check \
	    $(call or_help, make fmt)
	@cargo clippy --release --workspace --all-targets --quiet -- -D warnings \
	    $(call or_help, each warning above names its line and its lint)
	@scripts/check-policy \
	    $(call or_help, the rules are in deny.toml and CONTRIBUTING.md)

clean: ## remove what was built here; data in /var/lib/warren stays
	@cargo clean

install: build ## copy the binary to PREFIX (default /usr/local)
	@install -D -m 755 $(bin) $(DESTDIR)$(PREFIX)/bin/warren \
	    $(call or_help, run it as root or with PREFIX=$$HOME/.local)
	@install -d $(DESTDIR)$(PREFIX)/libexec/warren
	@install -m 755 $(libexec)/warren-* $(libexec)/libramguard.so $(DESTDIR)$(PREFIX)/libexec/warren/
	@printf 'installed %s\n' '$(DESTDIR)$(PREFIX)/bin/warren'
