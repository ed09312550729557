// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX over SCTP: an association where the kernel has SCTP, a clear refusal where it has not. One test, because
//! one of them is true on every host; it says which.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod export_support;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use export_support::{Bench, QUICK, all_dropped, read_session};
use probe_user::export::{CollectorUrl, ExporterOptions, SctpSink, open};
use socket2::{Domain, Protocol, Socket, Type};

#[test]
fn an_association_where_the_kernel_has_sctp_and_a_refusal_where_not() {
    match Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::SCTP)) {
        Ok(listener) => {
            eprintln!("this kernel has SCTP: messages are sent over an association");
            messages_arrive_whole(listener);
        }
        Err(error) => {
            eprintln!("this kernel has no SCTP ({error}): only the refusal is tested");
            refusal_says_what_to_do();
        }
    }
}

fn refusal_says_what_to_do() {
    let url: CollectorUrl = "ipfix+sctp://192.0.2.1".parse().unwrap();
    let Err(error) = open(&url) else { panic!("it opened a socket") };
    assert!(!error.is_usage(), "the host cannot: exit status 3");
    let text = error.to_string();
    for part in ["ipfix+sctp://192.0.2.1:4739", "no SCTP", "modprobe sctp", "ipfix+tcp"] {
        assert!(text.contains(part), "{text}");
    }
}

fn messages_arrive_whole(listener: Socket) {
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(4).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let reader = thread::spawn(move || {
        let (association, _) = listener.accept().unwrap();
        association.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut octets, mut buffer) = (Vec::new(), [0; 65_536]);
        loop {
            let mut reader: &Socket = &association;
            let count = reader.read(&mut buffer).unwrap();
            if count == 0 {
                return octets;
            }
            // One read is one message.
            assert_eq!(usize::from(u16::from_be_bytes([buffer[2], buffer[3]])), count);
            octets.extend_from_slice(&buffer[..count]);
        }
    });
    let url: CollectorUrl = format!("ipfix+sctp://{address}").parse().unwrap();
    let sink = Box::new(SctpSink::open(&url, QUICK).unwrap());
    let options = ExporterOptions { interfaces: vec![(3, 0)], lossless: true, ..ExporterOptions::default() };
    let mut bench = Bench::of(vec![(url, sink)], options);
    while bench.pushed() < 20_000 {
        bench.push(1000);
        bench.step();
    }
    bench.flush(Duration::from_secs(10));
    let session = read_session(&reader.join().unwrap());
    assert_eq!((session.flows, session.missing, session.first_sets[0]), (bench.pushed(), 0, 2));
    let stats = bench.stats();
    let stats = &stats.collectors[0];
    assert_eq!((stats.records.get(), all_dropped(stats), stats.imbalance()), (bench.pushed(), 0, 0));
    assert_eq!(bench.exporter.endpoints()[0].protocol, 132);
}
