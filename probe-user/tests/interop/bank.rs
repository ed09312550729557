// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All collectors side by side for one version of the protocol.

use std::fmt;

use probe_lab::{Datagram, Export, Namespace};

use super::{
    decoders, fixbuf,
    elements::Decoded,
    messages::{Message, walk},
    nfdump::{Nfcapd, Stored},
    pmacct::{Counted, Nfacctd},
    relay::{Passes, Relay},
    seen::{Seen, assert_same},
    tshark,
};

/// A row of the matrix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    V5,
    V9,
    Ipfix,
}

impl Version {
    pub(crate) const ALL: [Self; 3] = [Self::V5, Self::V9, Self::Ipfix];

    /// What of a record the version can tell, if it can tell of it at all.
    pub(crate) fn tells(self, record: &Seen) -> Option<Seen> {
        match self {
            Self::V5 => record.flow.source.is_ipv4().then(|| record.without_vlan()),
            Self::V9 | Self::Ipfix => Some(record.clone()),
        }
    }

    /// What nfacctd 1.7.7 shows of a record: it knows type and code of ICMP only from the destination
    /// port, which IPFIX has for ports alone.
    fn nfacctd_shows(self, record: &Seen) -> Seen {
        let mut shown = record.clone();
        if self == Self::Ipfix && matches!(record.flow.protocol, 1 | 58) {
            shown.flow.destination_port = 0;
        }
        shown
    }

    /// nfacctd 1.7.7 keeps whole seconds where times are told as uptime.
    fn nfacctd_tolerance_ms(self) -> u64 {
        if self == Self::Ipfix { 0 } else { 999 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V5 => "v5",
            Self::V9 => "v9",
            Self::Ipfix => "ipfix",
        })
    }
}

/// nfcapd, nfacctd, and one that keeps datagrams for the programs and decoders that read files.
pub(crate) struct Bank {
    version: Version,
    nfcapd: Nfcapd,
    nfacctd: Nfacctd,
    keeper: Relay,
    port: u16,
    relayed: bool,
}

/// What they received.
pub(crate) struct Received {
    pub(crate) version: Version,
    pub(crate) stored: Stored,
    pub(crate) counted: Counted,
    /// What all of them received.
    pub(crate) datagrams: Vec<Datagram>,
    /// What the probe had sent; more than that if a relay held datagrams back.
    pub(crate) sent: Vec<Datagram>,
}

impl Bank {
    /// Starts them on `port` and the two following ones.
    pub(crate) fn start(namespace: &Namespace, version: Version, port: u16, renormalize: bool) -> Self {
        Self {
            version,
            nfcapd: Nfcapd::start(namespace, port),
            nfacctd: Nfacctd::start(namespace, port + 1, renormalize),
            keeper: Relay::keeper(namespace, port + 2),
            port,
            relayed: false,
        }
    }

    /// The same behind a relay on the third port, which holds back what `passes` refuses until it is opened.
    pub(crate) fn relayed(namespace: &Namespace, version: Version, port: u16, passes: Passes) -> Self {
        let keeper = Relay::start(namespace, port + 2, &[port, port + 1], passes);
        Self {
            version,
            nfcapd: Nfcapd::start(namespace, port),
            nfacctd: Nfacctd::start(namespace, port + 1, false),
            keeper,
            port,
            relayed: true,
        }
    }

    /// Lets everything pass from now on.
    pub(crate) fn open(&self) {
        self.keeper.open();
    }

    /// Datagrams so far for which `condition` holds.
    pub(crate) fn count(&self, condition: impl Fn(&[u8]) -> bool) -> usize {
        self.keeper.count(condition)
    }

    /// Options that make a probe send to all of them; `query` are options of the collectors.
    pub(crate) fn options(&self, query: &str) -> Vec<String> {
        let ports = if self.relayed { self.port + 2..self.port + 3 } else { self.port..self.port + 3 };
        let separator = if query.is_empty() { "" } else { "?" };
        ports
            .flat_map(|port| {
                ["--collector".to_owned(), format!("{}://127.0.0.1:{port}{separator}{query}", self.version)]
            })
            .collect()
    }

