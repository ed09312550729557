// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All collectors side by side for one version of the protocol.

use std::fmt;

use probe_lab::{Datagram, Namespace, clock::wait_until};

use super::{
    decoders, fixbuf,
    messages::{Message, walk},
    nfdump::{Nfcapd, Stored},
    pmacct::{Counted, Nfacctd},
    relay::{Passes, Relay, Relayed},
    seen::{Seen, assert_same},
    tool::SOON,
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

    /// Waits until what came so far satisfies `condition`.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Relayed) -> bool) {
        let met = wait_until(SOON, || condition(&self.keeper.so_far()));
        assert!(met, "{}: no {what} within {SOON:?}", self.version);
    }

    /// Waits until `count` messages with templates have passed.
    pub(crate) fn wait_for_templates(&self, count: usize) {
        let has_templates = |datagram: &&Datagram| Message::read(&datagram.octets).has_templates();
        let passed = |relayed: &Relayed| relayed.passed.iter().filter(has_templates).count();
        if self.version != Version::V5 {
            self.wait("templates", |relayed| passed(relayed) >= count);
        }
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

/// From the first message with templates on: what a collector can understand.
pub(crate) fn joined(version: Version, datagrams: &[Datagram]) -> &[Datagram] {
    let has_templates = |datagram: &Datagram| Message::read(&datagram.octets).has_templates();
    if version == Version::V5 {
        return datagrams;
    }
    let first = datagrams.iter().position(has_templates);
    &datagrams[first.expect("templates among the messages")..]
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
    pub(crate) fn assert_dissected(&self, case: &str, records: &[Seen]) {
        let version = self.version;
        let expected: Vec<Seen> = records.iter().filter_map(|record| version.tells(record)).collect();
        let who = |tool: &str| format!("{case}, {version}, {tool}");
        let found = tshark::dissect(&self.datagrams);
        // Data that came before its templates is remarked upon as just that.
        let before = self.datagrams.len() - joined(version, &self.datagrams).len();
        assert_eq!(found.remarks.is_empty(), before == 0, "{}: {:?}", who("tshark"), found.remarks);
        let harmless = |remark: &String| remark.ends_with("no template found");
        assert!(found.remarks.iter().all(harmless), "{}: {:?}", who("tshark"), found.remarks);
        assert_same(&who("tshark"), &expected, &found.records.flows, 0);
        let (mut parsed, mut rewritten, mut dumped) = (Vec::new(), Vec::new(), Vec::new());
        for session in sessions(&self.datagrams) {
            parsed.extend(decoders::netflow_parser(&session).flows);
            if version == Version::Ipfix {
                // These two give up at records whose template they do not know.
                let joined = joined(version, &session);
                rewritten.extend(decoders::ipfixrw(joined).flows);
                dumped.extend(fixbuf::dump(joined).flows);
            }
        }
        assert_same(&who("netflow_parser"), &expected, &parsed, 0);
        if version == Version::Ipfix {
            assert_same(&who("ipfixrw"), &expected, &rewritten, 0);
            assert_same(&who("ipfixDump"), &expected, &dumped, 0);
        }
    }

    /// No collector may have missed a message, but for what is known of nfcapd 1.7.1: it takes options
    /// records of IPFIX for missing ones.
    pub(crate) fn assert_in_sequence(&self, case: &str) {
        let version = self.version;
        assert_eq!(self.counted.sequence_failures, 0, "{case}, {version}, nfacctd:\n{}", self.counted.log);
        let walk = walk(&self.datagrams);
        assert_eq!(walk.gaps, 0, "{case}, {version}: sequence numbers");
        let failures = walk.nfcapd_failures;
        assert_eq!(
            self.stored.sequence_failures, failures,
            "{case}, {version}, nfcapd:\n{}",
            self.stored.log
        );
    }

    /// Messages that all collectors received, read.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.datagrams.iter().map(|datagram| Message::read(&datagram.octets)).collect()
    }
}
