#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs a command under another kernel: one of Debian's, in a virtual machine without network, disk or KVM.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/kernels/run.sh SERIES [--nics MODEL]… [--module NAME]… [--tool NAME]… [--file PATH]… [--at PATH=GUEST_PATH]… [--seconds N] -- COMMAND…

SERIES is 6.1 or 6.12: the newest of Debian's kernels of that series, downloaded once. Files and folders stand at the
same place in the guest, programs with the libraries they need (stripped). The guest is root with /proc, /sys, /dev, /tmp, bpffs
and lo; COMMAND is given to sh. The exit status is that of COMMAND; 3: the guest could not be had.

--nics gives the guest two NICs of a model with a cable between them, and the driver: virtio (four queues, taps on a bridge
in a network namespace of its own), igb or e1000e (a hub inside QEMU). COMMAND finds their names in GUEST_NICS, as
DRIVER=NAME,NAME. They need QEMU 10, which is fetched from bookworm-backports once and not installed.
TEXT
}

say() { printf 'kernels: %s\n' "$*" >&2; }
fail() { say "error: $*"; exit 3; }

series=${1:-}
[[ $series == 6.1 || $series == 6.12 ]] || { usage >&2; exit 2; }
shift
modules=() files=() nics=() seconds=300
while (($#)); do
    case $1 in
        --nics) nics+=("$2"); shift 2 ;;
        --module) modules+=("$2"); shift 2 ;;
        --tool) files+=("$(command -v "$2")=/bin/$2"); shift 2 ;;
        --file) files+=("$2=$2"); shift 2 ;;
        --at) files+=("$2"); shift 2 ;;
        --seconds) seconds=$2; shift 2 ;;
        --) shift; break ;;
        *) usage >&2; exit 2 ;;
    esac
done
(($#)) || { usage >&2; exit 2; }

for tool in qemu-system-x86_64 cpio modprobe apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is not installed; deploy/setup.sh --test installs it"
done

cd "$(dirname "$0")/../.."
here=$PWD/bench/kernels
cache=${CARGO_TARGET_DIR:-$PWD/target}/kernels
store=$cache/$series

# The newest image of a series, unpacked; its modules too, because the guest's insmod reads no xz.
fetch() {
    local pattern package work
    case $series in
        6.1) pattern='^linux-image-6\.1\.0-[0-9]+-amd64$' ;;
        6.12) pattern='^linux-image-6\.12\.[0-9]+\+deb12-amd64$' ;;
    esac
    package=$(apt-cache search --names-only "$pattern" | cut -d' ' -f1 | sort -V | tail -n1)
    [[ $package ]] || fail "apt knows no kernel of series $series; run: apt-get update"
    work=$(mktemp -d "$store.XXXXXX")
    # Downloaded as the caller: _apt may not write here.
    (cd "$work" && apt-get -o APT::Sandbox::User=root download "$package" >/dev/null) || fail "downloading $package failed"
    dpkg-deb -x "$work"/*.deb "$work"
    rm "$work"/*.deb
    find "$work" -name '*.ko.xz' -exec xz -d {} +
    depmod -b "$work" "$(ls "$work/lib/modules")"
    rm -rf "$store"
    mv "$work" "$store"
}

if [[ ! -d $store ]]; then
    mkdir -p "${store%/*}"
    say "fetching Debian's kernel $series"
    fetch
fi
version=$(ls "$store/lib/modules")

emulator=(qemu-system-x86_64) devices=(-nic none)
if ((${#nics[@]})); then
    "$here/fetch-qemu.sh" "$cache/qemu" || fail "QEMU 10 could not be had"
    # The modules and ROMs of the same build; the BIOS is that of Debian 12.
    emulator=(env "QEMU_MODULE_DIR=$cache/qemu/usr/lib/x86_64-linux-gnu/qemu" "$here/with-taps.sh"
        "$cache/qemu/usr/bin/qemu-system-x86_64" -L "$cache/qemu/usr/share/qemu" -L /usr/share/qemu -L /usr/share/seabios)
fi
# Without a ROM for booting from the network; on a port of its own each, or igb's virtual functions collide.
nic() {
    local model=$1 end=$2 backend=$3 number=${#devices[@]}
    devices+=(-netdev "$backend,id=$model$end" -device "pcie-root-port,id=port$number,chassis=$number"
        -device "$4,bus=port$number,netdev=$model$end,romfile=")
}
for model in "${nics[@]}"; do
    for end in 0 1; do
        case $model in
            virtio)
                nic virtio $end "tap,ifname=tap$end,script=no,downscript=no,queues=4" virtio-net-pci,mq=on,vectors=10
                ((end)) || modules+=(virtio_pci virtio_net)
                ;;
            igb | e1000e)
                nic "$model" $end "hubport,hubid=${#model}" "$model"
                ((end)) || modules+=("$model")
                ;;
            *) fail "no NICs of model $model are known here: virtio, igb, e1000e" ;;
        esac
    done
done

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,etc,modules}

# A file at its place, a program also with its libraries.
put() {
    local from=$1 to=$root$2 library
    mkdir -p "${to%/*}"
    [[ -e $to ]] && return
    cp -rL "$from" "$to"
    if [[ -f $from && -x $from ]] && head -c4 "$from" | grep -q ELF; then
        strip --strip-debug "$to" 2>/dev/null || true
        while read -r library; do
            put "$library" "$library"
        done < <(ldd "$from" 2>/dev/null | grep -o '/[^ ]*' || true)
    fi
}

put /bin/busybox /bin/busybox
# busybox' own sh would run its own ip and the like before those of the PATH.
put /bin/dash /bin/sh
for tool in ip tc ethtool; do
    command -v "$tool" >/dev/null && put "$(command -v "$tool")" "/bin/$tool"
done
for file in "${files[@]}"; do
    put "${file%%=*}" "${file#*=}"
done

number=1000
for module in "${modules[@]}"; do
    modprobe -d "$store" -S "$version" --show-depends "$module" >"$root/depends" 2>/dev/null ||
        fail "kernel $version has no module $module"
    while read -r action path _; do
        [[ $action == insmod && ! -e $root/modules/${path##*/}.loaded ]] || continue
        cp "$path" "$root/modules/$number-${path##*/}"
        touch "$root/modules/${path##*/}.loaded"
        number=$((number + 1))
    done <"$root/depends"
