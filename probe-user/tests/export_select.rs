// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Filters against a second evaluator that knows only records and words; sampling over many flows.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use probe_common::{Detail, Direction, FlowKey, HashSeed, IpVersion};
use probe_user::export::{CollectorUrl, ConversationHash, Filter, NotSelected, Selection};
use probe_user::flow::{EndReason, FlowRecord};
use proptest::prelude::*;

/// What a filter means, evaluated the plain way.
#[derive(Clone, Debug)]
enum Model {
    Any,
    Version(IpVersion),
    Net(Side, IpAddr, u32),
    Ports(Side, u16, u16),
    Protocol(u8),
    Vlan(u16),
    Interface(Option<Direction>, u32),
    Direction(Direction),
    Tos(u8),
    Flags(u16, u16),
    Quantity(&'static str, &'static str, u64),
    Not(Box<Model>),
    And(Vec<Model>),
    Or(Vec<Model>),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Side {
    Either,
    Source,
    Destination,
}

impl Side {
    fn text(self) -> &'static str {
        ["", "src ", "dst "][self as usize]
    }

    fn any<T>(self, source: T, destination: T, holds: impl Fn(T) -> bool) -> bool {
        self != Self::Destination && holds(source) || self != Self::Source && holds(destination)
    }
}

fn bits(address: IpAddr) -> (u32, u128) {
    match address {
        IpAddr::V4(address) => (32, u128::from(u32::from(address))),
        IpAddr::V6(address) => (128, u128::from(address)),
    }
}

/// Whether the first `length` bits agree, compared one by one.
fn shares_prefix(a: IpAddr, b: IpAddr, length: u32) -> bool {
    let ((width, a), (other, b)) = (bits(a), bits(b));
    width == other && (0..length).all(|bit| a >> (width - 1 - bit) & 1 == b >> (width - 1 - bit) & 1)
}

const LETTERS: &str = "FSRPAUECN";

fn flag_text(flags: u16) -> String {
    let letters: String =
        LETTERS.chars().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, c)| c).collect();
    if letters.is_empty() { "0".to_owned() } else { letters }
}

impl Model {
    fn holds(&self, record: &FlowRecord) -> bool {
        let key = &record.key;
        match self {
            Self::Any => true,
            Self::Version(version) => key.source().is_ipv4() == (*version == IpVersion::V4),
            Self::Net(side, net, length) => {
                side.any(key.source(), key.destination(), |address| shares_prefix(address, *net, *length))
            }
            Self::Ports(side, first, last) => {
                [6, 17, 33, 132, 136].contains(&key.protocol())
                    && side.any(key.source_port(), key.destination_port(), |port| {
                        port >= *first && port <= *last
                    })
            }
            Self::Protocol(protocol) => key.protocol() == *protocol,
            Self::Vlan(vlan) => key.vlan() == *vlan,
            Self::Interface(None, interface) => {
                key.ingress_interface() == *interface || key.egress_interface() == *interface
            }
            Self::Interface(Some(Direction::Ingress), interface) => key.ingress_interface() == *interface,
            Self::Interface(Some(Direction::Egress), interface) => key.egress_interface() == *interface,
            Self::Direction(direction) => key.direction() == *direction,
            Self::Tos(tos) => key.tos() == *tos,
            Self::Flags(set, mask) => key.protocol() == 6 && record.tcp_flags & mask == *set,
            Self::Quantity(what, sign, value) => {
                let have = match *what {
                    "packets" => record.packets,
                    "duration" => record.end_ns - record.start_ns,
                    _ => record.octets,
                };
                match *sign {
                    ">" => have > *value,
                    ">=" => have >= *value,
                    "<" => have < *value,
                    "<=" => have <= *value,
                    "!=" => have != *value,
                    _ => have == *value,
                }
            }
            Self::Not(part) => !part.holds(record),
            Self::And(parts) => parts.iter().all(|part| part.holds(record)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(record)),
        }
    }

