// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was sent and what arrived, in the same terms.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    ops::AddAssign,
};

/// What distinguishes two flows at a NetFlow v5 collector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port, 0 where there is none.
    pub source_port: u16,
    /// Destination port; type × 256 + code of ICMP.
    pub destination_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Type of service or traffic class.
    pub tos: u8,
}

impl FlowId {
    /// An IPv4 flow with type of service 0.
    #[must_use]
    pub fn v4(protocol: u8, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Self {
        Self {
            source: source.0.into(),
            destination: destination.0.into(),
            source_port: source.1,
            destination_port: destination.1,
            protocol,
            tos: 0,
        }
    }
}

impl std::fmt::Display for FlowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, destination, source_port, destination_port, protocol, tos } = self;
        write!(
            f,
            "protocol {protocol} {source} port {source_port} -> {destination} port {destination_port}, ToS {tos}"
        )
    }
}

/// Packets and octets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sums {
    /// Packets.
    pub packets: u64,
    /// Octets of the IP packets.
    pub octets: u64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.octets += other.octets;
    }
}

impl std::iter::Sum for Sums {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |mut sum, item| {
            sum += item;
            sum
        })
    }
}

/// Sums per flow.
pub type Flows = BTreeMap<FlowId, Sums>;

/// `None` if both are the same, else a message that names the first flows that differ.
#[must_use]
pub fn difference(expected: &Flows, found: &Flows) -> Option<String> {
    const SHOWN: usize = 8;
    let mut text = String::new();
    let mut differing = 0usize;
    let mut note = |line: String| {
        differing += 1;
        if differing <= SHOWN {
            text.push_str(&line);
        }
    };
    for (id, sent) in expected {
        match found.get(id) {
            Some(seen) if seen == sent => {}
            Some(seen) => note(format!("\n  {id}: sent {sent:?}, found {seen:?}")),
            None => note(format!("\n  {id}: sent {sent:?}, not found")),
        }
    }
    for (id, seen) in found {
        if !expected.contains_key(id) {
            note(format!("\n  {id}: never sent, found {seen:?}"));
        }
    }
    if differing == 0 {
        return None;
    }
    let mut message = String::new();
    // Writing to a string cannot fail.
    write!(
        message,
        "{differing} flows differ (expected {} flows {:?}, found {} flows {:?}):{text}",
        expected.len(),
        expected.values().copied().sum::<Sums>(),
        found.len(),
        found.values().copied().sum::<Sums>(),
    )
    .ok()?;
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_flow() {
        let id = FlowId::v4(17, (Ipv4Addr::new(10, 0, 0, 1), 1), (Ipv4Addr::new(10, 0, 0, 2), 2));
        let sent = Flows::from([(id, Sums { packets: 2, octets: 100 })]);
        assert_eq!(difference(&sent, &sent.clone()), None);
        let found = Flows::from([(id, Sums { packets: 1, octets: 100 })]);
        assert!(difference(&sent, &found).is_some_and(|text| text.contains("10.0.0.1 port 1")));
        assert!(difference(&sent, &Flows::new()).is_some_and(|text| text.contains("not found")));
        assert!(difference(&Flows::new(), &found).is_some_and(|text| text.contains("never sent")));
    }
}
