// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX over TCP and TLS, with real sockets: framing, templates that last as long as their connection,
//! connections that are of no use, certificates.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use probe_lab::{Process, SharedOutput};
use probe_user::collect::{Collector, CollectorOptions, ListenUrl, OutputFormat, TlsFiles, Transport, Unit};
use probe_user::flow::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A collector whose steps a test makes.
struct Bench {
    collector: Collector,
    out: SharedOutput,
    now: Timestamp,
}

impl Bench {
    fn new(transports: &[Transport], tls: Option<TlsFiles>) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listen =
            transports.iter().map(|transport| ListenUrl { transport: *transport, address }).collect();
        let options = CollectorOptions { listen, tls, ..CollectorOptions::udp(address, OutputFormat::Json) };
        let out = SharedOutput::default();
        let collector = Collector::bind(options, Box::new(out.clone())).unwrap();
        Self { collector, out, now: Timestamp(1) }
    }

    fn connect(&mut self, at: usize) -> TcpStream {
        let socket = TcpStream::connect(self.collector.listens().nth(at).unwrap().address).unwrap();
        socket.set_read_timeout(Some(10 * SECOND)).unwrap();
        let accepted = self.collector.totals().streams;
        self.until(|collector| collector.totals().streams != accepted);
        socket
    }

    /// Steps until something holds; time stands still.
    fn until(&mut self, mut holds: impl FnMut(&Collector) -> bool) {
        for _ in 0..5000 {
            if holds(&self.collector) {
                return;
            }
            self.collector.step(self.now, MS).unwrap();
        }
        let mut said = Vec::new();
        self.collector.summarize(&mut said).unwrap();
        panic!("it did not come to that:\n{}", String::from_utf8_lossy(&said));
    }

    fn until_records(&mut self, records: u64) {
        self.until(|collector| collector.totals().records >= records);
        assert_eq!(self.collector.totals().records, records);
    }

    fn protocols(&self) -> Vec<u64> {
        let text = self.out.text();
        let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|line| record(line)["protocolIdentifier"].as_u64().unwrap()).collect()
    }
}

fn message(sequence: u32, sets: &[&[u8]]) -> Vec<u8> {
    let sets = sets.concat();
    let length = u16::try_from(sets.len() + 16).unwrap();
    let numbers = [1_700_000_000, sequence, 7].map(u32::to_be_bytes).concat();
    [&[0, 10][..], &length.to_be_bytes(), &numbers, &sets].concat()
}

const TEMPLATE: &[u8] = &[0, 2, 0, 12, 1, 0, 0, 1, 0, 4, 0, 1];
const WITHDRAWAL: &[u8] = &[0, 2, 0, 8, 1, 0, 0, 0];

fn data(protocols: &[u8]) -> Vec<u8> {
    let length = u16::try_from(protocols.len() + 4).unwrap();
    [&[1, 0][..], &length.to_be_bytes(), protocols].concat()
}

/// Whether the collector has closed the connection.
fn is_closed(socket: &mut impl Read) -> bool {
    // A reset tells the same.
    socket.read(&mut [0; 100]).map_or(true, |len| len == 0)
}

#[test]
fn messages_are_found_however_they_are_cut() {
    let mut bench = Bench::new(&[Transport::Tcp], None);
    let mut socket = bench.connect(0);
    let large = data(&[17; 65_535 - 16 - 4]);
    let stream = [
        message(0, &[TEMPLATE, &data(&[1, 2])]),
        message(2, &[]),
        message(2, &[&data(&[3])]),
        message(3, &[&large]),
        message(3 + 65_515, &[&data(&[4])]),
    ]
    .concat();
    for octet in &stream[..60] {
        socket.write_all(&[*octet]).unwrap();
        bench.collector.step(bench.now, Duration::ZERO).unwrap();
    }
    socket.write_all(&stream[60..]).unwrap();
    bench.until_records(4 + 65_515);
    let protocols = bench.protocols();
    assert_eq!((&protocols[..3], protocols.last()), (&[1, 2, 3][..], Some(&4)));
    assert_eq!(bench.collector.sequences().missed_of(Unit::Records), 0);
    drop(socket);
    bench.until(|collector| collector.sequences().exporters() == 0);
    assert_eq!(bench.collector.decoder().octets(), 0, "what a connection said is forgotten with it");
    assert_eq!(bench.collector.totals().streams.cut, 0);
}

