// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sampling, as collectors are told of it and as they apply it.

use probe_lab::{Link, Sums, require_root};

use super::{
    REFRESH, REFRESHES,
    bank::Version,
    banks, decoders, fixbuf, options,
    relay::Relay,
    seen::{Seen, assert_same},
    send, traffic, tshark, with_probe,
};

/// Collectors that apply sampling show what crossed the interface, as far as sampling can tell; those that do
/// not show what was metered.
#[test]
#[ignore = "needs root: run `make test`"]
fn sampling_is_applied_by_those_who_know_of_it() {
    const N: u64 = 10;
    require_root();
    let link = Link::new("sampled", 1).unwrap();
    let banks = banks(&link, true);
    let psamp = [(Version::V9, 9030), (Version::Ipfix, 9031)];
    let keepers = psamp.map(|(_, port)| Relay::keeper(&link.metered.namespace, port));
    let mut options = options(banks.iter().zip(REFRESHES), &["--sampling", "1:10"]);
    for (version, port) in psamp {
        let url = format!("{version}://127.0.0.1:{port}?{REFRESH}&sampling_options=psamp");
        options.extend(["--collector".to_owned(), url]);
    }
    let packets = [traffic::ipv4(2), traffic::ipv6(1), traffic::vlans()].concat();
    let (records, ended) = with_probe(&link, &options, |socket| send(socket, &packets));
    let sent = u64::try_from(packets.len()).unwrap();
    let metered: Sums = records.iter().map(Seen::sums).sum();
    assert_eq!(metered.packets, ended.ledger.count("packets.metered"));
    assert_eq!(metered.packets + ended.ledger.count("packets.unmetered.sampled_out"), sent);
    assert!(metered.packets.abs_diff(sent / N) <= 1, "{} of {sent} packets", metered.packets);
    for bank in banks {
        let received = bank.finish();
        received.assert_read("sampled", &records, N);
        received.assert_in_sequence("sampled");
        assert!(received.stored.sampled, "nfdump marks them as sampled");
    }
    for ((version, _), keeper) in psamp.into_iter().zip(keepers) {
        let datagrams = keeper.finish().received;
        let who = format!("psamp, {version}");
        let dissected = tshark::dissect(&datagrams);
        assert_eq!(dissected.remarks, [""; 0], "{who}");
        assert_same(&who, &records, &dissected.records.flows, 0);
        let mut options = vec![dissected.records.options, decoders::netflow_parser(&datagrams).options];
        if version == Version::Ipfix {
            options.push(decoders::ipfixrw(&datagrams).options);
            options.push(fixbuf::dump(&datagrams).options);
        }
        for (reader, options) in options.iter().enumerate() {
            let told: Vec<_> = match version {
                // Selector 1, systematic count-based: one packet, then N - 1 not.
                Version::Ipfix => options
                    .iter()
                    .filter(|option| option.number(304) == Some(1))
                    .map(|option| [302, 305, 306].map(|id| option.number(id)))
                    .collect(),
                _ => options
                    .iter()
                    .filter(|option| option.number(50).is_some())
                    .map(|option| [48, 49, 50].map(|id| option.number(id)))
                    .collect(),
            };
            let expected = if version == Version::Ipfix { [1, 1, N - 1] } else { [1, 1, N] };
            assert!(!told.is_empty(), "{who}, reader {reader}: {options:?}");
            assert!(told.iter().all(|told| *told == expected.map(Some)), "{who}, reader {reader}: {told:?}");
        }
    }
}
