// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What Prometheus sees: the server over real sockets, the text against promtool.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use probe_common::{Counters, Outcome};
use probe_user::{
    flow::Timestamp,
    telemetry::{
        Reasons, Snapshot,
        http::{HttpServer, Reply, Routes, RunningServer},
        metrics::{
            AfXdpSocket, Collector, Cpu, Fragments, Harvester, HistogramCounters, Interface, PacketSocket,
        },
        process::ProcessStatus,
    },
};

/// A server whose clock stands still until a test moves it.
fn server() -> (RunningServer, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now);
    let routes = Routes {
        metrics: Arc::new(|| Reply::metrics(at_start().encode())),
        healthz: Arc::new(|| Reply::text(200, "ok")),
        readyz: Arc::new(|| Reply::text(503, "not ready: eth1 is down")),
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server =
        HttpServer::new(any, routes, Arc::new(move || Timestamp(clock.load(SeqCst)))).start().unwrap();
    assert_ne!(server.address().port(), 0);
    (server, now)
}

fn connect(server: &RunningServer) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends a request and reads to the end.
fn ask(server: &RunningServer, request: &[u8]) -> String {
    let mut stream = connect(server);
    stream.write_all(request).unwrap();
    read_all(&mut stream)
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Two interfaces and two CPUs at the very start.
fn at_start() -> Snapshot {
    Snapshot {
        started_seconds: 1.7e9,
        configured_seconds: 1.7e9,
        interfaces: vec![
            Interface { name: "eth1".into(), up: true, modes: vec!["native", "tcx"], ..Interface::default() },
            Interface { name: "odd\"\\name".into(), ..Interface::default() },
        ],
        cpus: vec![Cpu::default(), Cpu { cpu: 1, ..Cpu::default() }],
        af_xdp: vec![
            AfXdpSocket { interface: "eth1".into(), zero_copy: true, ..AfXdpSocket::default() },
            AfXdpSocket { interface: "eth1".into(), queue: 1, ..AfXdpSocket::default() },
        ],
        af_packet: vec![PacketSocket { interface: "wlan0".into(), ..PacketSocket::default() }],
        fragments: Fragments { given_up: Reasons::new(&[("timeout", 0)]), ..Fragments::default() },
        harvesters: vec![Harvester::default(); 2],
        collectors: vec![Collector {
            url: "v5://192.0.2.10:2055".into(),
            dropped: Reasons::new(&[("queue", 0), ("send_error", 0)]),
            not_selected: Reasons::new(&[("filtered", 0), ("sampled_out", 0)]),
            not_representable: Reasons::new(&[("ipv6", 0)]),
            errors: Reasons::new(&[("refused", 0)]),
            ..Collector::default()
        }],
        process: ProcessStatus::read(),
        ..Snapshot::default()
    }
}

#[test]
fn answers_the_three_paths() {
    let (server, _) = server();
    let metrics = ask(&server, b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    let (head, body) = metrics.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(body.contains("flowprobe_flows_live 0\n"), "{body}");
    assert!(ask(&server, b"GET /healthz HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nok\n"));
    let ready = ask(&server, b"GET /readyz HTTP/1.1\r\n\r\n");
    assert!(
        ready.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && ready.ends_with("eth1 is down\n"),
        "{ready}"
    );
}

#[test]
fn head_has_the_length_and_no_body() {
    let (server, _) = server();
    let answer = ask(&server, b"HEAD /healthz HTTP/1.1\r\n\r\n");
    assert!(answer.contains("Content-Length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn refuses_what_it_does_not_serve() {
    let (server, _) = server();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "405 Method Not Allowed"),
        ("hello\r\n\r\n", "400 Bad Request"),
        (long.as_str(), "431 Request Header Fields Too Large"),
    ] {
        let answer = ask(&server, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:.40}: {answer}");
        assert_eq!(answer.contains("\r\nAllow: GET, HEAD\r\n"), status.starts_with("405"), "{answer}");
    }
}

#[test]
fn a_slow_request_is_cut_off_and_others_are_served_meanwhile() {
    let (server, now) = server();
    let mut slow = connect(&server);
    slow.write_all(b"GET /metrics HTT").unwrap();
    assert!(ask(&server, b"GET /healthz HTTP/1.1\r\n\r\n").ends_with("ok\n"));
    now.store(5_000_000_000, SeqCst);
    assert!(ask(&server, b"GET /healthz HTTP/1.1\r\n\r\n").ends_with("ok\n"));
    // Closed in the orderly way or, with the request unread, by a reset; but closed.
    match slow.read(&mut [0; 16]) {
        Ok(length) => assert_eq!(length, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn the_ninth_connection_waits_for_a_place() {
    let (server, _) = server();
    let idle: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    let mut ninth = connect(&server);
    ninth.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    ninth.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(ninth.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(idle);
    ninth.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(read_all(&mut ninth).ends_with("ok\n"));
}

#[test]
fn a_port_in_use_is_an_error_of_the_host_that_names_it() {
    let (server, _) = server();
    let reply = || Arc::new(|| Reply::text(200, "ok"));
    let routes = Routes { metrics: reply(), healthz: reply(), readyz: reply() };
    let second = HttpServer::new(server.address(), routes, Arc::new(|| Timestamp(0)));
    let error = second.start().err().expect("the port is taken");
    assert_eq!(error.exit_status(), 3);
    let report = error.report();
    assert!(
        report.contains(&server.address().to_string()) && report.contains("another program listens"),
        "{report}"
    );
}

#[test]
fn dropping_the_server_closes_its_port_and_its_connections() {
    let (server, _) = server();
    let address = server.address();
    let mut open = connect(&server);
    assert!(ask(&server, b"GET /healthz HTTP/1.1\r\n\r\n").ends_with("ok\n"));
    drop(server);
    assert_eq!(open.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn every_agreed_series_is_there_at_zero_from_the_start() {
    let text = at_start().encode();
    for sample in [
        "flowprobe_received_packets_total{cpu=\"0\"} 0",
        "flowprobe_received_octets_total{cpu=\"1\"} 0",
        "flowprobe_metered_packets_total{cpu=\"0\"} 0",
        "flowprobe_unmetered_packets_total{cpu=\"0\",reason=\"not_ip\"} 0",
        "flowprobe_unmetered_packets_total{cpu=\"1\",reason=\"own_export\"} 0",
        "flowprobe_noted_packets_total{note=\"later_fragment\"} 0",
        "flowprobe_noted_packets_total{note=\"joined_fragment\"} 0",
        "flowprobe_unmetered_packets_total{cpu=\"0\",reason=\"already_metered\"} 0",
        "flowprobe_steered_packets_total 0",
        "flowprobe_af_xdp_received_packets_total{interface=\"eth1\",queue=\"1\"} 0",
        "flowprobe_af_xdp_metered_packets_total 0",
        "flowprobe_af_xdp_metered_octets_total 0",
        "flowprobe_af_xdp_unmetered_packets_total{reason=\"socket_full\"} 0",
        "flowprobe_af_xdp_dropped_packets_total{interface=\"eth1\",queue=\"0\",reason=\"rx_dropped\"} 0",
        "flowprobe_af_xdp_dropped_packets_total{interface=\"eth1\",queue=\"1\",reason=\"rx_ring_full\"} 0",
        "flowprobe_af_xdp_fill_ring_empty_total{interface=\"eth1\",queue=\"0\"} 0",
        "flowprobe_af_xdp_invalid_descriptors_total{interface=\"eth1\",queue=\"0\"} 0",
        "flowprobe_af_xdp_mode_info{interface=\"eth1\",queue=\"0\",mode=\"zero_copy\"} 1",
        "flowprobe_af_xdp_mode_info{interface=\"eth1\",queue=\"0\",mode=\"copy\"} 0",
        "flowprobe_af_xdp_mode_info{interface=\"eth1\",queue=\"1\",mode=\"copy\"} 1",
        "flowprobe_af_packet_received_packets_total{interface=\"wlan0\",queue=\"0\"} 0",
        "flowprobe_af_packet_drops_total{interface=\"wlan0\",queue=\"0\"} 0",
        "flowprobe_af_packet_freezes_total{interface=\"wlan0\",queue=\"0\"} 0",
        "flowprobe_fragments_joined_total 0",
        "flowprobe_fragments_given_up_total{reason=\"timeout\"} 0",
        "flowprobe_fragments_held 0",
        "flowprobe_fragments_known 0",
        "flowprobe_harvester_flows_live{harvester=\"1\"} 0",
        "flowprobe_harvester_queue_length{harvester=\"0\"} 0",
        "flowprobe_harvester_swaps_total{harvester=\"0\"} 0",
        "flowprobe_lost_packets_total{reason=\"spill_ring_full\"} 0",
        "flowprobe_lost_packets_total{reason=\"queue_full\"} 0",
        "flowprobe_lost_octets_total{reason=\"queue_full\"} 0",
        "flowprobe_nic_dropped_packets_total{interface=\"eth1\",counter=\"rx_missed_errors\"} 0",
        "flowprobe_flows_live 0",
        "flowprobe_flow_table_capacity 0",
        "flowprobe_flows_created_total 0",
        "flowprobe_flows_expired_total{reason=\"lack_of_resources\"} 0",
        "flowprobe_overload_rung 0",
        "flowprobe_overload_steps_total{direction=\"up\"} 0",
        "flowprobe_overload_steps_total{direction=\"down\"} 0",
        "flowprobe_flow_sampling_interval 1",
        "flowprobe_spilled_records_total{cpu=\"1\"} 0",
        "flowprobe_spill_ring_fill_ratio{cpu=\"0\"} 0",
        "flowprobe_harvest_duration_seconds_bucket{le=\"0.001\"} 0",
        "flowprobe_harvest_duration_seconds_count 0",
        "flowprobe_export_not_selected_records_total{collector=\"v5://192.0.2.10:2055\",reason=\"sampled_out\"} 0",
        "flowprobe_export_paired_records_total{collector=\"v5://192.0.2.10:2055\"} 0",
        "flowprobe_export_records_total{collector=\"v5://192.0.2.10:2055\"} 0",
        "flowprobe_export_datagrams_total{collector=\"v5://192.0.2.10:2055\"} 0",
        "flowprobe_export_errors_total{collector=\"v5://192.0.2.10:2055\",reason=\"refused\"} 0",
        "flowprobe_export_queue_length 0",
        "flowprobe_export_sequence{collector=\"v5://192.0.2.10:2055\"} 0",
        "flowprobe_interface_up{interface=\"eth1\"} 1",
        "flowprobe_interface_up{interface=\"odd\\\"\\\\name\"} 0",
        "flowprobe_xdp_mode_info{interface=\"eth1\",mode=\"native\"} 1",
        "flowprobe_xdp_mode_info{interface=\"eth1\",mode=\"tcx\"} 1",
        "flowprobe_xdp_mode_info{interface=\"eth1\",mode=\"generic\"} 0",
        "flowprobe_xdp_mode_info{interface=\"eth1\",mode=\"af_xdp_zero_copy\"} 0",
        "flowprobe_ledger_imbalance_packets 0",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} is missing in\n{text}");
    }
    assert!(text.contains(&format!("flowprobe_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"))));
    assert!(text.contains("\nprocess_resident_memory_bytes "));
}

#[test]
fn counts_come_out_where_they_belong() {
    let harvests = HistogramCounters::default();
    for milliseconds in [1, 2, 2_000] {
        harvests.observe(Duration::from_millis(milliseconds));
    }
    let mut snapshot = at_start();
    let mut counters = Counters { lost_packets: 3, lost_octets: 300, ..Counters::default() };
    counters.outcomes[1] = 11;
    counters.notes[0] = 4;
    snapshot.cpus[0].counters = counters;
    snapshot.cpus[1].counters = counters;
    snapshot.cpus[1].spill_ring_fill_ratio = 0.25;
    snapshot.harvests = harvests.read();
    // The worker of a packet socket on a CPU where the kernel program meters as well.
    snapshot.cpus.push(Cpu {
        cpu: 1,
        counters: Counters { received_packets: 5, steered_packets: 2, ..counters },
        spill_ring_fill_ratio: 0.125,
    });
    snapshot.af_xdp_counters.metered_packets = 94;
    snapshot.af_xdp_counters.metered_octets = 900;
    snapshot.af_xdp_counters.outcomes[Outcome::Malformed as usize] = 12;
    for (socket, packets) in snapshot.af_xdp.iter_mut().zip([100, 200]) {
        socket.received = packets;
        (socket.rx_dropped, socket.rx_ring_full, socket.fill_ring_empty) =
            (packets + 1, packets + 2, packets + 3);
    }
    snapshot.af_packet[0] =
        PacketSocket { received: 7, dropped: 8, freezes: 9, ..snapshot.af_packet[0].clone() };
    snapshot.fragments =
        Fragments { joined: 1, given_up: Reasons::new(&[("timeout", 2)]), held: 3, known: 4 };
    snapshot.harvesters[1] = Harvester { live: 5, capacity: 6, created: 7, queue_length: 8, swaps: 9 };
    let text = snapshot.encode();
    for sample in [
        "flowprobe_unmetered_packets_total{cpu=\"0\",reason=\"truncated\"} 11",
        "flowprobe_unmetered_packets_total{cpu=\"1\",reason=\"truncated\"} 22",
        "flowprobe_received_packets_total{cpu=\"1\"} 5",
        "flowprobe_steered_packets_total 2",
        "flowprobe_af_xdp_received_packets_total{interface=\"eth1\",queue=\"1\"} 200",
        "flowprobe_af_xdp_metered_packets_total 94",
        "flowprobe_af_xdp_metered_octets_total 900",
        "flowprobe_af_xdp_unmetered_packets_total{reason=\"malformed\"} 12",
        "flowprobe_af_xdp_dropped_packets_total{interface=\"eth1\",queue=\"0\",reason=\"rx_dropped\"} 101",
        "flowprobe_af_xdp_dropped_packets_total{interface=\"eth1\",queue=\"0\",reason=\"rx_ring_full\"} 102",
        "flowprobe_af_xdp_fill_ring_empty_total{interface=\"eth1\",queue=\"1\"} 203",
        "flowprobe_af_packet_received_packets_total{interface=\"wlan0\",queue=\"0\"} 7",
        "flowprobe_af_packet_drops_total{interface=\"wlan0\",queue=\"0\"} 8",
        "flowprobe_af_packet_freezes_total{interface=\"wlan0\",queue=\"0\"} 9",
        "flowprobe_fragments_joined_total 1",
        "flowprobe_fragments_given_up_total{reason=\"timeout\"} 2",
        "flowprobe_fragments_held 3",
        "flowprobe_fragments_known 4",
        "flowprobe_harvester_flows_live{harvester=\"1\"} 5",
        "flowprobe_harvester_flow_table_capacity{harvester=\"1\"} 6",
        "flowprobe_harvester_flows_created_total{harvester=\"1\"} 7",
        "flowprobe_harvester_queue_length{harvester=\"1\"} 8",
        "flowprobe_harvester_swaps_total{harvester=\"1\"} 9",
        "flowprobe_noted_packets_total{note=\"later_fragment\"} 12",
        "flowprobe_lost_packets_total{reason=\"spill_ring_full\"} 9",
        "flowprobe_lost_octets_total{reason=\"spill_ring_full\"} 900",
        "flowprobe_spill_ring_fill_ratio{cpu=\"1\"} 0.25",
        "flowprobe_harvest_duration_seconds_bucket{le=\"0.001\"} 1",
        "flowprobe_harvest_duration_seconds_bucket{le=\"0.005\"} 2",
        "flowprobe_harvest_duration_seconds_bucket{le=\"1\"} 2",
        "flowprobe_harvest_duration_seconds_bucket{le=\"+Inf\"} 3",
        "flowprobe_harvest_duration_seconds_sum 2.003",
        "flowprobe_harvest_duration_seconds_count 3",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} is missing in\n{text}");
    }
}

#[test]
#[ignore = "needs promtool"]
fn promtool_has_nothing_to_say() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (Debian package prometheus) is installed");
    promtool.stdin.take().unwrap().write_all(at_start().encode().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn every_metric_of_the_alerts_is_emitted() {
    let alerts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring/alerts.yml");
    let alerts = std::fs::read_to_string(alerts).unwrap();
    let text = at_start().encode();
    let words = alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names: std::collections::BTreeSet<_> = words.filter(|word| word.starts_with("flowprobe_")).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is in no scrape");
    }
}
