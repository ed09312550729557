#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs a command in a network namespace of its own, with two taps of several queues on a bridge, and no way out. All of
# it is gone when the command has ended.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
    exec unshare --net "$0" --inside "$@"
fi
shift
# The bridge says nothing of its own, and no host's firewall looks at what crosses it.
for setting in net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 net.bridge.bridge-nf-call-iptables=0 \
    net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0; do
    path=/proc/sys/$(tr . / <<<"${setting%%=*}")
    [[ ! -e $path ]] || echo "${setting#*=}" >"$path"
done
ip link add bridge0 type bridge mcast_snooping 0
for tap in tap0 tap1; do
    ip tuntap add dev "$tap" mode tap multi_queue vnet_hdr
    ip link set "$tap" master bridge0 up
done
ip link set bridge0 up
exec "$@"
