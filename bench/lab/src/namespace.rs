// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Network namespaces of our own.

use std::{
    fs::{self, File},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A network namespace with its loopback up, removed on drop with every interface in it.
///
/// IPv6 is off by default for its interfaces: router solicitations, duplicate address detection and
/// multicast listener reports would be packets that no test sent.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace; `label` helps a person who looks at `ip netns`.
    ///
    /// # Errors
    /// When `ip` refuses, with its words.
    pub fn new(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fp{}-{number}-{label}", std::process::id());
        run("ip", &["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.enter(|| {
            for scope in ["all", "default"] {
                // Absent where the kernel has no IPv6: then there is nothing to switch off.
                let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
                if fs::exists(&path).unwrap_or(false) {
                    fs::write(&path, "1").with_context(|| format!("switching IPv6 off with {path}"))?;
                }
            }
            Ok::<(), anyhow::Error>(())
        })??;
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip ARGS` for this namespace and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(args);
        run("ip", &all)
    }

    /// Runs a command in this namespace until it ends and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut all = vec!["netns", "exec", &self.name, program];
        all.extend(args);
        run("ip", &all)
    }

    /// A command that will run in this namespace, with /sys showing its interfaces. It is killed when the
    /// thread that started it ends: a test that is killed leaves no process behind.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "setpriv", "--pdeathsig", "KILL", program]);
        command
    }

    /// Runs `work` in a thread of this namespace. Sockets made there stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let handle = File::open(&path).with_context(|| format!("opening {path}"))?;
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(&handle, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("entering the namespace {path}"))?;
                Ok(work())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "del", &self.name]) {
            eprintln!("the namespace {} is left behind: {error:#}", self.name);
        }
    }
}

/// Runs a command to its end and returns its standard output.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String> {
    let Output { status, stdout, stderr } =
        Command::new(program).args(args).output().with_context(|| format!("running {program}"))?;
    if !status.success() {
        bail!("`{program} {}`: {status}: {}", args.join(" "), String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
