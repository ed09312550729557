#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Checks what lies in deploy/: scripts, systemd units, alert rules. Needs no privilege.
set -euo pipefail
cd "$(dirname "$0")"

readonly EXPOSURE=30            # systemd-analyze security: tenths of the exposure level, lower is safer

fail() { echo "deploy/check.sh: error: $*" >&2; exit 1; }

for tool in systemd-analyze promtool; do
    command -v "$tool" >/dev/null || fail "$tool is not installed; deploy/setup.sh --test installs it"
done

# Only who edits the scripts needs shellcheck, so its absence stops nobody.
bash -n setup.sh
bash -n check.sh
if command -v shellcheck >/dev/null; then
    shellcheck setup.sh check.sh ../.ci/run
else
    echo "deploy/check.sh: shellcheck is not installed: scripts were checked for syntax only"
fi

# The units name the place where the probe is installed; here it need not be installed.
units=$(mktemp -d)
trap 'rm -rf "$units"' EXIT
for unit in flowprobe.service flowprobe@.service; do
    sed 's,^\(ExecStart[A-Za-z]*=\|ExecReload=\)[^ ]*,\1/bin/true,' "$unit" >"$units/$unit"
done
(
    cd "$units"
    systemd-analyze verify ./flowprobe.service ./flowprobe@eth1.service
    systemd-analyze security --offline=yes --no-pager --threshold=$EXPOSURE ./flowprobe.service | tail -1
    systemd-analyze security --offline=yes --no-pager --threshold=$EXPOSURE ./flowprobe@.service | tail -1
)

promtool check rules monitoring/alerts.yml
promtool test rules monitoring/alerts_test.yml

# Every alert leads to a section of the runbook that exists.
grep -o 'runbook: .*#[a-z0-9-]*' monitoring/alerts.yml | sed 's/.*#//' | while read -r anchor; do
    grep -E '^#+ ' README.md | tr '[:upper:]' '[:lower:]' | sed -E 's/^#+ //; s/[^a-z0-9 _-]//g; s/ /-/g' |
        grep -qx "$anchor" || fail "alerts.yml names the runbook section #$anchor, which README.md does not have"
done
echo "deploy/check.sh: scripts, units and alert rules are in order"
