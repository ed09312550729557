// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The demonstration shows flows and a balanced ledger, and cleans up after Ctrl-C.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{path::Path, process::Command, time::Duration};

use nix::sys::signal::Signal;
use probe_lab::{Process, clock::wait_until, require_root};

const DEMO: &str = env!("CARGO_BIN_EXE_demo");
const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs root: run `make test`"]
fn it_shows_flows_and_cleans_up_after_an_interrupt() {
    require_root();
    let probe = Path::new(DEMO).with_file_name("probe");
    assert!(probe.is_file(), "there is no {}: run `make test`, which builds it", probe.display());
    let mut demo = Process::start::<&str>(None, DEMO, &[]).unwrap();
    // The first connection, closed by FIN, a second after its end.
    let shows_flows = wait_until(SOON, || demo.stdout().contains("AP.SF") || !demo.is_running());
    assert!(shows_flows && demo.is_running(), "{}{}", demo.stdout(), demo.stderr());
    let namespaces = || String::from_utf8(Command::new("ip").arg("netns").output().unwrap().stdout).unwrap();
    let ours = format!("fp{}-", demo.id());
    assert!(namespaces().contains(&ours));

    demo.signal(Signal::SIGINT).unwrap();
    let status = demo.wait(SOON).unwrap();
    let shown = demo.stdout();
    assert!(status.success(), "{status}: {shown}{}", demo.stderr());
    for text in ["flowprobe_received_packets_total", "balanced: every packet"] {
        assert!(shown.contains(text), "no {text:?} in:\n{shown}");
    }
    assert!(!namespaces().contains(&ours), "left behind: {}", namespaces());
}
