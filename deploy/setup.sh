#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Installs what building (and, with --test, testing) the probe needs and this machine lacks.
# Says nothing and changes nothing when everything is there.
set -euo pipefail

readonly LLVM=22                # what bpf-linker links against; it reads bitcode of this LLVM and older ones
readonly BPF_LINKER=0.13.0
readonly RUST_MINOR=95          # rust-version in Cargo.toml is 1.95
readonly GUARD=/usr/sbin/policy-rc.d
readonly GUARD_MARK='# flowprobe: no service may start while its set-up script installs packages'

# Linker and C library for rustc, the C++ library for bpf-linker, `ip` for the demo's network namespaces.
BUILD_PACKAGES=(ca-certificates gcc g++ libc6-dev make pkg-config iproute2)
# rustc 1.96 with the sources of `core`, which rustup's stable toolchain does not carry.
CORE_PACKAGES=(rustc-web cargo-web rust-web-src)
LINKER_PACKAGES=("llvm-$LLVM-dev" zlib1g-dev libzstd-dev)
# libxdp, which xsk-rs builds and wraps: its own small BPF programs (clang, m4), its bindings (libclang), and the
# headers that its libbpf is compiled with. The built probe needs none of them.
LIBXDP_PACKAGES=(clang libclang-dev m4 binutils libelf-dev zlib1g-dev linux-libc-dev)
# Tools that the tests call, and the probes and collectors that they compare with.
TEST_PACKAGES=(ethtool bpftool iputils-ping util-linux systemd softflowd pmacct nfdump tshark tcpreplay
    prometheus libfixbuf-tools fprobe openssl python3-venv openjdk-17-jre-headless
    qemu-system-x86 busybox-static dash cpio kmod xz-utils binutils)
# Readers of Parquet that the tests ask, from PyPI; Spark runs on the Java above. They take 560 MB.
PYTHON_TOOLS=(duckdb==1.5.6 pyspark==4.1.4)
readonly PYTHON_DIRECTORY=${XDG_CACHE_HOME:-$HOME/.cache}/flowprobe/test-tools

usage() {
    cat <<'TEXT'
Usage: deploy/setup.sh [--test]

Installs what is missing to build the probe on Debian 12. Run it as root, with a stable Rust on the PATH.
  --test   also install what the tests need: other probes, collectors and tools. None of their services is
           started or enabled. DuckDB and Spark go to ~/.cache/flowprobe/test-tools.
TEXT
}

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "error: $1"
    shift
    for line in "$@"; do say "  $line"; done
    exit 3
}

is_debian_12() {
    [[ -r /etc/os-release ]] || return 1
    # shellcheck source=/dev/null
    (. /etc/os-release && [[ ${ID:-} == debian && ${VERSION_ID:-} == 12 ]])
}

is_installed() {
    [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]
}

# The stable toolchain that builds everything but the kernel program.
check_rust() {
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    if ! command -v cargo >/dev/null; then
        fail "cargo is not on the PATH" \
            "install stable Rust 1.$RUST_MINOR or later with rustup (https://rustup.rs)" \
            "under sudo, keep your PATH: sudo env PATH=\"\$PATH\" make run"
    fi
    local version minor
    version=$(cargo --version | cut -d' ' -f2)
    minor=${version#1.}
    minor=${minor%%.*}
    if ((minor < RUST_MINOR)); then
        fail "cargo on the PATH is $version, the probe needs 1.$RUST_MINOR or later" "run: rustup update stable"
    fi
}

# Whether a compiler can build the kernel program: it has the sources of `core`, and bpf-linker can read its
# bitcode. RUSTC_BOOTSTRAP makes a stable one do.
can_build_core() {
    local sysroot llvm
    sysroot=$("$1" --print sysroot 2>/dev/null) || return 1
    [[ -f $sysroot/lib/rustlib/src/rust/library/core/src/lib.rs ]] || return 1
    llvm=$("$1" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    ((${llvm:-99} <= LLVM))
}

# The same compilers as probe-ebpf/build_object.rs tries, in the same order.
has_core_sources() {
    local nightly
    can_build_core rustc && return
    if command -v rustup >/dev/null && nightly=$(rustup which --toolchain=nightly rustc 2>/dev/null); then
        can_build_core "$nightly" && return
    fi
    can_build_core /usr/bin/rustc
}

has_bpf_linker() {
    [[ $(bpf-linker --version 2>/dev/null) == "bpf-linker $BPF_LINKER" ]]
}

has_header() {
    echo "#include <$1>" | cc -E -o /dev/null - 2>/dev/null
}

# Where clang-sys, which bindgen uses, looks first.
has_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] || compgen -G "$(clang -print-resource-dir 2>/dev/null)/../../libclang*.so*" >/dev/null ||
        ldconfig -p 2>/dev/null | grep -q 'libclang.*\.so'
}

has_component() {
    cargo "$1" --version >/dev/null 2>&1
}

