// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::{MAX_DEPTH, parser::parse};

fn canonical(text: &str) -> String {
    parse(text).unwrap().to_string()
}

#[test]
fn canonical_forms() {
    for (given, expected) in [
        ("any", "any"),
        ("IP", "ip"),
        ("ipv6", "ip6"),
        ("host 192.0.2.1", "host 192.0.2.1"),
        ("src 192.0.2.1", "src host 192.0.2.1"),
        ("src ip 192.0.2.1", "src host 192.0.2.1"),
        ("dst 2001:DB8::/32", "dst net 2001:db8::/32"),
        ("net 192.0.2.77/24", "net 192.0.2.0/24"),
        ("net 192.0.2.77/32", "host 192.0.2.77"),
        ("net 0.0.0.0/0", "net 0.0.0.0/0"),
        ("net ::/0", "net ::/0"),
        ("net 2001:db8:1:2:3::/65", "net 2001:db8:1:2::/65"),
        ("port 53", "port 53"),
        ("src port 1024-65535", "src port 1024-65535"),
        ("proto 6", "proto tcp"),
        ("proto 99", "proto 99"),
        ("proto icmpv6", "proto icmp6"),
        ("tcp dst port 80", "proto tcp and dst port 80"),
        ("not tcp port 80", "not (proto tcp and port 80)"),
        ("udp and host ::1", "proto udp and host ::1"),
        ("vlan 12", "vlan 12"),
        ("if 3", "if 3"),
        ("IN if 3", "in if 3"),
        ("out if 3", "out if 3"),
        ("dir in", "dir in"),
        ("dir Egress and tcp", "dir out and proto tcp"),
        ("tos 0x10", "tos 16"),
        ("flags syn,ack", "flags SA"),
        ("flags AS", "flags SA"),
        ("flags ECE", "flags E"),
        ("flags CE", "flags EC"),
        ("flags S/SA", "flags S/SA"),
        ("flags 0/rst", "flags 0/R"),
        ("packets>10", "packets > 10"),
        ("bytes >= 2k", "octets >= 2000"),
        ("octets==1G", "octets = 1000000000"),
        ("duration <= 1500ms", "duration <= 1500ms"),
        ("duration != 60s", "duration != 1m"),
        ("a", ""),
        ("ip and ip6 or any", "ip and ip6 or any"),
        ("ip && (ip6 || any)", "ip and (ip6 or any)"),
        ("((ip)) and (ip6 and any)", "ip and ip6 and any"),
        ("ip or (ip6 or any)", "ip or ip6 or any"),
        ("not not ip", "ip"),
        ("! (ip or ip6)", "not (ip or ip6)"),
        ("!!(ip and ip6) and any", "ip and ip6 and any"),
    ] {
        if expected.is_empty() {
            assert!(parse(given).is_err(), "{given}");
            continue;
        }
        assert_eq!(canonical(given), expected, "{given}");
        assert_eq!(parse(expected), parse(given), "{given}");
    }
}

#[test]
fn errors_point_at_the_place() {
    for (given, expected) in [
        ("", "at the end (character 1): expected a test; known are any, ip, ip6"),
        ("src prot 5", "at 'prot' (character 5): expected host, net, port or an address"),
        ("ip and prot 5", "at 'prot' (character 8): expected a test; known are"),
        ("ip prot", "at 'prot' (character 4): expected and, or, or the end"),
        ("ip and", "at the end (character 7): expected a test"),
        ("(ip or ip6", "at the end (character 11): expected and, or, or the ) for character 1"),
        ("ip)", "at ')' (character 3): expected and, or, or the end"),
        ("host example.net", "(character 6): expected an IPv4 or IPv6 address; names are not looked up"),
        ("host 10.0.0.0/8", "at '10.0.0.0/8' (character 6): expected an IPv4"),
        ("net 10.0.0.0", "(character 5): expected an address and the bits of its prefix"),
        ("net 10.0.0.0/33", "expected an address and the bits"),
        ("net 10.0.0.0/+8", "expected an address and the bits"),
        ("net ::/129", "expected an address and the bits"),
        ("port 70000", "at '70000' (character 6): expected a port, 0 to 65535"),
        ("port 9-3", "a range such as 6000-6063"),
        ("port -3", "expected a port"),
        ("proto 256", "expected a protocol number, 0 to 255, or one of icmp"),
        ("vlan 4096", "expected a VLAN id"),
        ("tos 0x100", "expected a type of service"),
        ("in out", "at 'out' (character 4): expected if"),
        ("out 3", "at '3' (character 5): expected if, as in out if 3; or dir out"),
        ("dir up", "at 'up' (character 5): expected in or out"),
        ("flags SX", "at 'SX' (character 7): expected TCP flags"),
        ("flags SA/S", "exactly those before it"),
        ("flags 0", "expected TCP flags"),
        ("packets 5", "at '5' (character 9): expected one of > >="),
        ("packets > many", "at 'many' (character 11): expected a number"),
        ("packets > 20000000000g", "expected a number"),
        ("duration > 5", "expected a duration with its unit"),
        ("ip & ip6", "at '&' (character 4): expected and, or, or the end"),
    ] {
        let error = parse(given).unwrap_err().to_string();
        assert!(error.contains(expected), "'{given}' gave: {error}");
    }
}

#[test]
fn length_and_depth_are_bounded() {
    let deep = |levels: usize| format!("{}ip{}", "(".repeat(levels), ")".repeat(levels));
    assert!(parse(&deep(MAX_DEPTH - 1)).is_ok());
    assert!(parse(&deep(MAX_DEPTH)).unwrap_err().to_string().contains("at most 32 levels"));
    assert!(parse(&format!("{}ip", "not ".repeat(900))).unwrap_err().to_string().contains("at most 32"));
    assert!(parse(&"ip or ".repeat(1000)).unwrap_err().to_string().contains("at most 4096 octets"));
    let wide = format!("{}ip", "ip or ".repeat(600));
    assert_eq!(canonical(&wide), wide);
}
