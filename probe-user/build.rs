// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the kernel program that the loader embeds, and what libxdp is linked with in place of libelf and zlib.
#[path = "../probe-ebpf/build_object.rs"]
mod build_object;

fn main() {
    let features: &[&str] =
        if std::env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some() { &["log"] } else { &[] };
    build_object::build(std::path::Path::new("../probe-ebpf"), &["probe"], features);
    stand_in_for_elf();
}

/// libxdp-sys asks the linker for `-lelf` and `-lz`. It finds these archives, since it looks here before it looks in
/// the system's folders. Should a dependency ever need the real zlib, the linker would miss its functions and say so.
fn stand_in_for_elf() {
    println!("cargo::rerun-if-changed=no_elf.c");
    for library in ["elf", "z"] {
        // The same functions in both: the linker takes them from the one that it meets first.
        cc::Build::new().file("no_elf.c").cargo_metadata(false).compile(library);
    }
    if let Some(folder) = std::env::var_os("OUT_DIR") {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
}
