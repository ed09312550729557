// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control socket: what a probe answers, to whom, and what the commands make of it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use probe_user::{
    cli::SocketPath,
    control::{
        Action, ControlServer, Desk, Greeting, InterfaceInfo, InterfaceState, RunningControl, Stats, requests,
    },
    error::ProbeError,
    flow::Timestamp,
    telemetry::{Ledger, PacketLedger},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server with one interface and a ledger of seven packets. Its clock stands still until a test moves it.
struct Probe {
    control: RunningControl,
    now: Arc<AtomicU64>,
    directory: TempDir,
}

fn ledger() -> Ledger {
    Ledger {
        packets: PacketLedger { received: 7, metered: 7, live: 7, ..PacketLedger::default() },
        ..Ledger::default()
    }
}

fn interface(name: &str, index: u32) -> InterfaceInfo {
    InterfaceInfo {
        name: name.into(),
        index,
        state: InterfaceState::Up,
        role: "tap".into(),
        engine: Some("xdp".into()),
        mode: Some("native".into()),
        bridge: None,
    }
}

impl Probe {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = ControlServer::at(&directory.path().join("control.sock")).unwrap();
        let (asker, requests) = requests();
        let handler = Desk::new(ledger, || vec![interface("eth1", 3)], asker);
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        let clock = Arc::new(move || Timestamp(clock.load(SeqCst)));
        Self { control: server.start(Arc::new(handler), requests, clock).unwrap(), now, directory }
    }

    fn path(&self) -> &Path {
        self.control.path()
    }

    /// What the main thread does: answers the next request.
    fn carry_out<T: serde::Serialize>(&self, with: impl FnOnce(&Action) -> Result<T, ProbeError>) {
        let request = loop {
            match self.control.next_request() {
                Some(request) => break request,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let outcome = with(request.action());
        request.answer(outcome);
    }
}

/// A connection that was greeted.
struct Client {
    stream: BufReader<UnixStream>,
    greeting: Greeting,
}

impl Client {
    fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Self {
            stream: BufReader::new(stream),
            greeting: Greeting { probe: String::new(), protocol: 0, pid: 0, commands: Vec::new() },
        };
        client.greeting = serde_json::from_value(client.read()).unwrap();
        client
    }

    fn send(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).unwrap();
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.send(format!("{request}\n").as_bytes());
        self.read()
    }
}

/// `probe ARGS` with the socket.
fn probe(socket: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
    command.args(args).env("PROBE_SOCKET", socket).stdin(Stdio::null());
    command.output().unwrap()
}

/// Status, standard output, standard error.
fn told(socket: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = probe(socket, args);
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Something else at a socket: greets each client with `greeting`, then answers each line with `answer`.
fn impostor(greeting: &'static str, answer: &'static str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(greeting.as_bytes()).ok();
            for _line in BufReader::new(stream.try_clone().unwrap()).lines() {
                stream.write_all(answer.as_bytes()).ok();
            }
        }
    });
    (directory, path)
}

#[test]
fn greets_and_answers_what_only_reads_without_the_main_thread() {
    let probe = Probe::start();
    let mut client = Client::connect(probe.path());
    assert_eq!(client.greeting, Greeting::of_this_probe());
    let answer = client.ask(&json!({"command": "stats"}));
    let stats: Stats = serde_json::from_value(answer["result"].clone()).unwrap();
    assert_eq!(stats.ledger, serde_json::to_value(ledger()).unwrap());
    assert_eq!(stats.text, ledger().to_string());
    let answer = client.ask(&json!({"command": "iface_list"}));
    assert_eq!(answer, json!({"result": [interface("eth1", 3)]}));
}

#[test]
fn leaves_changes_to_the_main_thread_and_hands_on_its_answers() {
    let probe = Probe::start();
    let path = probe.path();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = Client::connect(path);
            [
                client.ask(&json!({"command": "iface_add", "name": "eth2"})),
                client.ask(&json!({"command": "iface_remove", "name": "eth9"})),
            ]
        });
        probe.carry_out(|action| {
            assert_eq!(action, &Action::AddInterface("eth2".into()));
            Ok(interface("eth2", 5))
        });
        probe.carry_out(|action| {
            assert_eq!(action, &Action::RemoveInterface("eth9".into()));
            Err::<(), _>(ProbeError::host("eth9 is not metered").hint("probe iface list"))
        });
        let [added, refused] = asking.join().unwrap();
        assert_eq!(added, json!({"result": interface("eth2", 5)}));
        let error = json!({"kind": "host", "message": "eth9 is not metered", "hint": "probe iface list"});
        assert_eq!(refused, json!({"error": error}));
    });
}