#[test]
fn templates_belong_to_their_connection_and_can_be_withdrawn() {
    let mut bench = Bench::new(&[Transport::Tcp, Transport::Udp], None);
    let mut first = bench.connect(0);
    first.write_all(&message(0, &[TEMPLATE, &data(&[1])])).unwrap();
    bench.until_records(1);
    let mut second = bench.connect(0);
    second.write_all(&message(0, &[&data(&[2])])).unwrap();
    bench.until(|collector| collector.decoder().defects().iter().eq([("no_template", 1)]));
    first.write_all(&message(1, &[WITHDRAWAL, &data(&[3])])).unwrap();
    bench.until(|collector| collector.decoder().defects().iter().eq([("no_template", 2)]));
    first.write_all(&message(1, &[TEMPLATE, &data(&[4])])).unwrap();
    bench.until_records(2);
    // Datagrams come in by the same loop.
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = bench.collector.listens().nth(1).unwrap().address;
    udp.send_to(&message(0, &[TEMPLATE, &data(&[5])]), to).unwrap();
    udp.send_to(&message(1, &[WITHDRAWAL, &data(&[6])]), to).unwrap();
    bench.until_records(4);
    assert_eq!(bench.protocols(), [1, 4, 5, 6]);
}

#[test]
fn garbage_and_contradictions_end_a_connection_and_no_other() {
    let mut bench = Bench::new(&[Transport::Tcp], None);
    let mut good = bench.connect(0);
    for (number, garbage) in (1..).zip([
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0, 9, 0, 20, 0],
        vec![0, 10, 0, 15, 0],
        message(0, &[TEMPLATE, &[1, 0, 0, 200, 1, 2, 3]]),
    ]) {
        let mut bad = bench.connect(0);
        bad.write_all(&garbage).unwrap();
        bench.until(|collector| collector.totals().streams.garbage == number);
        assert!(is_closed(&mut bad));
    }
    let mut cut = bench.connect(0);
    cut.write_all(&message(0, &[TEMPLATE])[..17]).unwrap();
    cut.shutdown(Shutdown::Both).unwrap();
    bench.until(|collector| collector.totals().streams.cut == 1);
    good.write_all(&message(0, &[TEMPLATE, &data(&[6])])).unwrap();
    bench.until_records(1);
    assert_eq!(bench.collector.totals().streams.accepted, 6);
}

#[test]
fn who_is_slow_is_ended_and_who_is_silent_stays() {
    let mut bench = Bench::new(&[Transport::Tcp], None);
    let mut silent = bench.connect(0);
    silent.write_all(&message(0, &[TEMPLATE])).unwrap();
    bench.until(|collector| collector.totals().datagrams == 1);
    let mut never = bench.connect(0);
    let mut slow = bench.connect(0);
    slow.write_all(&message(0, &[TEMPLATE])).unwrap();
    slow.write_all(&message(0, &[TEMPLATE])[..5]).unwrap();
    bench.until(|collector| collector.totals().datagrams == 2);
    bench.collector.step(bench.now, MS).unwrap();
    bench.now = bench.now + 59 * SECOND;
    slow.write_all(&[0]).unwrap();
    bench.collector.step(bench.now, 100 * MS).unwrap();
    assert_eq!(bench.collector.totals().streams.slow, 0);
    bench.now = bench.now + 2 * SECOND;
    bench.until(|collector| collector.totals().streams.slow == 2);
    assert!(is_closed(&mut slow) && is_closed(&mut never), "an octet a minute is too slow as well");
    bench.now = bench.now + 100_000 * SECOND;
    silent.write_all(&message(0, &[&data(&[6])])).unwrap();
    bench.until_records(1);
}

