// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Messages of every kind, octet by octet. The octets were written down from the RFCs and field tables, not
//! taken from the encoders.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod encode_support;

use encode_support::{Line, MS, SECOND, UNIX, now, ping, plain, plain_v6, settings, told};
use probe_common::Direction;
use probe_user::export::encode::Told;
use probe_user::flow::FlowRecord;

/// The octets of a commented text.
fn octets(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(|line| line.split_whitespace())
        .collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[track_caller]
fn assert_messages(messages: &[Vec<u8>], texts: &[&str]) {
    assert_eq!(messages.len(), texts.len());
    for (message, text) in messages.iter().zip(texts) {
        let expected = octets(text);
        let differs = message.iter().zip(&expected).position(|(ours, right)| ours != right);
        assert_eq!(message, &expected, "first difference at octet {differs:?}");
    }
}

fn sampled() -> Told {
    Told { sampling: "1:100".parse().unwrap(), ..told() }
}

#[test]
fn ipfix_and_v9_templates_options_and_data() {
    for (url, texts) in [
        ("ipfix://h", [IPFIX_TEMPLATES, IPFIX_OPTIONS, IPFIX_DATA]),
        ("v9://h", [V9_TEMPLATES, V9_OPTIONS, V9_DATA]),
    ] {
        let mut line = Line::new(&settings(url, 1472), 0);
        line.tick(&sampled(), now(UNIX, 0));
        let vlan = plain();
        let mut echo = ping();
        echo.key.set_vlans(0, 0);
        echo.key.set_interface(3, Direction::Egress);
        for record in [vlan, echo, plain_v6()] {
            line.encode(&record, now(UNIX, 0));
        }
        line.seal(now(UNIX, 0));
        assert_messages(&line.take(), &texts);
    }
}

#[test]
fn ipfix_of_both_directions() {
    let mut line = Line::new(&settings("ipfix://h?biflow=full&fields=minimal&options=off", 1472), 0);
    let forward = plain();
    let reverse =
        FlowRecord { packets: 8, octets: 90_000, start_ns: forward.start_ns + 1000 * MS, ..forward };
    line.pair(&forward, Some(&reverse), now(UNIX, 0));
    line.seal(now(UNIX, 0));
    assert_messages(&line.take(), &[BIFLOW_TEMPLATES, BIFLOW_DATA]);
}

#[test]
fn versions_without_templates() {
    let engine = "engine_id=7";
    for (url, text) in
        [("v1://h", V1), (&format!("v5://h?engine_type=2&{engine}"), V5), (&format!("v7://h?{engine}"), V7)]
    {
        let mut line = Line::new(&settings(url, 1472), 0);
        line.tick(&sampled(), now(UNIX, 0));
        line.encode(&plain(), now(UNIX, 0));
        line.seal(now(UNIX, 0));
        assert_messages(&line.take(), &[text]);
    }
    assert_eq!(plain().start_ns, UNIX - 20 * SECOND);
}

const IPFIX_TEMPLATES: &str = r"
    000a0120                 # IPFIX, 288 octets
    6a18a500                 # export time
    00000000                 # sequence
    00000001                 # domain 1
    00020050                 # set 2: templates, 80 octets
    01000012                 # template 256, 18 fields
    00080004                 # sourceIPv4Address 8, 4
    000c0004                 # destinationIPv4Address 12, 4
    00070002                 # sourceTransportPort 7, 2
    000b0002                 # destinationTransportPort 11, 2
    00040001                 # protocolIdentifier 4, 1
    00050001                 # ipClassOfService 5, 1
    00060001                 # tcpControlBits 6, 1: the form that all collectors read
    00200002                 # icmpTypeCodeIPv4 32, 2
    000a0004                 # ingressInterface 10, 4
    000e0004                 # egressInterface 14, 4
    003a0002                 # vlanId 58, 2
    00f30002                 # dot1qVlanId 243, 2
    00880001                 # flowEndReason 136, 1
    003d0001                 # flowDirection 61, 1
    00020008                 # packetDeltaCount 2, 8
    00010008                 # octetDeltaCount 1, 8
    00980008                 # flowStartMilliseconds 152, 8
    00990008                 # flowEndMilliseconds 153, 8
    00020050                 # set 2: templates, 80 octets
    01010012                 # template 257, 18 fields
    001b0010                 # sourceIPv6Address 27, 16
    001c0010                 # destinationIPv6Address 28, 16
    00070002                 # sourceTransportPort 7, 2
    000b0002                 # destinationTransportPort 11, 2
    00040001                 # protocolIdentifier 4, 1
    00050001                 # ipClassOfService 5, 1
    00060001                 # tcpControlBits 6, 1: the form that all collectors read
    008b0002                 # icmpTypeCodeIPv6 139, 2
    000a0004                 # ingressInterface 10, 4
    000e0004                 # egressInterface 14, 4
    003a0002                 # vlanId 58, 2
    00f30002                 # dot1qVlanId 243, 2
    00880001                 # flowEndReason 136, 1
    003d0001                 # flowDirection 61, 1
    00020008                 # packetDeltaCount 2, 8
    00010008                 # octetDeltaCount 1, 8
    00980008                 # flowStartMilliseconds 152, 8
    00990008                 # flowEndMilliseconds 153, 8
    00030022                 # set 3: options templates, 34 octets
    010400060001             # options template 260, 6 fields, 1 of them scope
    00950004                 # scope observationDomainId 149, 4
    00290008                 # exportedMessageTotalCount 41, 8
    002a0008                 # exportedFlowRecordTotalCount 42, 8
    00280008                 # exportedOctetTotalCount 40, 8
    00240002                 # flowActiveTimeout 36, 2
    00250002                 # flowIdleTimeout 37, 2
    00030026                 # set 3: options templates, 38 octets
    010500070001             # options template 261, 7 fields, 1 of them scope
    00900004                 # scope exportingProcessId 144, 4
    00a30008                 # observedFlowTotalCount 163, 8
    00a40008                 # ignoredPacketTotalCount 164, 8
    00a50008                 # ignoredOctetTotalCount 165, 8
    00a60008                 # notSentFlowTotalCount 166, 8
    00a70008                 # notSentPacketTotalCount 167, 8
    00a80008                 # notSentOctetTotalCount 168, 8
    00030012                 # set 3: options templates, 18 octets
    010600020001             # options template 262, 2 fields, 1 of them scope
    00950004                 # scope observationDomainId 149, 4
    00220004                 # samplingInterval 34, 4
    00030016                 # set 3: options templates, 22 octets
    010700030001             # options template 263, 3 fields, 1 of them scope
    000a0004                 # scope ingressInterface 10, 4
    00520010                 # interfaceName 82, 16
    00530040                 # interfaceDescription 83, 64
";

const IPFIX_OPTIONS: &str = r"
    000a00d0                 # IPFIX, 208 octets
    6a18a500                 # export time
    00000000                 # sequence
    00000001                 # domain 1
    0106000c                 # set 262, 12 octets
    00000001                 # domain 1
    00000064                 # one packet of 100
    01040024                 # set 260, 36 octets
    00000001                 # domain 1
    0000000000000001         # messages so far
    0000000000000000         # flow records so far
    0000000000000120         # octets so far
    012c                     # active timeout
    000f                     # idle timeout
    01050038                 # set 261, 56 octets
    00000001                 # the one process
    00000000000003e8         # flows observed
    0000000000000007         # packets ignored
    00000000000002bc         # octets ignored
    0000000000000003         # flow records not sent
    000000000000001e         # packets in them
    0000000000000bb8         # octets in them
    01070058                 # set 263, 88 octets
    00000003                 # interface 3
    65746831000000000000000000000000 # eth1
    6d6972726f7220706f72740000000000 # mirror port
    00000000000000000000000000000000
    00000000000000000000000000000000
    00000000000000000000000000000000
";

const IPFIX_DATA: &str = r"
    000a00ed                 # IPFIX, 237 octets
    6a18a500                 # export time
    00000004                 # sequence
    00000001                 # domain 1
    01000082                 # set 256, 130 octets
    c0000201                 # 192.0.2.1
    c6336407                 # 198.51.100.7
    9c40                     # port 40000
    01bb                     # port 443
    06                       # TCP
    b8                       # type of service
    1b                       # FIN SYN PSH ACK
    0000                     # no ICMP
    00000003                 # from interface 3
    00000000                 # to an unknown one
    00640064                 # VLAN 100, twice
    03                       # end detected
    00                       # came in
    000000000000000a         # 10 packets
    0000000000000fa0         # 4000 octets
    0000019e704439e0         # start
    0000019e70444de3         # end
    c0000201                 # 192.0.2.1
    c6336407                 # 198.51.100.7
    0000                     # no port
    0000                     # no port
    01                       # ICMP
    00                       # type of service
    00                       # no TCP
    0800                     # type 8, code 0: echo request
    00000000                 # from an unknown one
    00000003                 # to interface 3
    00000000                 # VLAN 0, twice
    02                       # active timeout
    01                       # went out
    000000000000000a         # 10 packets
    0000000000000fa0         # 4000 octets
    0000019e704439e0         # start
    0000019e70444de3         # end
    0101005b                 # set 257, 91 octets
    20010db8000000000000000000000001 # 2001:db8::1
    20010db8000000000000000000000002 # 2001:db8::2
    14e9                     # port 5353
    0035                     # port 53
    11                       # UDP
    00                       # traffic class
    00                       # no TCP
    0000                     # no ICMP
    00000003                 # from interface 3
    00000000                 # to an unknown one
    00000000                 # VLAN 0, twice
    01                       # idle timeout
    00                       # came in
    000000000000000a         # 10 packets
    0000000000000fa0         # 4000 octets
    0000019e704439e0         # start
    0000019e70444de3         # end
";

const V9_TEMPLATES: &str = r"
    00090006                 # version 9, 6 records
    05265c00                 # sysUpTime
    6a18a500                 # unix_secs
    00000000                 # sequence
    00000001                 # source id 1
    00000050                 # set 0: templates, 80 octets
    01000012                 # template 256, 18 fields
    00080004                 # sourceIPv4Address 8, 4
    000c0004                 # destinationIPv4Address 12, 4
    00070002                 # sourceTransportPort 7, 2
    000b0002                 # destinationTransportPort 11, 2
    00040001                 # protocolIdentifier 4, 1
    00050001                 # ipClassOfService 5, 1
    00060001                 # tcpControlBits 6, 1
    00200002                 # icmpTypeCodeIPv4 32, 2
    000a0004                 # ingressInterface 10, 4
    000e0004                 # egressInterface 14, 4
    003a0002                 # vlanId 58, 2
    00f30002                 # dot1qVlanId 243, 2
    00880001                 # flowEndReason 136, 1
    003d0001                 # flowDirection 61, 1
    00020008                 # packetDeltaCount 2, 8
    00010008                 # octetDeltaCount 1, 8
    00160004                 # FIRST_SWITCHED 22, 4
    00150004                 # LAST_SWITCHED 21, 4
    00000050                 # set 0: templates, 80 octets
    01010012                 # template 257, 18 fields
    001b0010                 # sourceIPv6Address 27, 16
    001c0010                 # destinationIPv6Address 28, 16
    00070002                 # sourceTransportPort 7, 2
    000b0002                 # destinationTransportPort 11, 2
    00040001                 # protocolIdentifier 4, 1
    00050001                 # ipClassOfService 5, 1
    00060001                 # tcpControlBits 6, 1
    00200002                 # ICMP_TYPE 32, 2
    000a0004                 # ingressInterface 10, 4
    000e0004                 # egressInterface 14, 4
    003a0002                 # vlanId 58, 2
    00f30002                 # dot1qVlanId 243, 2
    00880001                 # flowEndReason 136, 1
    003d0001                 # flowDirection 61, 1
    00020008                 # packetDeltaCount 2, 8
    00010008                 # octetDeltaCount 1, 8
    00160004                 # FIRST_SWITCHED 22, 4
    00150004                 # LAST_SWITCHED 21, 4
    00010024                 # flowset 1: options templates, 36 octets
    010400040014             # options template 260, 4 octets of scope, 20 of options
    00010004                 # scope System 1, 4
    00290008                 # exportedMessageTotalCount 41, 8
    002a0008                 # exportedFlowRecordTotalCount 42, 8
    00280008                 # exportedOctetTotalCount 40, 8
    00240002                 # flowActiveTimeout 36, 2
    00250002                 # flowIdleTimeout 37, 2
    0000                     # padding
    00010028                 # flowset 1: options templates, 40 octets
    010500040018             # options template 261, 4 octets of scope, 24 of options
    00010004                 # scope System 1, 4
    00a30008                 # observedFlowTotalCount 163, 8
    00a40008                 # ignoredPacketTotalCount 164, 8
    00a50008                 # ignoredOctetTotalCount 165, 8
    00a60008                 # notSentFlowTotalCount 166, 8
    00a70008                 # notSentPacketTotalCount 167, 8
    00a80008                 # notSentOctetTotalCount 168, 8
    0000                     # padding
    00010014                 # flowset 1: options templates, 20 octets
    010600040004             # options template 262, 4 octets of scope, 4 of options
    00010004                 # scope System 1, 4
    00220004                 # samplingInterval 34, 4
    0000                     # padding
    00010018                 # flowset 1: options templates, 24 octets
    010700040008             # options template 263, 4 octets of scope, 8 of options
    00020004                 # scope Interface 2, 4
    00520010                 # interfaceName 82, 16
    00530040                 # interfaceDescription 83, 64
    0000                     # padding
";

const V9_OPTIONS: &str = r"
    00090004                 # version 9, 4 records
    05265c00                 # sysUpTime
    6a18a500                 # unix_secs
    00000001                 # sequence
    00000001                 # source id 1
    0106000c                 # set 262, 12 octets
    00000001                 # domain 1
    00000064                 # one packet of 100
    01040024                 # set 260, 36 octets
    00000001                 # domain 1
    0000000000000001         # messages so far
    0000000000000000         # flow records so far
    000000000000012c         # octets so far
    012c                     # active timeout
    000f                     # idle timeout
    01050038                 # set 261, 56 octets
    00000001                 # source id 1
    00000000000003e8         # flows observed
    0000000000000007         # packets ignored
    00000000000002bc         # octets ignored
    0000000000000003         # flow records not sent
    000000000000001e         # packets in them
    0000000000000bb8         # octets in them
    01070058                 # set 263, 88 octets
    00000003                 # interface 3
    65746831000000000000000000000000 # eth1
    6d6972726f7220706f72740000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 # mirror port
";

const V9_DATA: &str = r"
    00090003                 # version 9, 3 records
    05265c00                 # sysUpTime
    6a18a500                 # unix_secs
    00000002                 # sequence
    00000001                 # source id 1
    01000074                 # set 256, 116 octets
    c0000201                 # 192.0.2.1
    c6336407                 # 198.51.100.7
    9c40                     # port 40000
    01bb                     # port 443
    06                       # TCP
    b8                       # type of service
    1b                       # FIN SYN PSH ACK
    0000                     # no ICMP
    00000003                 # from interface 3
    00000000                 # to an unknown one
    00640064                 # VLAN 100, twice
    03                       # end detected
    00                       # came in
    000000000000000a         # 10 packets
    0000000000000fa0         # 4000 octets
    05260de0                 # start, after the boot
    052621e3                 # end
    c0000201                 # 192.0.2.1
    c6336407                 # 198.51.100.7
    0000                     # no port
    0800                     # port: type 8, code 0
    01                       # ICMP
    00                       # type of service
    00                       # no TCP
    0800                     # type 8, code 0: echo request
    00000000                 # from an unknown one
    00000003                 # to interface 3
    00000000                 # VLAN 0, twice
    02                       # active timeout
    01                       # went out
    000000000000000a         # 10 packets
    0000000000000fa0         # 4000 octets
    05260de0                 # start, after the boot
    052621e3                 # end
    0000                     # padding
    01010054                 # set 257, 84 octets
    20010db8000000000000000000000001 # 2001:db8::1
    20010db8000000000000000000000002 # 2001:db8::2
    14e9                     # port 5353
    0035                     # port 53
    11                       # UDP
    00                       # traffic class
    00                       # no TCP
    0000                     # no ICMP
    00000003                 # from interface 3
    00000000                 # to an unknown one
    00000000                 # VLAN 0, twice
    01                       # idle timeout
    00                       # came in
    000000000000000a         # 10 packets
    0000000000000fa0         # 4000 octets
    05260de0                 # start, after the boot
    052621e3                 # end
    00                       # padding
";

const BIFLOW_TEMPLATES: &str = r"
    000a0108                 # IPFIX, 264 octets
    6a18a500                 # export time
    00000000                 # sequence
    00000001                 # domain 1
    0002002c                 # set 2: templates, 44 octets
    01000009                 # template 256, 9 fields
    00080004                 # sourceIPv4Address 8, 4
    000c0004                 # destinationIPv4Address 12, 4
    00070002                 # sourceTransportPort 7, 2
    000b0002                 # destinationTransportPort 11, 2
    00040001                 # protocolIdentifier 4, 1
    00020008                 # packetDeltaCount 2, 8
    00010008                 # octetDeltaCount 1, 8
    00980008                 # flowStartMilliseconds 152, 8
    00990008                 # flowEndMilliseconds 153, 8
    0002002c                 # set 2: templates, 44 octets
    01010009                 # template 257, 9 fields
    001b0010                 # sourceIPv6Address 27, 16
    001c0010                 # destinationIPv6Address 28, 16
    00070002                 # sourceTransportPort 7, 2
    000b0002                 # destinationTransportPort 11, 2
    00040001                 # protocolIdentifier 4, 1
    00020008                 # packetDeltaCount 2, 8
    00010008                 # octetDeltaCount 1, 8
    00980008                 # flowStartMilliseconds 152, 8
    00990008                 # flowEndMilliseconds 153, 8
    00020050                 # set 2: templates, 80 octets
    0102000e                 # template 258, 14 fields
    00080004                 # sourceIPv4Address 8, 4
    000c0004                 # destinationIPv4Address 12, 4
    00070002                 # sourceTransportPort 7, 2
    000b0002                 # destinationTransportPort 11, 2
    00040001                 # protocolIdentifier 4, 1
    00020008                 # packetDeltaCount 2, 8
    00010008                 # octetDeltaCount 1, 8
    00980008                 # flowStartMilliseconds 152, 8
    00990008                 # flowEndMilliseconds 153, 8
    8002000800007279         # reverse packetDeltaCount 2, 8
    8001000800007279         # reverse octetDeltaCount 1, 8
    8098000800007279         # reverse flowStartMilliseconds 152, 8
    8099000800007279         # reverse flowEndMilliseconds 153, 8
    00ef0001                 # biflowDirection 239, 1
    00020050                 # set 2: templates, 80 octets
    0103000e                 # template 259, 14 fields
    001b0010                 # sourceIPv6Address 27, 16
    001c0010                 # destinationIPv6Address 28, 16
    00070002                 # sourceTransportPort 7, 2
    000b0002                 # destinationTransportPort 11, 2
    00040001                 # protocolIdentifier 4, 1
    00020008                 # packetDeltaCount 2, 8
    00010008                 # octetDeltaCount 1, 8
    00980008                 # flowStartMilliseconds 152, 8
    00990008                 # flowEndMilliseconds 153, 8
    8002000800007279         # reverse packetDeltaCount 2, 8
    8001000800007279         # reverse octetDeltaCount 1, 8
    8098000800007279         # reverse flowStartMilliseconds 152, 8
    8099000800007279         # reverse flowEndMilliseconds 153, 8
    00ef0001                 # biflowDirection 239, 1
";

const BIFLOW_DATA: &str = r"
    000a0062                 # IPFIX, 98 octets
    6a18a500                 # export time
    00000000                 # sequence
    00000001                 # domain 1
    01020052                 # set 258, 82 octets
    c0000201                 # 192.0.2.1
    c6336407                 # 198.51.100.7
    9c40                     # port 40000
    01bb                     # port 443
    06                       # TCP
    000000000000000a         # 10 packets
    0000000000000fa0         # 4000 octets
    0000019e704439e0         # start
    0000019e70444de3         # end
    0000000000000008         # 8 packets back
    0000000000015f90         # 90000 octets back
    0000019e70443dc8         # back from
    0000019e70444de3         # until
    01                       # of the initiator
";

const V1: &str = r"
    00010001                 # version 1, 1 record
    0526aa20                 # SysUptime
    6a18a500                 # unix_secs
    00000000                 # unix_nsecs
    c0000201                 # 192.0.2.1
    c6336407                 # 198.51.100.7
    00000000                 # next hop
    0003                     # from interface 3
    0000                     # to an unknown one
    0000000a                 # 10 packets
    00000fa0                 # 4000 octets
    05265c00                 # First: a day after the virtual boot
    05267003                 # Last
    9c40                     # port 40000
    01bb                     # port 443
    0000                     # pad
    06                       # TCP
    b8                       # type of service
    1b                       # FIN SYN PSH ACK
    00000000000000           # pad
";

const V5: &str = r"
    00050001                 # version 5, 1 record
    0526aa20                 # SysUptime
    6a18a500                 # unix_secs
    00000000                 # unix_nsecs
    00000000                 # sequence
    02                       # engine type
    07                       # engine id
    4064                     # deterministic, one of 100
    c0000201                 # 192.0.2.1
    c6336407                 # 198.51.100.7
    00000000                 # next hop
    0003                     # from interface 3
    0000                     # to an unknown one
    0000000a                 # 10 packets
    00000fa0                 # 4000 octets
    05265c00                 # First: a day after the virtual boot
    05267003                 # Last
    9c40                     # port 40000
    01bb                     # port 443
    00                       # pad
    1b                       # FIN SYN PSH ACK
    06                       # TCP
    b8                       # type of service
    00000000                 # AS numbers
    0000                     # prefix lengths
    0000                     # pad
";

const V7: &str = r"
    00070001                 # version 7, 1 record
    0526aa20                 # SysUptime
    6a18a500                 # unix_secs
    00000000                 # unix_nsecs
    00000000                 # sequence
    00                       # engine type
    07                       # engine id
    0000                     # reserved
    c0000201                 # 192.0.2.1
    c6336407                 # 198.51.100.7
    00000000                 # next hop
    0003                     # from interface 3
    0000                     # to an unknown one
    0000000a                 # 10 packets
    00000fa0                 # 4000 octets
    05265c00                 # First: a day after the virtual boot
    05267003                 # Last
    9c40                     # port 40000
    01bb                     # port 443
    00                       # all fields are valid
    1b                       # FIN SYN PSH ACK
    06                       # TCP
    b8                       # type of service
    00000000                 # AS numbers
    0000                     # prefix lengths
    0000                     # all fields are valid
    00000000                 # router_sc
";
