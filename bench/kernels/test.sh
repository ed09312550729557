#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Tests under Debian's kernels 6.1 and 6.12: that the verifier takes the program and it answers as the parser does, and
# what the kernel at hand may not have (SCTP); and the whole probe on veth and on three kinds of NIC.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly TESTS=(xdp_test_run export_sctp)

# Built as for `make test`, so nothing is built twice; what the build says is shown, because it may be why this ends.
binaries=$(cargo test --locked --no-run --message-format=json |
    grep -o '"executable":"[^"]*"' | cut -d'"' -f4)
files=() commands=()
for test in "${TESTS[@]}"; do
    binary=$(grep -E "/$test-[0-9a-f]+$" <<<"$binaries") || {
        echo "test-kernels: no test $test was built" >&2
        exit 3
    }
    files+=(--file "$binary")
    # The guest is slow: one at a time, or they run into each other's time limits.
    commands+=("$binary --include-ignored --nocapture --test-threads 1 &&")
done
nics=$(grep -E '/nics-[0-9a-f]+$' <<<"$binaries") && probe=$(grep -E '/debug/probe$' <<<"$binaries" | head -n1) || {
    echo 'test-kernels: no test nics, or no probe, was built' >&2
    exit 3
}

for series in 6.1 6.12; do
    echo "== Linux $series: ${TESTS[*]} nics"
    bench/kernels/run.sh "$series" --seconds 900 --nics virtio --nics igb --nics e1000e --module sctp --module veth \
        --module sch_ingress --module cls_bpf --tool setpriv "${files[@]}" --file "$nics" --file "$probe" \
        --file "$PWD/common/vectors" --file "$PWD/bench/lab/Cargo.toml" -- "uname -r && ${commands[*]} $nics"
done
