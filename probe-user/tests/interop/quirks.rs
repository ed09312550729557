// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What collectors that do not run here are known to need (goflow2, Akvorado, older nfdump and pmacct), read
//! off the datagrams themselves.

use std::{fs::File, process::Command};

use probe_lab::{
    Datagram,
    pcap_file::{PcapFormat, PcapWriter},
};

use super::{
    PROBE, decoders,
    elements::Fields,
    messages::{Kind, Message, Template, walk},
    relay::Relay,
    tool, traffic,
};

/// UDP over IPv4 in an Ethernet frame of 1500 octets.
const LARGEST: usize = 1472;

/// Datagrams that each of these collectors gets of the same packets; `URL` is the part before the host and
/// the part behind the port.
fn exported(sampling: &str, urls: &[(&str, &str)]) -> Vec<Vec<Datagram>> {
    let folder = tool::folder("quirks");
    let path = folder.path().join("packets.pcap");
    let mut file = PcapWriter::new(File::create(&path).unwrap(), PcapFormat::default()).unwrap();
    let packets = [traffic::ipv4(2), traffic::ipv6(1), traffic::vlans()].concat();
    for (number, packet) in (0..).zip(&packets) {
        file.write(1_780_000_000_000_000_000 + number * 3_000_000, &packet.frame()).unwrap();
    }
    file.finish().unwrap();
    let mut command = Command::new(PROBE);
    command.arg("replay").arg(&path).args(["--sampling", sampling]);
    let keepers: Vec<Relay> = urls
        .iter()
        .map(|(scheme, query)| {
            let (keeper, port) = Relay::keeper_here();
            command.args(["--collector", &format!("{scheme}://127.0.0.1:{port}{query}")]);
            keeper
        })
        .collect();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    keepers.into_iter().map(|keeper| keeper.finish().received).collect()
}

/// Lengths of the fields of a template that have one of these numbers.
fn lengths(template: &Template, ids: &[u16]) -> Vec<u16> {
    let fields = template.fields.iter().filter(|(enterprise, id, _)| *enterprise == 0 && ids.contains(id));
    fields.map(|(_, _, length)| *length).collect()
}

fn flow_templates(datagrams: &[Datagram]) -> Vec<Template> {
    let templates: Vec<_> =
        walk(datagrams).templates.into_values().filter(|template| !template.is_options).collect();
    assert_eq!(templates.len(), 2, "IPv4 and IPv6");
    templates
}

#[test]
fn records_have_the_fields_that_all_collectors_know() {
    let exported = exported("off", &[("v9", ""), ("ipfix", "")]);
    for (version, datagrams) in [9, 10].into_iter().zip(&exported) {
        for template in flow_templates(datagrams) {
            let has = |ids: &[u16]| lengths(&template, ids);
            // goflow2 takes 23 and 24 for 1 and 2; pmacct counts 0 unless they have 4 or 8 octets.
            assert_eq!((has(&[1, 2]), has(&[23, 24])), (vec![8, 8], vec![]), "{template:?}");
            // pmacct up to 1.7.7 knows TCP flags of one octet only.
            assert_eq!(has(&[6]), [1], "{template:?}");
            // nfdump reads 58 alone, Akvorado 243 first.
            assert_eq!(has(&[58, 243]), [2, 2], "{template:?}");
            assert_eq!((has(&[10, 14]), has(&[4, 5, 136])), (vec![4, 4], vec![1, 1, 1]), "{template:?}");
            // goflow2 and pmacct know 21 and 22 in v9, nfdump 1.7.1 and goflow2 152 and 153 in IPFIX.
            let (uptimes, milliseconds) = (has(&[21, 22]), has(&[152, 153]));
            let times = if version == 9 { (vec![4, 4], vec![]) } else { (vec![], vec![8, 8]) };
            assert_eq!((uptimes, milliseconds), times, "{template:?}");
            assert_eq!(has(&[150, 151, 154, 155, 156, 157, 158, 159, 160]), [0; 0], "{template:?}");
            assert!(template.fields.iter().all(|(enterprise, ..)| *enterprise == 0), "{template:?}");
        }
    }
}

