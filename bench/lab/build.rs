// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the lab's own kernel programs.
#[path = "../../probe-ebpf/build_object.rs"]
#[allow(unreachable_pub, reason = "a file shared by two build scripts")]
mod build_object;

fn main() {
    println!("cargo::rerun-if-changed=src/generator/plan.rs");
    build_object::build(std::path::Path::new("../../probe-ebpf"), &["generator"], &[]);
}