    /// Ends them.
    pub(crate) fn finish(self) -> Received {
        let relayed = self.keeper.finish();
        Received {
            version: self.version,
            stored: self.nfcapd.finish(),
            counted: self.nfacctd.finish(),
            datagrams: relayed.passed,
            sent: relayed.received,
        }
    }
}

/// Datagrams of each exporting socket.
pub(crate) fn sessions(datagrams: &[Datagram]) -> Vec<Vec<Datagram>> {
    let mut sessions: Vec<Vec<Datagram>> = Vec::new();
    for datagram in datagrams {
        match sessions.iter_mut().find(|session| session[0].from == datagram.from) {
            Some(session) => session.push(datagram.clone()),
            None => sessions.push(vec![datagram.clone()]),
        }
    }
    sessions
}

/// What netflow_parser reads in datagrams of any version, checked for sequence and form.
pub(crate) fn decode(version: Version, datagrams: &[Datagram]) -> Decoded {
    if version != Version::V5 {
        return decoders::netflow_parser(datagrams);
    }
    let export = Export::decode(datagrams).unwrap();
    let seen = |record: &probe_lab::V5Record| Seen {
        flow: record.flow,
        vlan: 0,
        packets: record.sums.packets,
        octets: record.sums.octets,
        tcp_flags: record.tcp_flags,
        interface: record.input.into(),
        start_ms: record.first_ms,
        end_ms: record.last_ms,
    };
    Decoded { flows: export.records.iter().map(seen).collect(), options: Vec::new() }
}

impl Received {
    /// Every collector must have read exactly these records, once each. The two that apply sampling must
    /// show counts times `factor`.
    pub(crate) fn assert_read(&self, case: &str, records: &[Seen], factor: u64) {
        let version = self.version;
        let expected: Vec<Seen> = records.iter().filter_map(|record| version.tells(record)).collect();
        assert!(!expected.is_empty(), "{case}: nothing to read");
        let who = |tool: &str| format!("{case}, {version}, {tool}");
        let scaled: Vec<Seen> = expected.iter().map(|record| record.scaled(factor)).collect();
        assert_same(&who("nfdump"), &scaled, &self.stored.flows, 0);
        let shown: Vec<Seen> = scaled.iter().map(|record| version.nfacctd_shows(record)).collect();
        assert_same(&who("nfacctd"), &shown, &self.counted.flows, version.nfacctd_tolerance_ms());
        self.assert_dissected(case, &expected);
    }

    /// The same for the programs and decoders that read files.
    pub(crate) fn assert_dissected(&self, case: &str, expected: &[Seen]) {
        let version = self.version;
        let who = |tool: &str| format!("{case}, {version}, {tool}");
        let found = tshark::dissect(&self.datagrams);
        assert_eq!(found.remarks, [""; 0], "{}", who("tshark"));
        assert_same(&who("tshark"), expected, &found.records.flows, 0);
        let (mut parsed, mut rewritten, mut dumped) = (Vec::new(), Vec::new(), Vec::new());
        for session in sessions(&self.datagrams) {
            parsed.extend(decode(version, &session).flows);
            if version == Version::Ipfix {
                rewritten.extend(decoders::ipfixrw(&session).flows);
                dumped.extend(fixbuf::dump(&session).flows);
            }
        }
        assert_same(&who("netflow_parser"), expected, &parsed, 0);
        if version == Version::Ipfix {
            assert_same(&who("ipfixrw"), expected, &rewritten, 0);
            assert_same(&who("ipfixDump"), expected, &dumped, 0);
        }
    }

    /// No collector may have missed a message, but for what is known of nfcapd 1.7.1: it takes options
    /// records of IPFIX for missing ones.
    pub(crate) fn assert_in_sequence(&self, case: &str) {
        let version = self.version;
        assert_eq!(self.counted.sequence_failures, 0, "{case}, {version}, nfacctd:\n{}", self.counted.log);
        let mut failures = 0;
        if version != Version::V5 {
            let walk = walk(&self.datagrams);
            assert_eq!(walk.gaps, 0, "{case}, {version}: sequence numbers");
            failures = walk.nfcapd_failures;
        }
        assert_eq!(self.stored.sequence_failures, failures, "{case}, {version}, nfcapd:\n{}", self.stored.log);
    }

    /// Messages that all collectors received, read.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.datagrams.iter().map(|datagram| Message::read(&datagram.octets)).collect()
    }
}