done
rm -f "$root"/modules/*.loaded "$root/depends"

printf '%s ' "$@" >"$root/command"
mark=verdict-$$-$RANDOM
cat >"$root/init" <<INIT
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/tmp
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /dev/pts /sys/fs/bpf /run
busybox mount -t bpf bpf /sys/fs/bpf
busybox mount -t tmpfs tmp /tmp
busybox mount -t tmpfs run /run
busybox mount -t debugfs debug /sys/kernel/debug 2>/dev/null
for applet in uname cat ls grep sleep seq mkdir rm mount umount; do busybox ln -s /bin/busybox /bin/\$applet; done
for module in /modules/*.ko; do [ -e "\$module" ] && { busybox insmod "\$module" || echo "insmod \$module failed"; }; done
ip link set lo up
# DRIVER=NAME,NAME for each pair, in the order of the bus.
for driver in virtio_net igb e1000e; do
    names=
    for device in /sys/class/net/*/device/driver; do
        [ -e "\$device" ] && [ "\$(busybox basename "\$(busybox readlink "\$device")")" = \$driver ] || continue
        name=\${device#/sys/class/net/}
        names=\$names,\${name%%/*}
    done
    [ "\$names" ] && GUEST_NICS="\$GUEST_NICS \$driver=\${names#,}"
done
export GUEST_NICS
cd /tmp
sh /command
echo "$mark \$?"
busybox poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$root.cpio"
trap 'rm -rf "$root" "$root.cpio" "$root.log"' EXIT

timeout "$seconds" "${emulator[@]}" -accel tcg,thread=multi -M q35 -cpu max -smp 2 -m 2048 \
    -nodefaults -display none -monitor none -serial stdio -no-reboot "${devices[@]}" \
    -kernel "$store"/boot/vmlinuz-* -initrd "$root.cpio" \
    -append 'console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off' </dev/null |
    tr -d '\r' | tee "$root.log" | grep --line-buffered -v "^$mark" || true
status=$(sed -n "s/^$mark \([0-9]*\)$/\1/p" "$root.log")
[[ $status ]] || fail "the guest ended (or $seconds s passed) before the command did"
exit "$status"
