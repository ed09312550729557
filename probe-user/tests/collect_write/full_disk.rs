// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A disk without room.

use std::{fs, path::Path};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use probe_lab::{clock::wait_until, require_root};
use probe_user::collect::write::{RecordWriter, Unwritten, WriteFormat};

use crate::{
    SOON,
    flow::{FIVE, Flow, IDS, SECOND, Sums, expected, exporter, messages, options, source},
    readers::{files, ipfix_sums, json_sums, parquet_sums, total, with_extension},
};

/// A small file system, gone afterwards.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some(size)).unwrap();
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing better to do if it fails than to let the test say what it has to say.
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_full_disk_costs_what_is_counted_and_nothing_once_it_has_room() {
    require_root();
    let flows: Vec<Flow> = (0..70_000).map(|number| Flow { number, end_ns: FIVE }).collect();
    // A Parquet file is written a row group at a time, so that less than one has to be too much.
    for (format, size, read, keeps) in [
        (WriteFormat::Json, "size=1m", json_sums as fn(&Path) -> Sums, true),
        (WriteFormat::Ipfix, "size=1m", ipfix_sums, true),
        (WriteFormat::Parquet, "size=256k", parquet_sums, false),
    ] {
        let disk = SmallDisk::new(size);
        let directory = disk.0.path();
        let mut writer = RecordWriter::open(options(directory, 300, &[format]), FIVE).unwrap();
        let offer = |writer: &mut RecordWriter, flows: &[Flow], now_ns: u64| {
            let messages = messages(flows, 7, IDS);
            for (_, message, flows) in &messages {
                writer.message(source(1), message, now_ns);
                for flow in flows {
                    writer.record(&flow.received(exporter(1)), now_ns);
                }
            }
            if format == WriteFormat::Ipfix { messages.len() as u64 } else { flows.len() as u64 }
        };
        let offered = offer(&mut writer, &flows, FIVE);
        // The next interval, after somebody has made room.
        let later = FIVE + 300 * SECOND;
        writer.step(later);
        let done = |writer: &RecordWriter| {
            let totals = *writer.totals().of(format);
            totals.written + totals.unwritten[Unwritten::WriteError as usize] == offered
        };
        assert!(
            wait_until(SOON, || done(&writer)),
            "{format}: {:?} of {offered}",
            writer.totals().of(format)
        );
        let first = *writer.totals().of(format);
        assert!(first.unwritten[Unwritten::WriteError as usize] > 0, "{format} had room for all");
        assert_eq!((first.files, first.written > 0), (u64::from(keeps), keeps), "{format}");
        let kept = with_extension(directory, format.extension());
        assert!(total(&kept, read).0 > 0 || !keeps, "what is there can be read");
        for path in kept {
            fs::remove_file(path).unwrap();
        }
        let again = offer(&mut writer, &flows[..100], later);
        let totals = *writer.finish(later).of(format);
        assert_eq!((totals.files, totals.written), (first.files + 1, first.written + again), "{format}");
        assert_eq!(total(&with_extension(directory, format.extension()), read), expected(&flows[..100]));
        assert_eq!(files(directory).len(), 1, "{:?}", files(directory));
    }
}
