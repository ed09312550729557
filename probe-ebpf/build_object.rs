// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the programs of this crate for the kernel. Included by the build scripts of probe-user and
//! probe-lab (`#[path]`), because cargo cannot yet depend on a binary for another target.
//!
//! It needs a compiler with the sources of `core` and `bpf-linker`; deploy/setup.sh installs both.
//! `PROBE_SKIP_EBPF=1` leaves the objects empty, for people who only work on the user side: the probe
//! then says so when it is started.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const FLAGS: [&str; 4] = [
    "-Cdebuginfo=2",
    // The instruction set of kernel 5.1 and later.
    "-Ctarget-cpu=v3",
    "-Clink-arg=--btf",
    // Headers lie at odd offsets; every machine that runs this reads them as they are.
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];

/// A compiler that can build `core`.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
}

/// Builds `programs` (binaries of probe-ebpf) and leaves each in `$OUT_DIR/NAME.o`.
pub(crate) fn build(ebpf: &Path, programs: &[&str], features: &[&str]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-env-changed=PROBE_SKIP_EBPF");
    for path in ["src", "Cargo.toml", "build_object.rs", "../common/src", "../common/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", ebpf.join(path).display());
    }
    if env::var_os("PROBE_SKIP_EBPF").is_some_and(|value| value != "0") {
        println!("cargo::warning=PROBE_SKIP_EBPF is set: built without the kernel program");
        for program in programs {
            fs::write(out.join(format!("{program}.o")), []).expect("OUT_DIR is writable");
        }
        return;
    }
    let Some(toolchain) = find_toolchain() else {
        fail(
            "no Rust compiler with the sources of `core` was found (rustup's rust-src, or Debian's rust-web-src)",
        )
    };
    if !Command::new("bpf-linker").arg("--version").output().is_ok_and(|output| output.status.success()) {
        fail("bpf-linker is not on the PATH");
    }
    let target = out
        .ancestors()
        .find(|path| path.ends_with("build"))
        .and_then(|build| build.parent()?.parent())
        .unwrap_or(&out)
        .join("ebpf");
    let mut command = Command::new(&toolchain.cargo);
    command
        .current_dir(ebpf)
        .args(["build", "--release", "--locked", "-Zbuild-std=core", "--target=bpfel-unknown-none"])
        .arg("--target-dir")
        .arg(&target)
        .args(programs.iter().map(|program| format!("--bin={program}")));
    if !features.is_empty() {
        command.arg(format!("--features={}", features.join(",")));
    }
    // The outer cargo's choices (clippy as wrapper, the other compiler, its flags) are not for this build.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO") && name != "CARGO_HOME" && !name.starts_with("CARGO_NET")
            || name.starts_with("RUSTC")
            || name == "RUSTUP_TOOLCHAIN"
            || name == "RUSTFLAGS"
        {
            command.env_remove(name);
        }
    }
    command
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    let status = command.status().unwrap_or_else(|error| fail(&format!("{command:?}: {error}")));
    if !status.success() {
        fail("the kernel program did not compile (see above)");
    }
    for program in programs {
        let from = target.join("bpfel-unknown-none/release").join(program);
        let to = out.join(format!("{program}.o"));
        fs::copy(&from, &to).unwrap_or_else(|error| fail(&format!("copying {}: {error}", from.display())));
    }
}

fn find_toolchain() -> Option<Toolchain> {
    let current = PathBuf::from(env::var_os("RUSTC")?);
    let current = Toolchain { cargo: PathBuf::from(env::var_os("CARGO")?), rustc: current };
    let nightly = || {
        let which = |tool: &str| {
            let output = Command::new("rustup").args(["which", "--toolchain=nightly", tool]).output().ok()?;
            output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        };
        Some(Toolchain { cargo: which("cargo")?, rustc: which("rustc")? })
    };
    let debian = Toolchain { cargo: "/usr/bin/cargo".into(), rustc: "/usr/bin/rustc".into() };
    [Some(current), nightly(), Some(debian)].into_iter().flatten().find(can_build_core)
}

/// The newest LLVM whose bitcode the bpf-linker that deploy/setup.sh installs can read.
const LLVM: u32 = 22;

/// The same test as in deploy/setup.sh: the sources of `core`, and bitcode that bpf-linker can read.
fn can_build_core(toolchain: &Toolchain) -> bool {
    let version = Command::new(&toolchain.rustc).arg("-vV").env_remove("RUSTUP_TOOLCHAIN").output();
    let version =
        version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next()?.parse::<u32>().ok());
    llvm.is_some_and(|llvm| llvm <= LLVM) && has_core_sources(toolchain)
}

fn has_core_sources(toolchain: &Toolchain) -> bool {
    let Ok(output) =
        Command::new(&toolchain.rustc).args(["--print=sysroot"]).env_remove("RUSTUP_TOOLCHAIN").output()
    else {
        return false;
    };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
}

fn fail(why: &str) -> ! {
    println!("cargo::error=building the kernel program: {why}");
    println!(
        "cargo::error=run deploy/setup.sh as root, or set PROBE_SKIP_EBPF=1 to build without the kernel program"
    );
    std::process::exit(1)
}
