// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the collectors' tests need around other programs.

use std::{fs, net::IpAddr, process::Command, time::Duration};

use probe_lab::{Namespace, clock::wait_until};
use serde_json::Value;

/// Programs start, and end, within this on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A folder that is gone afterwards, also when the test fails.
pub(crate) fn folder(label: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("fp-{label}")).tempdir().unwrap()
}

/// Ends the test with what to do when a collector is not there.
pub(crate) fn require(tool: &str, package: &str) {
    assert!(
        Command::new(tool).arg("-h").output().is_ok(),
        "`{tool}` is not installed (package {package}); `make test` installs it"
    );
}

/// Waits until somebody listens on a UDP port of the namespace.
pub(crate) fn wait_for_port(namespace: &Namespace, port: u16) {
    let listening = format!("0100007F:{port:04X} ");
    let there = wait_until(SOON, || {
        let table = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/udp")).unwrap().unwrap();
        table.contains(&listening)
    });
    assert!(there, "nobody listens on UDP port {port}");
}

/// A number, which some programs write as text.
pub(crate) fn number(record: &Value, name: &str) -> u64 {
    let value = &record[name];
    let text = value.as_str().and_then(|text| text.parse().ok());
    value.as_u64().or(text).unwrap_or_else(|| panic!("no number {name} in {record}"))
}

/// An address.
pub(crate) fn address(record: &Value, name: &str) -> IpAddr {
    let text = record[name].as_str().unwrap_or_else(|| panic!("no address {name} in {record}"));
    text.parse().unwrap()
}

/// A number that must fit.
pub(crate) fn narrow<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number).unwrap_or_else(|_| panic!("{number} does not fit"))
}
