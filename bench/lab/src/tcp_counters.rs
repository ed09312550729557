// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel says of its own TCP: segments, not the buffers in which it handles them.

use std::fs;

use anyhow::{Context, Result};

use crate::Namespace;

/// Counts of a namespace since it exists.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpCounters {
    /// Segments sent, those sent again included.
    pub sent: u64,
    /// Segments sent again, and those that came out of order: each of either may put a SACK option into others, so
    /// that how many octets these have, nobody tells.
    pub disturbed: u64,
}

impl TcpCounters {
    /// Reads them.
    ///
    /// # Errors
    /// When the kernel does not show them.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let tables = ["snmp", "netstat"].map(|name| format!("/proc/thread-self/net/{name}"));
        let [snmp, netstat] = namespace.enter(|| tables.map(fs::read_to_string))?;
        let (snmp, netstat) = (snmp?, netstat?);
        // OutSegs is without those sent again (RFC 4022; `__tcp_transmit_skb` in net/ipv4/tcp_output.c).
        let again = value(&snmp, "Tcp:", "RetransSegs")?;
        Ok(Self {
            sent: value(&snmp, "Tcp:", "OutSegs")? + again,
            disturbed: again + value(&netstat, "TcpExt:", "TCPOFOQueue")?,
        })
    }
}

/// A number in a table whose lines come in pairs: names, then values.
fn value(table: &str, group: &str, name: &str) -> Result<u64> {
    let mut lines = table.lines().filter(|line| line.starts_with(group));
    let (names, values) = lines.next().zip(lines.next()).with_context(|| format!("no lines {group}"))?;
    let place = names.split_whitespace().position(|known| known == name);
    let value = place.and_then(|place| values.split_whitespace().nth(place));
    value.and_then(|value| value.parse().ok()).with_context(|| format!("no {group} {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_under_its_name() {
        let table = "Ip: A B\nIp: 1 2\nTcp: A OutSegs\nTcp: -1 7\n";
        assert_eq!(value(table, "Tcp:", "OutSegs").ok(), Some(7));
        assert!(value(table, "Tcp:", "InSegs").is_err());
        assert!(value(table, "Udp:", "A").is_err());
    }
}
