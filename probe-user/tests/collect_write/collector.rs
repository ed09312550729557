// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe collect --write` as a process: its end, and its being killed.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::Command,
};

use nix::sys::signal::Signal;
use probe_lab::{Process, clock::wait_until};

use crate::{
    PROBE, SOON,
    flow::{Flow, IDS, SECOND, Sums, add, messages},
    readers::{files, ipfix_sums, json_sums, parquet_sums, total, with_extension},
};

/// A datagram of NetFlow v5 with one flow.
fn netflow_v5(packets: u32, octets: u32, unix_s: u32, sequence: u32) -> Vec<u8> {
    let mut datagram = vec![0, 5, 0, 1];
    for word in [600_000, unix_s, 0, sequence, 0] {
        datagram.extend(u32::to_be_bytes(word));
    }
    datagram.extend([192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 0, 0, 3, 0, 4]);
    for word in [packets, octets, 599_000, 600_000] {
        datagram.extend(u32::to_be_bytes(word));
    }
    datagram.extend([0x9c, 0x40, 1, 187, 0, 0x1b, 6, 0, 0, 0, 0, 0, 24, 0, 0, 0]);
    datagram
}

/// A running `probe collect --write`, and its address.
fn collect(directory: &Path, formats: &str, rotate: &str) -> (Process, SocketAddr) {
    let directory = directory.to_str().unwrap();
    let args = ["collect", "--listen", "udp://127.0.0.1:0", "--write", directory, "--rotate", rotate];
    let args = [&args[..], &["--write-format", formats, "--log-level", "info"]].concat();
    let mut process = Process::start(None, PROBE, &args).unwrap();
    process.wait_for_message("listening on udp://", SOON).unwrap();
    let said = process.stderr();
    let address = said.split("listening on udp://").nth(1).unwrap().split_whitespace().next().unwrap();
    (process, address.parse().unwrap())
}

/// Seconds of now; the probe's own clock decides about its files.
fn unix_s() -> u32 {
    let now = probe_user::runtime::now();
    u32::try_from(now.wall.unix_ns(now.now) / SECOND).unwrap()
}

#[test]
fn a_terminated_collector_closes_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, address) = collect(directory.path(), "json,parquet,ipfix", "1h");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sums = Sums::default();
    for sequence in 0..100 {
        let (packets, octets) = (sequence + 1, 1000 * sequence + 40);
        socket.send_to(&netflow_v5(packets, octets, unix_s(), sequence), address).unwrap();
        add(&mut sums, (1, packets.into(), octets.into()));
    }
    let flow = Flow { number: 0, end_ns: u64::from(unix_s()) * SECOND };
    for (_, message, _) in messages(&[flow], 7, IDS) {
        socket.send_to(&message, address).unwrap();
    }
    add(&mut sums, flow.sums());
    // A line above them, and one for each.
    assert!(wait_until(SOON, || process.stdout().lines().count() == 102), "{}", process.stdout());
    assert!(files(directory.path()).iter().all(|name| name.ends_with(".tmp")), "nothing is complete yet");
    assert!(process.terminate(SOON).unwrap().success(), "{}", process.stderr());

    let found = files(directory.path());
    assert!(found.iter().all(|name| !name.ends_with(".tmp")), "{found:?}");
    let json = with_extension(directory.path(), "json");
    let parquet = with_extension(directory.path(), "parquet");
    assert_eq!((total(&json, json_sums), total(&parquet, parquet_sums)), (sums, sums));
    assert_eq!(total(&with_extension(directory.path(), "ipfix"), ipfix_sums), flow.sums());
    let said = process.stderr();
    for line in [
        "written as json: files ",
        "records 101, not written 0\n",
        "messages 2, not written 100, not_ipfix 100\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn a_killed_collector_leaves_complete_files_and_the_next_one_clears_up() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, address) = collect(directory.path(), "json,parquet,ipfix", "1s");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sequence = 0;
    let is_temporary = |name: &String| name.ends_with(".tmp");
    // Until each format has a complete file and another one is being written.
    let ready = wait_until(SOON, || {
        socket.send_to(&netflow_v5(1, 40, unix_s(), sequence), address).unwrap();
        let flow = Flow { number: 0, end_ns: u64::from(unix_s()) * SECOND };
        for (_, message, _) in messages(&[flow], 7, IDS) {
            socket.send_to(&message, address).unwrap();
        }
        sequence += 1;
        let found = files(directory.path());
        ["json", "parquet", "ipfix"].iter().all(|format| {
            found.iter().any(|name| name.ends_with(&format!(".{format}")))
                && found.iter().any(|name| is_temporary(name) && name.contains(&format!(".{format}.")))
        })
    });
    process.signal(Signal::SIGKILL).unwrap();
    process.wait(SOON).unwrap();
    assert!(ready, "{:?}\n{}", files(directory.path()), process.stderr());

    let complete: Vec<String> =
        files(directory.path()).into_iter().filter(|name| !is_temporary(name)).collect();
    let flows =
        |extension, read: fn(&Path) -> Sums| total(&with_extension(directory.path(), extension), read).0;
    // Every name that does not say otherwise is a whole file.
    for (extension, read) in
        [("json", json_sums as fn(&Path) -> Sums), ("parquet", parquet_sums), ("ipfix", ipfix_sums)]
    {
        assert!(flows(extension, read) > 0, "{extension}");
    }
    let left = files(directory.path()).iter().filter(|name| is_temporary(name)).count();
    assert!(left >= 1, "the kill came while files were open");

    let (mut process, _) = collect(directory.path(), "json", "1s");
    assert_eq!(files(directory.path()), complete, "complete files stay, others are gone");
    assert!(process.stderr().contains(&format!("removed {left} incomplete files")), "{}", process.stderr());
    assert!(process.terminate(SOON).unwrap().success());
}

#[test]
fn a_directory_that_cannot_be_written_in_ends_it_at_once() {
    let output = Command::new(PROBE)
        .args(["collect", "--listen", "udp://127.0.0.1:0", "--write", "/proc/flows"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot write files in /proc/flows"), "{said}");
    for (args, reason) in [
        (&["--rotate", "1500ms"][..], "whole seconds"),
        (&["--rotate", "2d"], "1s to 1d"),
        (&["--write-format", "csv"], "possible values: json, ipfix, parquet"),
    ] {
        let output = Command::new(PROBE).arg("collect").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason), "{args:?}: {said}");
    }
}
