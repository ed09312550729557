// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX over TLS: who may talk to whom, what the log and the counters say where not, and that nothing is lost where
//! they may. The collectors are rustls and OpenSSL.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod export_support;

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use export_support::{Bench, QUICK, Session, all_dropped, errors, read_session, rest};
use probe_user::export::{CollectorUrl, ErrorReason, ExporterOptions, Sink, SinkError, TlsSink, open};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, server::WebPkiClientVerifier,
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A folder of PEM files.
struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    /// An authority, a collector called collector.test, one whose certificate is of the past, and a probe; and a
    /// stranger's authority and probe.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
        fs::write(folder.path().join("stranger-ca.pem"), theirs.pem()).unwrap();
        issue(folder.path(), &ours, "collector", &["collector.test", "127.0.0.1"], false);
        issue(folder.path(), &ours, "expired", &["127.0.0.1"], true);
        issue(folder.path(), &ours, "elsewhere", &["elsewhere.test"], false);
        issue(folder.path(), &ours, "probe", &["probe.test"], false);
        issue(folder.path(), &theirs, "stranger", &["probe.test"], false);
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}

fn issue(folder: &Path, authority: &Authority, name: &str, names: &[&str], expired: bool) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// A collector that asks for a certificate of its authority, and reads sessions until one has said all. Sessions that
/// are refused give no octets.
fn collector(
    pki: &Pki,
    identity: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = vec![CertificateDer::from_pem_file(pki.path(&format!("{identity}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pki.path(&format!("{identity}.key"))).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let reader = thread::spawn(move || {
        let mut octets = Vec::new();
        while octets.is_empty() {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // Without a close_notify this would be an error.
            if rustls::StreamOwned::new(connection, stream).read_to_end(&mut octets).is_err() {
                octets.clear();
            }
        }
        octets
    });
    (address, reader)
}

fn sink(url: &str) -> (CollectorUrl, Box<dyn Sink>) {
    let url: CollectorUrl = url.parse().unwrap();
    let sink = TlsSink::open(&url, QUICK).unwrap();
    (url, Box::new(sink))
}

fn lossless() -> ExporterOptions {
    ExporterOptions { interfaces: vec![(3, 0)], lossless: true, ..ExporterOptions::default() }
}

fn assert_all_arrived(bench: &Bench, session: &Session) {
    let stats = bench.stats();
    let stats = &stats.collectors[0];
    assert_eq!((session.flows, session.missing, session.rest), (bench.pushed(), 0, 0));
    assert_eq!((stats.records.get(), all_dropped(stats), stats.imbalance()), (bench.pushed(), 0, 0));
    assert_eq!(session.first_sets[0], 2);
}

fn export(bench: &mut Bench, records: u64) {
    while bench.pushed() < records {
        bench.push(2000);
        bench.step();
    }
    bench.flush(Duration::from_secs(15));
}

#[test]
fn both_sides_show_their_certificates_and_everything_arrives() {
    let pki = Pki::new();
    for (version, name) in
        [(&rustls::version::TLS13, ""), (&rustls::version::TLS12, "&server_name=collector.test")]
    {
        let (address, reader) = collector(&pki, "collector", &[version]);
        let (ca, cert, key) = (pki.path("ca.pem"), pki.path("probe.pem"), pki.path("probe.key"));
        let url = format!("ipfix+tls://{address}?ca={ca}&cert={cert}&key={key}{name}");
        let mut bench = Bench::of(vec![sink(&url)], lossless());
        export(&mut bench, 50_000);
        assert_all_arrived(&bench, &read_session(&reader.join().unwrap()));
    }
}

/// What a sink complains about, until it does.
fn complaint(url: &str) -> (ErrorReason, String) {
    let (_, mut sink) = sink(url);
    let mut now = probe_user::export::encode::Now::default();
    for _ in 0..10_000 {
        now.at = now.at + Duration::from_millis(1);
        rest();
        let tended = sink.tend(&mut |_| (), now);
        assert!(!sink.is_up(), "a session that must not be is up");
        if let Some(trouble) = tended.trouble {
            return (trouble.reason, trouble.what);
        }
    }
    panic!("no complaint about {url}");
}

#[test]
fn who_must_not_talk_does_not_and_is_told_why() {
    let pki = Pki::new();
    let both = [&rustls::version::TLS13, &rustls::version::TLS12];
    let identity = |name: &str| {
        format!("&cert={}&key={}", pki.path(&format!("{name}.pem")), pki.path(&format!("{name}.key")))
    };
    let cases = [
        ("collector", "stranger-ca.pem", identity("probe"), &both[..], "no authority in"),
        ("expired", "ca.pem", identity("probe"), &both[..], "has expired"),
        ("elsewhere", "ca.pem", identity("probe"), &both[..], "is not for '127.0.0.1'; give server_name"),
        ("collector", "ca.pem", String::new(), &both[..1], "check cert and key"),
        ("collector", "ca.pem", String::new(), &both[1..], "check cert and key"),
        ("collector", "ca.pem", identity("stranger"), &both[..1], "check cert and key"),
        ("collector", "ca.pem", identity("stranger"), &both[1..], "check cert and key"),
    ];
    for (collector_identity, ca, ours, versions, expected) in cases {
        let (address, _reader) = collector(&pki, collector_identity, versions);
        let (reason, what) = complaint(&format!("ipfix+tls://{address}?ca={}{ours}", pki.path(ca)));
        assert_eq!(reason, ErrorReason::Tls, "{what}");
        assert!(what.contains(expected) && what.contains("next attempt"), "'{expected}' not in: {what}");
    }
}

#[test]
fn records_wait_while_the_collector_refuses_and_the_refusals_are_counted() {
    let pki = Pki::new();
    let (address, _reader) = collector(&pki, "collector", &[&rustls::version::TLS13]);
    let mut bench =
        Bench::of(vec![sink(&format!("ipfix+tls://{address}?ca={}", pki.path("ca.pem")))], lossless());
    bench.push(100);
    let stats = bench.stats();
    let stats = &stats.collectors[0];
    bench.step_until("three refusals", |_| errors(stats, ErrorReason::Tls) >= 3);
    assert_eq!((stats.records.get(), stats.waiting.get(), all_dropped(stats)), (0, 100, 0));
    bench.flush(Duration::from_millis(100));
    assert_eq!((all_dropped(stats), stats.imbalance()), (100, 0));
}

#[test]
fn a_peer_that_speaks_no_tls_is_said_so() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mail.test ESMTP\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let pki = Pki::new();
    let (reason, what) = complaint(&format!("ipfix+tls://{address}?ca={}", pki.path("ca.pem")));
    assert_eq!(reason, ErrorReason::Tls);
    assert!(what.contains("check that the collector speaks TLS"), "{what}");
    peer.join().unwrap();
}

#[test]
fn wrong_files_are_refused_at_the_start_with_their_names() {
    let pki = Pki::new();
    let (ca, cert, key) = (pki.path("ca.pem"), pki.path("probe.pem"), pki.path("probe.key"));
    fs::write(pki.folder.path().join("empty.pem"), "nothing\n").unwrap();
    for (options, expected) in [
        (format!("ca={}", pki.path("absent.pem")), "absent.pem: "),
        (format!("ca={}", pki.path("empty.pem")), "holds no certificate"),
        (format!("ca={ca}&cert={cert}"), "'cert' is given without 'key'"),
        (format!("ca={ca}&key={key}"), "'key' is given without 'cert'"),
        (format!("ca={ca}&cert={cert}&key={}", pki.path("empty.pem")), "cannot read key="),
        (format!("ca={ca}&cert={cert}&key={}", pki.path("stranger.key")), "do not fit together"),
    ] {
        let url: CollectorUrl = format!("ipfix+tls://192.0.2.1?{options}").parse().unwrap();
        let Err(error) = open(&url) else { panic!("{options} was taken") };
        assert!(matches!(error, SinkError::Tls { .. }) && error.is_usage());
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("ipfix+tls://192.0.2.1:4740"), "{text}");
    }
}

/// OpenSSL's server, which shows what it reads.
#[test]
#[ignore = "needs OpenSSL's program: run `make test`"]
fn openssl_reads_everything() {
    let pki = Pki::new();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-naccept", "1", "-Verify", "2", "-verify_return_error"])
        .args(["-accept", &format!("127.0.0.1:{port}"), "-CAfile", &pki.path("ca.pem")])
        .args(["-cert", &pki.path("collector.pem"), "-key", &pki.path("collector.key")])
        // It ends when its own input does.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = server.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut octets = Vec::new();
        output.read_to_end(&mut octets).unwrap();
        octets
    });
    let (ca, cert, key) = (pki.path("ca.pem"), pki.path("probe.pem"), pki.path("probe.key"));
    let url = format!("ipfix+tls://127.0.0.1:{port}?ca={ca}&cert={cert}&key={key}");
    let mut bench = Bench::of(vec![sink(&url)], lossless());
    export(&mut bench, 20_000);
    drop(server.stdin.take());
    let octets = reader.join().unwrap();
    assert!(server.wait().unwrap().success());
    assert_all_arrived(&bench, &read_session(&octets));
}