#[test]
fn messages_have_the_form_that_all_collectors_take() {
    let exported = exported("off", &[("v9", ""), ("ipfix", "")]);
    for datagrams in &exported {
        let messages: Vec<Message> =
            datagrams.iter().map(|datagram| Message::read(&datagram.octets)).collect();
        // Collectors know templates by the socket that sent them; templates come before all data.
        assert!(datagrams.iter().all(|datagram| datagram.from == datagrams[0].from));
        assert!(messages[0].has_templates());
        assert!(datagrams.iter().all(|datagram| datagram.octets.len() <= LARGEST));
        assert!(messages.iter().all(|message| message.domain == 1));
        let walk = walk(datagrams);
        assert!(walk.gaps == 0 && walk.flows > 100 && walk.options >= 3, "{walk:?}");
        // Who applies sampling must know of it before the first flow.
        let of_kind = |is_options: bool| {
            let data = |(kind, _): &(Kind, _)| matches!(kind, Kind::Data(id) if walk.templates[id].is_options == is_options);
            messages.iter().position(|message| message.sets.iter().any(data)).unwrap()
        };
        assert!(of_kind(true) < of_kind(false));
        for message in &messages {
            for template in message.templates() {
                // A template without fields would withdraw it, which UDP does not allow (RFC 7011 section 8.4).
                assert!(!template.fields.is_empty(), "{message:?}");
            }
            for (kind, body) in &message.sets {
                match kind {
                    // nfdump reads one options template of a set, and one record of sampling.
                    Kind::OptionsTemplate => {
                        let alone = Message { sets: vec![(*kind, body.clone())], ..message.clone() };
                        assert_eq!(alone.templates().len(), 1, "{message:?}");
                    }
                    Kind::Data(id) if walk.templates[id].is_options => {
                        assert_eq!(walk.templates[id].records(body), 1, "{message:?}");
                    }
                    Kind::Template | Kind::Data(_) => {}
                }
            }
        }
    }
}

#[test]
fn sampling_is_told_in_the_one_form_that_all_collectors_read() {
    for (sampling, interval) in [("off", 1), ("1:10", 10), ("random:10", 10), ("flow:10", 10)] {
        let urls = [("v9", ""), ("ipfix", ""), ("ipfix", "?sampling_options=psamp"), ("v9", "?sampling=3")];
        let exported = exported(sampling, &urls);
        for (datagrams, more) in exported.iter().zip([1, 1, 1, 3]) {
            let options = decoders::netflow_parser(datagrams).options;
            let told: Vec<_> = options.iter().filter_map(|option| option.number(34)).collect();
            let selectors: Vec<&Fields> =
                options.iter().filter(|option| option.number(302).is_some()).collect();
            let templates = walk(datagrams).templates;
            let has = |ids: &[u16]| templates.values().any(|template| !lengths(template, ids).is_empty());
            if selectors.is_empty() {
                assert!(!told.is_empty() && told.iter().all(|told| *told == interval * more), "{options:?}");
                // goflow2 would take 305 for the rate; nfdump 1.7.1 ignores 34 beside 35.
                assert!(has(&[34]) && !has(&[35, 48, 49, 50, 302, 304, 305, 306]), "{templates:?}");
            } else {
                assert!(!has(&[34, 35, 50]), "{templates:?}");
                for selector in selectors {
                    let form = [304, 305, 306, 309, 310].map(|id| selector.number(id));
                    let expected = match sampling {
                        "off" => [Some(1), Some(1), Some(0), None, None],
                        "1:10" => [Some(1), Some(1), Some(9), None, None],
                        "flow:10" => [Some(3), None, None, Some(1), Some(10)],
                        _ => [Some(4), None, None, None, None],
                    };
                    assert_eq!(form, expected, "{sampling}: {selector:?}");
                }
                // pmacct swaps a selector of 4 octets.
                let selector = templates.values().flat_map(|template| lengths(template, &[302]));
                assert!(selector.into_iter().all(|length| length == 8));
            }
        }
    }
}

#[test]
fn the_header_of_v5_is_read_by_those_who_mask_it_and_those_who_do_not() {
    for (sampling, masked, plain) in [
        ("off", 0, 0),
        ("1:10", 0x4000 | 10, 10),
        ("random:10", 0x8000 | 10, 10),
        ("flow:10", 0x8000 | 10, 10),
    ] {
        let exported = exported(sampling, &[("v5", ""), ("v5", "?v5_sampling_mode_bits=off")]);
        for (datagrams, field) in exported.iter().zip([masked, plain]) {
            for Datagram { octets, .. } in datagrams {
                let message = Message::read(octets);
                assert_eq!(message.domain & 0xffff, field, "{sampling}");
                // pmacct discards whatever has another length.
                let records = usize::from(message.count_or_length);
                assert!((1..=30).contains(&records) && octets.len() == 24 + 48 * records);
            }
            assert_eq!(walk(datagrams).gaps, 0);
        }
    }
}