#[test]
fn refuses_what_it_does_not_understand_and_goes_on() {
    let probe = Probe::start();
    let mut client = Client::connect(probe.path());
    for (request, said) in [
        ("hello\n", "expected value"),
        ("\n", "EOF while parsing"),
        ("{\"command\":\"fly\"}\n", "unknown variant `fly`"),
        ("{\"command\":\"iface_add\"}\n", "missing field `name`"),
        ("{\"command\":\"iface_add\",\"name\":\"a\",\"queue\":1}\n", "unknown field `queue`"),
    ] {
        client.send(request.as_bytes());
        let error = &client.read()["error"];
        assert_eq!(error["kind"], "usage");
        assert!(error["message"].as_str().unwrap().contains(said), "{request}: {error}");
    }
    assert!(client.ask(&json!({"command": "iface_list"}))["result"].is_array());
}

#[test]
fn takes_requests_however_they_are_cut() {
    let probe = Probe::start();
    let mut client = Client::connect(probe.path());
    // Two at once, and a third in single octets, without a newline at its end.
    client.send(b"{\"command\":\"iface_list\"}\n{\"command\":\"stats\"}\n");
    assert!(client.read()["result"].is_array());
    assert!(client.read()["result"]["text"].is_string());
    for octet in b"{\"command\":\"iface_list\"}" {
        client.send(&[*octet]);
    }
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    assert!(client.read()["result"].is_array());
    assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn too_long_a_request_is_refused_and_its_client_cut_off() {
    let probe = Probe::start();
    let mut client = Client::connect(probe.path());
    client.send(&[b' '; 4095]);
    client.send(b"\n");
    assert_eq!(client.read()["error"]["kind"], "usage");
    client.send(&[b' '; 4096]);
    assert_eq!(client.read()["error"]["message"], "a request has at most 4095 octets");
    assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_slow_client_is_cut_off_and_others_are_served_meanwhile() {
    let probe = Probe::start();
    let mut slow = Client::connect(probe.path());
    slow.send(b"{\"command\":");
    assert!(Client::connect(probe.path()).ask(&json!({"command": "stats"}))["result"].is_object());
    probe.now.store(5_000_000_000, SeqCst);
    // Somebody must come, or the server sleeps by a clock that stands still.
    Client::connect(probe.path());
    match slow.stream.read(&mut [0; 1]) {
        Ok(length) => assert_eq!(length, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn the_ninth_client_waits_for_a_place() {
    let probe = Probe::start();
    let idle: Vec<_> = (0..8).map(|_| Client::connect(probe.path())).collect();
    let mut ninth = UnixStream::connect(probe.path()).unwrap();
    ninth.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(ninth.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(idle);
    ninth.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(ninth.read(&mut [0; 1]).unwrap(), 1);
}

#[test]
fn a_client_that_never_reads_holds_nobody_up() {
    let probe = Probe::start();
    let mut deaf = Client::connect(probe.path());
    deaf.stream.get_ref().set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    // Until the kernel takes no more: the answers fill one buffer, the requests the other.
    while deaf.stream.get_mut().write_all(b"{\"command\":\"stats\"}\n").is_ok() {}
    assert!(Client::connect(probe.path()).ask(&json!({"command": "stats"}))["result"].is_object());
}

#[test]
fn at_the_end_the_socket_goes_and_only_those_who_wait_for_the_end_stay_connected() {
    let probe = Probe::start();
    let path = probe.path().to_owned();
    let mut idle = Client::connect(&path);
    let mut last = Client::connect(&path);
    thread::scope(|scope| {
        let asking = scope.spawn(|| last.ask(&json!({"command": "shutdown"})));
        probe.carry_out(|action| {
            assert_eq!(action, &Action::Shutdown);
            Ok(())
        });
        assert_eq!(asking.join().unwrap(), json!({"result": null}));
    });
    let Probe { mut control, directory, .. } = probe;
    control.refuse_requests();
    let refused = Client::connect(&path).ask(&json!({"command": "iface_add", "name": "eth2"}));
    assert_eq!(refused["error"]["message"], "the probe is ending");
    assert!(Client::connect(&path).ask(&json!({"command": "stats"}))["result"].is_object());
    drop(control);
    assert!(!path.exists() && directory.path().exists());
    assert_eq!(idle.stream.read(&mut [0; 1]).unwrap(), 0);
    last.stream.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(last.stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_end_does_not_wait_for_a_request_that_nobody_takes() {
    let probe = Probe::start();
    let mut client = Client::connect(probe.path());
    client.send(b"{\"command\":\"iface_add\",\"name\":\"eth2\"}\n");
    let Probe { control, .. } = probe;
    // The server's thread waits for the main thread, which is about to end.
    while control.next_request().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    client.send(b"{\"command\":\"iface_add\",\"name\":\"eth3\"}\n");
    drop(control);
    assert_eq!(client.read()["error"]["message"], "the probe is ending");
}

#[test]
fn a_path_that_was_asked_for_and_cannot_be_used_stops_the_start() {
    let at = |path: &str| ControlServer::open(&SocketPath::At(path.into()));
    let error = at("/no/such/place/control.sock").err().unwrap();
    assert_eq!(error.exit_status(), 3);
    assert!(error.report().contains("cannot make the control socket /no/such/place/control.sock"), "{error}");
    let probe = Probe::start();
    let error = at(probe.path().to_str().unwrap()).err().unwrap();
    assert!(error.report().contains("give each probe a socket of its own"), "{}", error.report());
    assert!(ControlServer::open(&SocketPath::None).unwrap().is_none());
}

#[test]
fn stats_prints_the_ledger() {
    let probe = Probe::start();
    assert_eq!(told(probe.path(), &["stats"]), (0, ledger().to_string(), String::new()));
    let (status, json, _) = told(probe.path(), &["stats", "--json"]);
    assert_eq!((status, json.lines().count()), (0, 1));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), serde_json::to_value(ledger()).unwrap());
}

#[test]
fn iface_lists_adds_and_removes() {
    let probe = Probe::start();
    let path = probe.path();
    let table =
        "NAME  INDEX  STATE  ROLE  ENGINE  MODE    BRIDGE\neth1  3      up     tap   xdp     native  -\n";
    assert_eq!(told(path, &["iface", "list"]), (0, table.into(), String::new()));
    let (_, json, _) = told(path, &["iface", "list", "eth1", "--json"]);
    assert_eq!(serde_json::from_str::<InterfaceInfo>(&json).unwrap(), interface("eth1", 3));
    let (status, _, stderr) = told(path, &["iface", "list", "eth7"]);
    assert!(status == 3 && stderr.contains("the probe does not meter eth7"), "{stderr}");
    thread::scope(|scope| {
        let added = scope.spawn(|| told(path, &["iface", "add", "eth2", "eth9", "eth3"]));
        probe.carry_out(|_| Ok(interface("eth2", 5)));
        probe.carry_out(|_| Err::<(), _>(ProbeError::host("there is no interface eth9").hint("ip -br link")));
        let (status, stdout, stderr) = added.join().unwrap();
        assert_eq!(stdout, "eth2 (index 5) is metered: role tap, xdp native\n");
        assert_eq!(
            (status, stderr.as_str()),
            (3, "error: there is no interface eth9\n  hint: ip -br link\n")
        );
        let removed =
            scope.spawn(|| told(path, &["iface", "--socket", path.to_str().unwrap(), "remove", "eth2"]));
        probe.carry_out(|_| Ok(()));
        assert_eq!(removed.join().unwrap().1, "eth2 is no longer metered; its flows are exported\n");
    });
}

#[test]
fn shutdown_waits_until_the_process_has_ended() {
    let greeting = "{\"probe\":\"0.0.1\",\"protocol\":1,\"pid\":42,\"commands\":[\"shutdown\"]}\n";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::scope(|scope| {
        let asking = scope.spawn(|| told(&path, &["shutdown"]));
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(greeting.as_bytes()).unwrap();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
        stream.write_all(b"{\"result\":null}\n").unwrap();
        thread::sleep(Duration::from_millis(200));
        assert!(!asking.is_finished());
        drop(stream);
        assert_eq!(asking.join().unwrap(), (0, "the probe (process 42) has ended\n".into(), String::new()));
    });
}

#[test]
fn without_a_probe_the_commands_are_status_3_and_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no.sock");
    let dead = directory.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    for args in [&["stats"][..], &["iface", "list"], &["iface", "add", "eth1"], &["shutdown"]] {
        let (status, stdout, stderr) = told(&missing, args);
        assert_eq!((status, stdout.as_str()), (3, ""), "{args:?}");
        assert!(
            stderr.contains("there is no such socket") && stderr.contains("start one with probe run"),
            "{stderr}"
        );
        let (status, _, stderr) = told(&dead, args);
        assert!(status == 3 && stderr.contains("nobody listens at this socket any more"), "{stderr}");
    }
}

#[test]
fn a_probe_of_another_version_or_something_else_is_told_apart() {
    for (greeting, answer, status, said) in [
        ("SSH-2.0-OpenSSH_9.2\n", "", 3, "is no probe"),
        (
            "{\"probe\":\"9.0.0\",\"protocol\":2,\"pid\":1,\"commands\":[\"stats\"],\"new\":1}\n",
            "",
            3,
            "has version 9.0.0 and speaks version 2 of the control protocol",
        ),
        (
            "{\"probe\":\"0.0.1\",\"protocol\":1,\"pid\":1,\"commands\":[\"reload\"]}\n",
            "",
            3,
            "(version 0.0.1) does not know the command stats",
        ),
        (
            "{\"probe\":\"9.0.0\",\"protocol\":1,\"pid\":1,\"commands\":[\"stats\"]}\n",
            "{\"result\":{\"sums\":[]}}\n",
            1,
            "hint: the probe has version 9.0.0",
        ),
    ] {
        let (_directory, path) = impostor(greeting, answer);
        let (code, stdout, stderr) = told(&path, &["stats"]);
        assert_eq!((code, stdout.as_str()), (status, ""), "{stderr}");
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
}