#[test]
fn connections_are_bounded() {
    let mut bench = Bench::new(&[Transport::Tcp], None);
    let mut sockets: Vec<_> = (0..256).map(|_| bench.connect(0)).collect();
    for (number, socket) in sockets.iter_mut().enumerate() {
        socket.write_all(&message(0, &[TEMPLATE])).unwrap();
        bench.until(|collector| collector.totals().datagrams == number as u64 + 1);
    }
    let mut refused = bench.connect(0);
    assert!(is_closed(&mut refused));
    assert_eq!(
        (bench.collector.totals().streams.refused, bench.collector.totals().streams.accepted),
        (1, 256)
    );
    // One that has been silent for long makes room.
    bench.now = bench.now + 301 * SECOND;
    sockets[1].write_all(&message(0, &[TEMPLATE])).unwrap();
    bench.until(|collector| collector.totals().datagrams == 257);
    let mut taken = bench.connect(0);
    taken.write_all(&message(0, &[TEMPLATE, &data(&[6])])).unwrap();
    bench.until_records(1);
    assert_eq!(bench.collector.totals().streams.displaced, 1);
}

/// An authority, and what it has signed, as files.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for authority in ["ours", "foreign"] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, authority);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            fs::write(folder.path().join(format!("{authority}.pem")), issuer.pem()).unwrap();
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(folder.path().join(format!("{authority}-cert.pem")), certificate.pem()).unwrap();
            fs::write(folder.path().join(format!("{authority}-key.pem")), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn server(&self, authorities: bool) -> TlsFiles {
        TlsFiles {
            certificates: self.path("ours-cert.pem"),
            key: self.path("ours-key.pem"),
            authorities: authorities.then(|| self.path("ours.pem")),
        }
    }

    /// An exporter with a certificate signed by `authority`, if any.
    fn exporter(
        &self,
        socket: TcpStream,
        authority: Option<&str>,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ours.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match authority {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain =
                    vec![CertificateDer::from_pem_file(self.path(&format!("{name}-cert.pem"))).unwrap()];
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}-key.pem"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
    }
}

#[test]
fn tls_carries_what_tcp_carries() {
    let certificates = Certificates::new();
    let mut bench = Bench::new(&[Transport::Tls], Some(certificates.server(false)));
    let socket = bench.connect(0);
    let mut exporter = certificates.exporter(socket, None);
    // The handshake needs both sides: the exporter's runs in a thread.
    let sender = std::thread::spawn(move || {
        exporter.write_all(&message(0, &[TEMPLATE, &data(&[1, 2])])).unwrap();
        for sequence in 2..2000 {
            exporter.write_all(&message(sequence, &[&data(&[3])])).unwrap();
        }
        exporter.conn.send_close_notify();
        exporter.flush().unwrap();
    });
    bench.until_records(2000);
    sender.join().unwrap();
    assert_eq!(bench.collector.sequences().missed_of(Unit::Records), 0);
    bench.until(|collector| collector.sequences().exporters() == 0);
    let streams = bench.collector.totals().streams;
    assert_eq!((streams.accepted, streams.garbage, streams.cut), (1, 0, 0));
    // Whoever speaks no TLS is ended.
    let mut plain = bench.connect(0);
    plain.write_all(&message(0, &[TEMPLATE, &data(&[1])])).unwrap();
    bench.until(|collector| collector.totals().streams.garbage == 1);
    assert!(!is_closed(&mut plain), "the alert");
    assert!(is_closed(&mut plain));
    assert_eq!(bench.collector.totals().records, 2000);
}

