// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration file: what it means, what is refused and how, and that the example equals the defaults.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use probe_user::{
    cli::{
        BusyPoll, Cli, CollectorPolicy, Command as Subcommand, CorePlan, Direction, Engine, KeyField,
        MetricsAddress, OverloadMode, PinnedCores, PrintFormat, Queues, Role, RunOptions, SocketPath,
        XdpMode, ZeroCopy,
    },
    config::{ConfigError, Origin, default_settings, effective_settings, read_command_line},
    flow::Spread,
};
use tempfile::TempDir;

fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("probe.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn run_options(path: &Path, more: &[&str]) -> Result<RunOptions, ConfigError> {
    let mut args: Vec<OsString> = vec!["probe".into(), "run".into(), "--config".into(), path.into()];
    args.extend(more.iter().map(OsString::from));
    match read_command_line(args)? {
        Cli { command: Subcommand::Run(options) } => Ok(*options),
        cli => panic!("{cli:?}"),
    }
}

fn refusal(text: &str) -> String {
    let (_directory, path) = file(text);
    match run_options(&path, &[]).and_then(|options| Ok(options.validate_settings()?)) {
        Err(ConfigError::Probe(error)) => {
            assert_eq!(error.exit_status(), 2);
            error.report().replace(path.to_str().unwrap(), "FILE")
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_key_takes_effect() {
    let (_directory, path) = file(
        r#"
        iface = ["eth1", "eth2"]
        bridge = ["br0"]
        role = "host"
        force = true
        direction = "both"
        engine = "af_xdp"
        xdp-mode = "generic"
        queues = 4
        zero-copy = "off"
        busy-poll = "50us"
        idle-timeout = "30s"
        active-timeout = "2m"
        active-jitter = 20
        active-align = "on"
        tcp-end = false
        max-flows = 1000
        key = ["vlan", "dot1qCustomerVlanId"]
        details = true
        sampling = "random:10"
        decap = "none"
        collector = ["192.0.2.10", "v5://192.0.2.11:9995"]
        collector-policy = "balance"
        engine-type = 7
        engine-id = 9
        domain = 77
        print = "json"
        ledger = "/tmp/ledger.json"
        cache-slots = 1024
        spill-records = 4096
        memory = "2G"
        harvest-interval = "250ms"
        overload = "adaptive"
        harvesters = 2
        cores = "harvesters=2-3,exporters=4"
        cores-shared = true
        metrics = "[::1]:9991"
        socket = "/tmp/probe.sock"
        log-level = "debug"
        log-format = "json"
        "#,
    );
    let options = run_options(&path, &[]).unwrap();
    assert_eq!(options.interface.iface, ["eth1", "eth2"]);
    assert_eq!(options.interface.role, Role::Host);
    assert!(options.interface.force);
    assert_eq!(options.interface.bridge, ["br0"]);
    assert_eq!(options.interface.direction, Direction::Both);
    assert_eq!((options.interface.engine, options.interface.xdp_mode), (Engine::AfXdp, XdpMode::Generic));
    assert_eq!((options.interface.queues, options.interface.zero_copy), (Queues::First(4), ZeroCopy::Off));
    assert_eq!(options.interface.busy_poll, BusyPoll::For(Duration::from_micros(50)));
    assert_eq!(options.flow.idle_timeout, Duration::from_secs(30));
    assert_eq!(options.flow.active_timeout, Duration::from_secs(120));
    assert_eq!(options.flow.expiry().spread, Spread { jitter: 20, align: true });
    assert!(!options.flow.tcp_end);
    assert_eq!(options.flow.max_flows, 1000);
    assert_eq!(options.flow.key, [KeyField::Vlan, KeyField::CustomerVlan]);
    assert!(options.flow.details);
    assert_eq!(options.flow.sampling.to_string(), "random:10");
    assert_eq!(options.export.collector.len(), 2);
    assert_eq!(options.export.collector_policy, CollectorPolicy::Balance);
    assert_eq!((options.export.engine_type, options.export.engine_id), (7, 9));
    assert_eq!(options.export.domain, 77);
    assert_eq!(options.output.print, PrintFormat::Json);
    assert_eq!(options.output.ledger, Some("/tmp/ledger.json".into()));
    assert_eq!((options.resource.cache_slots, options.resource.spill_records), (1024, 4096));
    assert_eq!(options.resource.memory, Some(2 << 30));
    assert_eq!(options.resource.harvest_interval, Duration::from_millis(250));
    assert_eq!(options.resource.overload, OverloadMode::Adaptive);
    assert_eq!(options.resource.harvesters, 2);
    let cores = PinnedCores { harvesters: vec![2, 3], exporters: vec![4], workers: Vec::new() };
    assert_eq!(options.resource.cores, CorePlan::Pinned(cores));
    assert!(options.resource.cores_shared);
    assert_eq!(options.resource.socket, SocketPath::At("/tmp/probe.sock".into()));
    assert_eq!(options.resource.metrics, MetricsAddress::Listen("[::1]:9991".parse().unwrap()));
    let settings = effective_settings(Some(&path)).unwrap();
    let from_elsewhere: Vec<_> = settings.iter().filter(|setting| setting.origin != Origin::File).collect();
    assert!(from_elsewhere.is_empty(), "not in this test's file: {from_elsewhere:?}");
}

#[test]
fn the_command_line_wins_over_the_file_also_for_lists() {
    let (_directory, path) = file("iface = [\"eth1\", \"eth2\"]\nidle-timeout = \"30s\"\nmax-flows = 5\n");
    let options = run_options(&path, &["--iface", "eth3", "--idle-timeout=20s"]).unwrap();
    assert_eq!(options.interface.iface, ["eth3"]);
    assert_eq!(options.flow.idle_timeout, Duration::from_secs(20));
    assert_eq!(options.flow.max_flows, 5);
}

#[test]
fn the_environment_stands_between_command_line_and_file() {
    let (_directory, path) = file("idle-timeout = \"30s\"\nmax-flows = 5\n");
    let output = Command::new(env!("CARGO_BIN_EXE_probe"))
        .args(["config", "show", "--config", path.to_str().unwrap()])
        .env("PROBE_IDLE_TIMEOUT", "60s")
        .env("PROBE_IFACE", "eth1,eth2")
        .env("PROBE_COLLECTOR", "192.0.2.10 192.0.2.11")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("idle-timeout"), "idle-timeout = \"1m\" # environment");
    assert_eq!(line("max-flows"), "max-flows = 5 # file");
    assert_eq!(line("iface"), "iface = [\"eth1\", \"eth2\"] # environment");
    assert!(
        line("collector").ends_with("# environment") && line("collector").contains("192.0.2.11"),
        "{text}"
    );
    assert_eq!(line("active-timeout"), "active-timeout = \"5m\" # default");
}

#[test]
fn what_show_prints_is_a_file_with_the_same_settings() {
    let (_directory, path) =
        file("iface = \"eth1\"\nmemory = \"1G\"\ntcp-end = false\nkey = \"customer-vlan\"\n");
    let first = effective_settings(Some(&path)).unwrap();
    let (_directory, printed) = file(&first.to_string());
    let second = effective_settings(Some(&printed)).unwrap();
    let values = |settings: &probe_user::config::Settings| -> Vec<_> {
        settings.iter().map(|setting| (setting.name.clone(), setting.value.clone())).collect()
    };
    assert_eq!(values(&first), values(&second));
    assert!(first.to_string().contains("memory = \"1G\""));
}

#[test]
fn refusals_name_file_line_key_value_and_what_is_allowed() {
    for (text, said) in [
        ("\n\nidle-timeout = 15\n", "FILE:3: idle-timeout = 15: the unit is missing: ms, s, m, h or d"),
        ("idle-timeout = \"1ms\"", "FILE:1: idle-timeout = \"1ms\": allowed are 100ms to 365d"),
        ("idle-timeout = \"\"", "FILE:1: idle-timeout = \"\": a duration is a whole number and a unit"),
        ("active-jitter = 51", "FILE:1: active-jitter = 51: allowed are whole numbers from 0 to 50"),
        ("overload = \"on\"", "FILE:1: overload = \"on\": allowed are off, adaptive"),
        ("max-flows = -1", "FILE:1: max-flows = -1: allowed are whole numbers from 1 to 268435456"),
        ("max-flows = 1.5", "FILE:1: max-flows = 1.5: takes no number with a decimal point"),
        ("max-flows = 0x10", "FILE:1: max-flows = 0x10: write the number in decimal"),
        ("role = \"tab\"", "FILE:1: role = \"tab\": allowed are auto, tap, host"),
        (
            "key = [\"vlan\", \"mac\"]",
            "FILE:1: key = [\"vlan\", \"mac\"]: allowed are vlanId, dot1qCustomerVlanId",
        ),
        ("cores = [2, 3]", "FILE:1: cores = [2, 3]: takes one value, not a list"),
        ("iface = [[\"a\"]]", "takes no list within a list"),
        ("iface = { a = 1 }", "takes no table"),
        ("force = 2026-01-01", "takes no date"),
        ("decap = \"vxlan\"", "decap = \"vxlan\": allowed are none"),
        ("collector = [\"sflow://x\"]", "FILE:1: collector = [\"sflow://x\"]: scheme 'sflow' is not known"),
        (
            "idle_timeout = \"15s\"",
            "FILE:1: unknown key 'idle_timeout'\n  hint: did you mean 'idle-timeout'?",
        ),
        ("colour = \"red\"", "FILE:1: unknown key 'colour'\n  hint: keys are the long options"),
        ("sampling = \"2:10\"", "FILE:1: sampling = \"2:10\": allowed are off, 1:N (every Nth packet)"),
        ("[run]\niface = \"a\"", "FILE:1: unknown key 'run'\n  hint: the file has no sections"),
        ("config = \"other\"", "unknown key 'config'\n  hint: a configuration file cannot name another one"),
        ("help = true", "unknown key 'help'"),
        ("role = \"tap\"\nrole = \"host\"", "FILE:2: not valid TOML: duplicate key"),
        ("idle-timeout = 15s", "FILE:1: not valid TOML"),
        ("iface = [\"a\", \"a\"]", "a is given twice"),
        ("bridge = [\"b\", \"b\"]", "bridge: b is given twice"),
        ("engine = \"af-xdp\"", "engine = \"af-xdp\": allowed are auto, xdp, af_xdp, af_packet"),
        ("queues = 0", "FILE:1: queues = 0: allowed are auto, how many (such as 4: queues 0 to 3"),
        ("busy-poll = 50", "FILE:1: busy-poll = 50: allowed are off, or a duration from 1us to 100ms"),
        ("harvesters = 3", "FILE:1: harvesters = 3: allowed are powers of two from 1 to 16"),
        ("harvesters = 4\ncores = \"2,3\"", "CPUs are named for 1 harvesters, but harvesters = 4"),
        ("cores = \"reader=1\"", "there is no kind of thread named 'reader'"),
        ("engine = \"af_xdp\"\nxdp-mode = \"tc\"", "engine = af_xdp needs XDP"),
        ("engine = \"af_packet\"\nzero-copy = \"required\"", "zero-copy = required needs AF_XDP"),
        ("xdp-mode = \"generic\"\nzero-copy = \"required\"", "zero-copy = required needs native XDP"),
        ("role = \"tap\"\ndirection = \"both\"", "a mirror port (role = tap) only receives"),
        ("socket = \"/run/\"", "allowed are auto, none, or the path of a socket"),
    ] {
        let report = refusal(text);
        assert!(report.contains(said), "{text}: {report}");
    }
}

#[test]
fn a_wrong_value_is_refused_also_where_the_command_line_would_win() {
    let (_directory, path) = file("idle-timeout = 15");
    assert!(run_options(&path, &["--idle-timeout", "15s"]).is_err());
}

#[test]
fn what_is_no_configuration_file_is_refused() {
    let (directory, path) = file(&"#".repeat((1 << 20) + 1));
    for (path, said) in [
        (path.as_path(), "larger than 1 MiB"),
        (directory.path(), "Is a directory"),
        (Path::new("/dev/zero"), "larger than 1 MiB"),
        (Path::new("/no/such/probe.toml"), "No such file or directory"),
    ] {
        match run_options(path, &[]) {
            Err(ConfigError::Probe(error)) => {
                assert!(error.report().contains(said), "{}", error.report());
                assert!(error.report().contains(path.to_str().unwrap()), "{}", error.report());
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

/// The settings of the example: each commented line without blank after the `#`.
fn example() -> BTreeMap<String, toml::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/probe.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#");
    lines
        .map(|line| {
            let line = line.strip_prefix('#').unwrap_or_else(|| panic!("not commented out: {line}"));
            let table: toml::Table = line.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(table.len(), 1, "{line}");
            table.into_iter().next().unwrap()
        })
        .collect()
}

#[test]
fn the_example_shows_every_option_with_its_default() {
    let defaults: BTreeMap<_, _> = default_settings()
        .unwrap()
        .iter()
        .map(|setting| (setting.name.clone(), setting.value.clone()))
        .collect();
    assert!(defaults.len() > 20, "{defaults:?}");
    assert_eq!(example(), defaults);
}

#[test]
fn the_example_is_good_as_it_is_and_uncommented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/probe.toml");
    run_options(&path, &[]).unwrap();
    let text: String = example().iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    let (_directory, path) = file(&text);
    run_options(&path, &[]).unwrap();
}
