// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the kernel program that the loader embeds.
#[path = "../probe-ebpf/build_object.rs"]
mod build_object;

fn main() {
    let features: &[&str] =
        if std::env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some() { &["log"] } else { &[] };
    build_object::build(std::path::Path::new("../probe-ebpf"), &["probe"], features);
}