# No package can be looked up here: names what has to be there, and where it is missing.
other_distribution() {
    local missing=() tool header
    for tool in cc c++ make pkg-config ip clang m4 ld objcopy; do
        command -v "$tool" >/dev/null || missing+=("the command $tool")
    done
    for header in libelf.h zlib.h; do
        has_header "$header" || missing+=("the header $header, of libelf's and zlib's development files")
    done
    has_libclang || missing+=("the library libclang (its development files, or LIBCLANG_PATH), for bindgen")
    has_core_sources || missing+=("the sources of core: rustup component add rust-src (for a Rust of LLVM $LLVM or older)")
    has_bpf_linker || missing+=("the development files of LLVM $LLVM, then: $(linker_command)")
    if [[ $for_tests == yes ]]; then
        for tool in ethtool bpftool ping setpriv systemd-analyze softflowd nfacctd nfcapd tshark tcpreplay promtool \
            ipfixDump fprobe openssl python3 java; do
            command -v "$tool" >/dev/null || missing+=("the command $tool")
        done
        for tool in fmt clippy; do
            has_component "$tool" || missing+=("cargo $tool: rustup component add rustfmt clippy")
        done
    fi
    ((${#missing[@]} == 0)) && return
    fail "this script installs packages on Debian 12 only; please install:" "${missing[@]}"
}

linker_command() {
    echo "LLVM_PREFIX=/usr/lib/llvm-$LLVM cargo install bpf-linker --version $BPF_LINKER" \
        "--no-default-features --features llvm-$LLVM --locked"
}

# One set-up at a time, and no service of a package starts because of it (invoke-rc.d and deb-systemd-invoke ask
# policy-rc.d; 101 means no). A file that is not ours stays as it is.
guard_services() {
    exec 9>/run/lock/flowprobe-setup.lock
    flock 9
    if [[ -e $GUARD ]] && ! grep -qF "$GUARD_MARK" "$GUARD"; then
        local status=0
        "$GUARD" softflowd start >/dev/null 2>&1 || status=$?
        ((status == 101)) && return
        fail "$GUARD lets services start, and installing the peers must not start them" \
            "install these packages by hand, or move that file away for the time being: ${missing[*]}"
    fi
    trap 'rm -f "$GUARD"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\n%s\nexit 101\n' "$GUARD_MARK" >"$GUARD"
    chmod 755 "$GUARD"
}

# The peers' services would start at the next boot: the tests run the programs themselves.
disable_services() {
    command -v systemctl >/dev/null || return 0
    local package path units=()
    for package in "$@"; do
        # The set-up is for the peers: what the system itself is made of keeps its services.
        case $package in softflowd | pmacct | nfdump | prometheus | fprobe) ;; *) continue ;; esac
        while read -r path; do
            units+=("${path##*/}")
        done < <(dpkg -L "$package" | grep -E '/systemd/system/[^/@]+\.service$|/init\.d/[^/]+$' || true)
    done
    ((${#units[@]} == 0)) || systemctl --quiet disable "${units[@]}" >/dev/null 2>&1 || true
}

# Runs a command and shows its output only when it fails, with a hint at what to look at.
run_quietly() {
    local hint=$1 log
    shift
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        fail "this command failed, its output is above: $*" "$hint"
    fi
    rm -f "$log"
}

install_packages() {
    local wanted=("${BUILD_PACKAGES[@]}" "${LIBXDP_PACKAGES[@]}") missing=() package
    has_core_sources || wanted+=("${CORE_PACKAGES[@]}")
    has_bpf_linker || wanted+=("${LINKER_PACKAGES[@]}")
    [[ $for_tests == no ]] || wanted+=("${TEST_PACKAGES[@]}")
    for package in "${wanted[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return
    need_root "packages are missing: ${missing[*]}"
    guard_services
    say "installing ${#missing[@]} packages: ${missing[*]}"
    local apt_hint="see that apt reaches Debian 12 with its updates and security suites, and is not in use"
    export DEBIAN_FRONTEND=noninteractive
    run_quietly "$apt_hint" apt-get update
    # Nothing is removed for it: a machine may have another Rust in /usr/bin that it needs.
    run_quietly "$apt_hint" apt-get install --yes --no-install-recommends --no-remove "${missing[@]}"
    disable_services "${missing[@]}"
}

need_root() {
    [[ $EUID == 0 ]] || fail "$1" "run deploy/setup.sh as root: sudo env PATH=\"\$PATH\" deploy/setup.sh"
}

install_linker() {
    has_bpf_linker && return
    say "building bpf-linker $BPF_LINKER, which links the kernel program (about a minute)"
    local prefix=/usr/lib/llvm-$LLVM
    # Flags meant for the probe are not for it.
    run_quietly "see that cargo reaches its registry, then run this again" env -u RUSTFLAGS -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET "LLVM_PREFIX=$prefix" \
        cargo install bpf-linker --version "$BPF_LINKER" --no-default-features --features "llvm-$LLVM" --locked --force
}

install_components() {
    local component
    for component in rustfmt:fmt clippy:clippy; do
        has_component "${component#*:}" && continue
        say "adding the toolchain component ${component%:*}"
        run_quietly "or install a Rust that has it" rustup component add "${component%:*}"
    done
}

# A Python of their own, so that nothing of the system's changes. Made anew when a version changes; the file that
# names the versions comes last, so what was interrupted is made anew too.
install_python_tools() {
    local stamp=$PYTHON_DIRECTORY/versions
    [[ $(cat "$stamp" 2>/dev/null) == "${PYTHON_TOOLS[*]}" ]] && return
    say "installing ${PYTHON_TOOLS[*]} in $PYTHON_DIRECTORY (450 MB to download)"
    # The system's own Python, whatever else is on the PATH: it is the one with the module venv.
    local python=/usr/bin/python3 hint="see that pip reaches PyPI, then run this again"
    run_quietly "install the module venv of $python" "$python" -m venv --clear "$PYTHON_DIRECTORY"
    run_quietly "$hint" "$PYTHON_DIRECTORY/bin/pip" install --no-input --no-cache-dir --disable-pip-version-check \
        "${PYTHON_TOOLS[@]}"
    echo "${PYTHON_TOOLS[*]}" >"$stamp"
}

for_tests=no
for argument in "$@"; do
    case $argument in
    --test) for_tests=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

check_rust
if ! is_debian_12; then
    other_distribution
    [[ $for_tests == no ]] || install_python_tools
    exit 0
fi
install_packages
install_linker
if [[ $for_tests == yes ]]; then
    install_components
    install_python_tools
fi
