// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the programs that `xdp_cost` compares the probe's with.
#[path = "../probe-ebpf/build_object.rs"]
mod build_object;

fn main() {
    build_object::build(std::path::Path::new("../probe-ebpf"), &["stores"], &[]);
}