#[test]
fn exporters_show_certificates_where_authorities_are_named() {
    let certificates = Certificates::new();
    let mut bench = Bench::new(&[Transport::Tls], Some(certificates.server(true)));
    let mut send = |authority: Option<&'static str>, done: &mut dyn FnMut(&Collector) -> bool| {
        let socket = bench.connect(0);
        let mut exporter = certificates.exporter(socket, authority);
        let sender = std::thread::spawn(move || {
            // Refused, it fails when it writes or, with TLS 1.3, when it reads.
            let written = exporter.write_all(&message(0, &[TEMPLATE, &data(&[6])]));
            exporter.sock.shutdown(Shutdown::Write).ok();
            written.and_then(|()| exporter.read(&mut [0])).is_ok()
        });
        bench.until(|collector| done(collector));
        sender.join().unwrap();
    };
    send(Some("ours"), &mut |collector| collector.totals().records == 1);
    send(Some("foreign"), &mut |collector| collector.totals().streams.garbage == 1);
    send(None, &mut |collector| collector.totals().streams.garbage == 2);
    assert_eq!(bench.collector.totals().records, 1);
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let certificates = Certificates::new();
    let fail = |tls: Option<TlsFiles>| {
        let listen = vec!["tls://127.0.0.1:0".parse().unwrap()];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = CollectorOptions { listen, tls, ..CollectorOptions::udp(address, OutputFormat::Text) };
        let Err(error) = Collector::bind(options, Box::new(std::io::sink())) else { panic!("it listens") };
        error.to_string()
    };
    assert!(fail(None).contains("a certificate and its key are needed"));
    let good = certificates.server(false);
    let missing = TlsFiles { certificates: certificates.path("none.pem"), ..good.clone() };
    assert!(fail(Some(missing)).contains("none.pem"));
    let swapped = TlsFiles { certificates: good.key.clone(), key: good.certificates.clone(), ..good.clone() };
    assert!(fail(Some(swapped)).contains("no certificate in"));
    let other = TlsFiles { key: certificates.path("foreign-key.pem"), ..good };
    assert!(fail(Some(other)).contains("must belong together"));
}

#[test]
fn the_program_listens_on_several_ports_and_sums_up() {
    let args = "collect --listen tcp://127.0.0.1:0,udp://127.0.0.1:0 --format json --options on --count 3";
    let args: Vec<&str> = args.split(' ').collect();
    let mut process = Process::start(None, env!("CARGO_BIN_EXE_probe"), &args).unwrap();
    process.wait_for_message("listening on udp://127.0.0.1:", 30 * SECOND).unwrap();
    let said = process.stderr();
    let port = |scheme: &str| -> u16 {
        let rest = said.split(&format!("listening on {scheme}://127.0.0.1:")).nth(1).unwrap();
        rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let sampling =
        [&[0, 3, 0, 18, 1, 44, 0, 2, 0, 1, 0, 149, 0, 4, 0, 34, 0, 4][..], &[1, 44, 0, 12, 0, 0, 0, 7]];
    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port("tcp"))).unwrap();
    tcp.write_all(&message(0, &[sampling[0], sampling[1], &[0, 0, 0, 100], TEMPLATE, &data(&[6])])).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.send_to(&message(0, &[TEMPLATE, &data(&[17, 1])]), (Ipv4Addr::LOCALHOST, port("udp"))).unwrap();
    assert!(process.wait(30 * SECOND).unwrap().success(), "{}", process.stderr());
    let lines: Vec<serde_json::Value> =
        process.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let options = lines.iter().find(|line| line["recordKind"] == "options").unwrap();
    assert_eq!((&options["samplingInterval"], &options["template"]), (&100.into(), &300.into()));
    let summary = process.stderr();
    for said in ["flows 3,", "options records 1", "connections 1,", "domain 7, sampler 0: 1:100"] {
        assert!(summary.contains(said), "no {said} in:\n{summary}");
    }
}