    /// One of its spellings; `loud` chooses among them.
    fn text(&self, loud: bool) -> String {
        let joined = |parts: &[Self], word: &str| {
            let parts: Vec<_> = parts.iter().map(|part| format!("({})", part.text(!loud))).collect();
            parts.join(word)
        };
        match self {
            Self::Any => "any".to_owned(),
            Self::Version(IpVersion::V4) => if loud { "IPv4" } else { "ip" }.to_owned(),
            Self::Version(IpVersion::V6) => if loud { "ipv6" } else { "ip6" }.to_owned(),
            Self::Net(side, net, length) if *length == bits(*net).0 && loud => {
                format!("{}host {net}", side.text())
            }
            Self::Net(side, net, length) => format!("{}net {net}/{length}", side.text()),
            Self::Ports(side, first, last) if first == last && loud => format!("{}port {first}", side.text()),
            Self::Ports(side, first, last) => format!("{}port {first}-{last}", side.text()),
            Self::Protocol(6) if loud => "tcp".to_owned(),
            Self::Protocol(17) if loud => "PROTO udp".to_owned(),
            Self::Protocol(protocol) => format!("proto {protocol}"),
            Self::Vlan(vlan) => format!("vlan {vlan}"),
            Self::Interface(None, interface) => format!("if {interface}"),
            Self::Interface(Some(Direction::Ingress), interface) => format!("in if {interface}"),
            Self::Interface(Some(Direction::Egress), interface) => format!("out if {interface}"),
            Self::Direction(Direction::Ingress) => if loud { "dir ingress" } else { "dir in" }.to_owned(),
            Self::Direction(Direction::Egress) => if loud { "DIR out" } else { "dir egress" }.to_owned(),
            Self::Tos(tos) if loud => format!("tos 0x{tos:02x}"),
            Self::Tos(tos) => format!("tos {tos}"),
            Self::Flags(set, mask) if set == mask && loud => format!("flags {}", flag_text(*set)),
            Self::Flags(set, mask) => format!("flags {}/{}", flag_text(*set), flag_text(*mask)),
            Self::Quantity("duration", sign, ns) => format!("duration {sign} {}ms", ns / 1_000_000),
            Self::Quantity(what, sign, value) if loud && value % 1000 == 0 => {
                format!("{what}{sign}{}k", value / 1000)
            }
            Self::Quantity(what, sign, value) => format!("{what} {sign} {value}"),
            Self::Not(part) => format!("{} ({})", if loud { "!" } else { "not" }, part.text(loud)),
            Self::And(parts) => joined(parts, if loud { "&&" } else { " and " }),
            Self::Or(parts) => joined(parts, if loud { "||" } else { " or " }),
        }
    }
}

/// Few addresses and ports, so that filters and records meet.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..4, 0u8..4).prop_map(|(c, d)| Ipv4Addr::new(10, 0, c, d).into()),
        // What an IPv6 packet with a mapped address carries is not IPv4.
        (0u8..4, 0u8..4).prop_map(|(c, d)| Ipv4Addr::new(10, 0, c, d).to_ipv6_mapped().into()),
        (0u16..3, 0u16..3).prop_map(|(g, h)| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, g, h).into()),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..6, (0u64..4).prop_map(|n| n * 1000)]
}

fn model() -> impl Strategy<Value = Model> {
    let side = || prop_oneof![Just(Side::Either), Just(Side::Source), Just(Side::Destination)];
    let net = (side(), address(), 0u32..=128).prop_map(|(side, net, length)| {
        let width = bits(net).0;
        // Mostly long prefixes: short ones hold for everything.
        Model::Net(side, net, if length > width { width } else { width - length % 8 })
    });
    let flags = (0u16..0x200, 1u16..0x200).prop_map(|(set, mask)| Model::Flags(set & mask, mask));
    let what =
        prop_oneof![Just("packets"), Just("octets"), Just("bytes"), Just("duration")].prop_flat_map(|what| {
            let sign = prop_oneof![Just(">"), Just(">="), Just("<"), Just("<="), Just("="), Just("!=")];
            (sign, number()).prop_map(move |(sign, value)| {
                let scale = if what == "duration" { 1_000_000 } else { 1 };
                Model::Quantity(what, sign, value * scale)
            })
        });
    let leaf = prop_oneof![
        1 => Just(Model::Any),
        1 => prop_oneof![Just(IpVersion::V4), Just(IpVersion::V6)].prop_map(Model::Version),
        4 => net,
        3 => (side(), 50u16..56, 0u16..4).prop_map(|(side, first, more)| Model::Ports(side, first, first + more)),
        2 => prop_oneof![Just(6u8), Just(17), Just(1), Just(132), 0u8..=255].prop_map(Model::Protocol),
        1 => (0u16..4).prop_map(Model::Vlan),
        1 => (prop::option::of(way()), 1u32..4).prop_map(|(way, index)| Model::Interface(way, index)),
        1 => way().prop_map(Model::Direction),
        1 => (0u8..4).prop_map(Model::Tos),
        2 => flags,
        3 => what,
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| Model::Not(Box::new(part))),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Model::And),
            prop::collection::vec(inner, 1..4).prop_map(Model::Or),
        ]
    })
}

fn way() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)]
}

