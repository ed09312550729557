#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# QEMU 10 from bookworm-backports, unpacked into a folder and not installed: Debian 12's own has no igb.
# Usage: bench/kernels/fetch-qemu.sh FOLDER. Does nothing if the folder is there.
set -euo pipefail

folder=$1
[[ ! -d $folder ]] || exit 0
mkdir -p "${folder%/*}"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,debs,root}

# Lists of its own: what the machine installs its packages from stays as it is.
echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main' \
    >"$work/sources.list"
apt=(-o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists"
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root)
echo 'kernels: fetching QEMU 10 from bookworm-backports' >&2
apt-get "${apt[@]}" -qq update
(cd "$work/debs" && apt-get "${apt[@]}" -qq download qemu-system-{x86,common,data}/bookworm-backports)
for package in "$work"/debs/*.deb; do
    dpkg-deb -x "$package" "$work/root"
done
missing=$(ldd "$work/root/usr/bin/qemu-system-x86_64" | grep 'not found' || true)
[[ -z $missing ]] || {
    echo "kernels: error: QEMU 10 lacks libraries that QEMU of Debian 12 brings (deploy/setup.sh --test installs it): $missing" >&2
    exit 3
}
mv "$work/root" "$folder"
