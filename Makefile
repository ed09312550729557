# SPDX-License-Identifier: Apache-2.0 OR MIT
# Thin: every line calls cargo or a script in deploy/.

SHELL := /bin/bash
# Where rustup and `cargo install` put their programs, also when root's PATH does not name it.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

CARGO ?= cargo
# The binaries of `make run`, built in one go so that their dependencies are built once.
RELEASE := $(CARGO) build --locked --release -p probe-user -p probe-bench --bin probe --bin demo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help setup run check-root test test-kernels check check-deploy bench

help:
	@echo 'make run                                        set up, build, and show the probe at work on a veth pair'
	@echo 'make run IFACE=eth1 COLLECTOR=192.0.2.10:2055   set up, build, and run the probe on an interface'
	@echo 'make test                                       every test, the privileged ones included (root)'
	@echo 'make test-kernels                               tests under other kernels and on emulated NICs, in virtual machines (Debian 12)'
	@echo 'make check                                      formatting and clippy, warnings are errors'
	@echo 'make bench                                      every bench in its quick form (root for what attaches XDP)'
	@echo 'ARGS="…" adds options of probe run, or of the benches; of test-kernels: which (nics xdp_test_run export_sctp).'

setup:
	@deploy/setup.sh

run: setup
	@[[ $$EUID == 0 ]] || { echo 'make run: needs root, for XDP and network namespaces: sudo env PATH="$$PATH" make run' >&2; exit 3; }
	$(RELEASE)
ifdef IFACE
	$(TARGET)/release/probe run --iface $(IFACE) $(addprefix --collector ,$(COLLECTOR)) $(ARGS)
else
	$(TARGET)/release/demo $(ARGS)
endif

# Loom replaces the atomics of the queue, so that part is built apart, beside the ordinary build.
test: check-root
	@deploy/setup.sh --test
	@deploy/check.sh
	$(CARGO) test --locked --no-fail-fast -- --include-ignored
	PROBE_SKIP_EBPF=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$(TARGET)/loom RUSTFLAGS='--cfg loom' $(CARGO) test --locked -p probe-user --lib queue::

test-kernels: check-root
	@deploy/setup.sh --test
	@bench/kernels/test.sh $(ARGS)

check-root:
	@[[ $$EUID == 0 ]] || { echo 'make test: needs root: tests attach XDP and make network namespaces: sudo env PATH="$$PATH" make test' >&2; \
		echo 'make test: without root, `cargo test` runs the tests that need no privilege' >&2; exit 3; }

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

check-deploy:
	@deploy/check.sh

BENCHES := merge harvest queue encode xdp_cost replay engines peers host

bench: setup
	$(CARGO) build --locked --release -p probe-user -p probe-bench --bin probe $(addprefix --bin ,$(BENCHES))
	@set -e; for bench in $(BENCHES); do $(TARGET)/release/$$bench $(or $(ARGS),--quick); done
