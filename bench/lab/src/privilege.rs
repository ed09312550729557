// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the lab needs of the machine.

use std::{path::Path, process::Command};

/// Fails the test, with what to do, unless this machine lets us make namespaces and load programs.
///
/// # Panics
/// When something is missing: a test that cannot run has not passed.
pub fn require_root() {
    let missing = missing();
    assert!(
        missing.is_empty(),
        "this test cannot run here: {}. Run `make test` as root; it installs what is missing",
        missing.join("; ")
    );
}

fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("it makes network namespaces and attaches XDP programs, which needs root".to_owned());
    }
    if !Path::new("/sys/fs/bpf").is_dir() {
        missing.push("the kernel has no BPF file system at /sys/fs/bpf".to_owned());
    }
    for (tool, package) in [("ip", "iproute2"), ("ethtool", "ethtool"), ("setpriv", "util-linux")] {
        if Command::new(tool).arg("--help").output().is_err() {
            missing.push(format!("`{tool}` is not installed (package {package})"));
        }
    }
    missing
}