fn record() -> impl Strategy<Value = FlowRecord> {
    let protocol = prop_oneof![Just(6u8), Just(17), Just(1), Just(58), Just(132), any::<u8>()];
    let key = (address(), address(), protocol, 0u8..4, (50u16..58, 50u16..58), (1u32..4, way()), 0u16..4);
    (key, number(), number(), 0u64..6, 0u16..0x1000).prop_map(
        |((source, destination, protocol, tos, ports, interface, vlan), packets, octets, ms, tcp_flags)| {
            let words = |address: Ipv6Addr| {
                let octets = address.octets();
                [0, 8].map(|at| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap()))
            };
            let mut key = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    FlowKey::ipv4(source.octets(), destination.octets(), protocol, tos)
                }
                (source, destination) => {
                    let v6 = |address| match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped(),
                        IpAddr::V6(address) => address,
                    };
                    FlowKey::ipv6(words(v6(source)), words(v6(destination)), protocol, tos)
                }
            };
            key.set_ports(ports.0, ports.1);
            key.set_interface(interface.0, interface.1);
            key.set_vlans(vlan, 0);
            let start_ns = 1_780_000_000_000_000_000;
            let end_ns = start_ns + ms * 1_000_000;
            let end_reason = EndReason::Idle;
            FlowRecord {
                key,
                packets,
                octets,
                start_ns,
                end_ns,
                tcp_flags,
                end_reason,
                detail: Detail::UNKNOWN,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_filter_means_what_it_says(model in model(), loud: bool, records in prop::collection::vec(record(), 20)) {
        let text = model.text(loud);
        let filter: Filter = text.parse().map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        for record in &records {
            prop_assert_eq!(filter.matches(record), model.holds(record), "{} on {:?}", text, record);
        }
        let canonical = filter.to_string();
        let again: Filter = canonical.parse().unwrap();
        prop_assert_eq!(&again, &filter, "{} became {}", text, canonical);
        prop_assert_eq!(again.to_string(), canonical);
        // The same in a collector's URL, where other signs mean something too.
        let mut url: CollectorUrl = "v5://h".parse().unwrap();
        url.filter = Some(filter);
        prop_assert_eq!(url.to_string().parse::<CollectorUrl>().unwrap(), url);
    }

    #[test]
    fn any_text_is_refused_or_survives_its_canonical_form(text in prop_oneof![
        "\\PC{0,80}",
        "((src|dst|host|net|port|not|and|or|[(]|[)]|!|&&|[|][|]|ip|tcp|flags|SA/S|packets|>|=|10[.]0[.]0[.]0/8|53|1k|5ms|::1) ?){0,40}",
    ]) {
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        }
    }
}

#[test]
fn a_url_takes_a_filter_with_plus_signs_for_blanks() {
    let url: CollectorUrl =
        "v5://h?filter=src+net+10.1.2.3/8+and+not+(dst+port+53+or+packets%3E2k)".parse().unwrap();
    assert_eq!(
        url.to_string(),
        "v5://h:2055?filter=src+net+10.0.0.0/8+and+not+(dst+port+53+or+packets+%3E+2000)"
    );
    let error = "v5://h?filter=src+prot+5".parse::<CollectorUrl>().unwrap_err().to_string();
    assert_eq!(
        error,
        "collector 'v5://h?filter=src+prot+5': filter=src+prot+5 is not possible; at 'prot' (character 5): \
         expected host, net, port or an address"
    );
}

fn flows() -> impl Iterator<Item = FlowRecord> {
    (0u32..100_000).map(|n| {
        let [_, b, c, d] = n.to_be_bytes();
        let mut key = FlowKey::ipv4([10, b, c, d], [192, 0, 2, d], 17, 0);
        key.set_ports(4000 + u16::from(c), 53);
        FlowRecord {
            key,
            packets: 1,
            octets: 100,
            start_ns: 1,
            end_ns: 2,
            tcp_flags: 0,
            end_reason: EndReason::Idle,
            detail: Detail::UNKNOWN,
        }
    })
}

fn reversed(record: &FlowRecord) -> FlowRecord {
    let [s0, s1, d0, d1, ports, rest] = *record.key.words();
    let mut key = FlowKey::from_words([d0, d1, s0, s1, ports, rest]);
    key.set_ports(record.key.destination_port(), record.key.source_port());
    FlowRecord { key, ..*record }
}

#[test]
fn sampling_takes_one_flow_in_so_many_whole_conversations_and_smaller_samples_within_larger() {
    let hash = ConversationHash::new(HashSeed::from_random(std::array::from_fn(|i| [5, 11, 197][i % 3])));
    let sampled = |interval: u32, record: &FlowRecord| {
        let selection = Selection { filter: None, sampling: NonZeroU32::new(interval) };
        let result = selection.select(record, &hash);
        assert!(result.is_ok() || result == Err(NotSelected::SampledOut));
        result.is_ok()
    };
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for flow in flows() {
        let mut before = true;
        for interval in [1, 2, 3, 10, 100, 1000] {
            let now = sampled(interval, &flow);
            assert!(before || !now, "one in {interval} is part of one in fewer");
            assert_eq!(now, sampled(interval, &reversed(&flow)), "both directions alike");
            *counts.entry(interval).or_default() += u32::from(now);
            before = now;
        }
    }
    assert_eq!(counts[&1], 100_000);
    for interval in [2u32, 3, 10, 100, 1000] {
        let expected = 100_000.0 / f64::from(interval);
        let off = (f64::from(counts[&interval]) - expected).abs();
        // Five standard deviations of the binomial distribution.
        assert!(off < 5.0 * expected.sqrt(), "one in {interval}: {}", counts[&interval]);
    }
    // Another start chooses others.
    let other = ConversationHash::new(HashSeed::from_random([0x77; 56]));
    let tenth = Selection { filter: None, sampling: NonZeroU32::new(10) };
    let both = flows()
        .filter(|flow| tenth.select(flow, &hash).is_ok() && tenth.select(flow, &other).is_ok())
        .count();
    assert!((800..1200).contains(&both), "{both}");
}
