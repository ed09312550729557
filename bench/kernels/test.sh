#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Tests under Debian's kernels 6.1 and 6.12: that the verifier takes the program and it answers as the parser does, what
# the kernel at hand may not have (SCTP), and the whole probe on veth and on three kinds of NIC. Arguments: some of these
# tests (xdp_test_run, export_sctp, nics); without any, all.
set -euo pipefail
cd "$(dirname "$0")/../.."

(($#)) || set -- xdp_test_run export_sctp nics
readonly TESTS=("$@")

# Built as for `make test`, so nothing is built twice; what the build says is shown, because it may be why this ends.
binaries=$(cargo test --locked --no-run --message-format=json |
    grep -o '"executable":"[^"]*"' | cut -d'"' -f4)

# Where a binary of this name was built.
binary() {
    grep -E "/$1\$" <<<"$binaries" | head -n1 | grep . || {
        echo "test-kernels: no $1 was built" >&2
        return 1
    }
}

arguments=(--seconds 900 --module veth --tool setpriv --file "$PWD/common/vectors" --file "$PWD/bench/lab/Cargo.toml")
commands=()
for test in "${TESTS[@]}"; do
    path=$(binary "$test-[0-9a-f]+") || exit 3
    arguments+=(--file "$path")
    if [[ $test == nics ]]; then
        probe=$(binary 'debug/probe') || exit 3
        arguments+=(--nics virtio --nics igb --nics e1000e --module sch_ingress --module cls_bpf --file "$probe")
        commands+=("$path &&")
    else
        arguments+=(--module sctp)
        # The guest is slow: one at a time, or they run into each other's time limits.
        commands+=("$path --include-ignored --nocapture --test-threads 1 &&")
    fi
done

for series in 6.1 6.12; do
    echo "== Linux $series: ${TESTS[*]}"
    bench/kernels/run.sh "$series" "${arguments[@]}" -- "uname -r && ${commands[*]} true"
done
