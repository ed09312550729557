// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the probe on a host's own interface takes of the host's traffic: a TCP transfer over a veth pair into an
//! interface without anything, with the probe in the host role (native XDP, tc), and with an XDP program that does
//! nothing but pass. Every stream's content is compared by a checksum over the whole of it.
//!
//! Each measurement has one without the probe right before it, and the figure that counts is the ratio of the two.
//! On veth, XDP of any kind takes away the segmentation offloads of the other end (drivers/net/veth.c,
//! `veth_xdp_set`), so that the stream comes in packets of 1500 octets instead of 64 KiB: `pass` shows that part.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use nix::sys::signal::Signal;
use probe_bench::live::attach;
use probe_bench::random::Random;
use probe_bench::report::{BenchArgs, Metric, Report};
use probe_bench::scratch::probe_program;
use probe_bench::stopwatch::{Samples, Stopwatch};
use probe_lab::{Link, Probe, V5Collector, require_root};
use serde_json::json;

/// Octets that are written and compared at a time.
const BLOCK: usize = 1 << 18;
/// Different blocks; which comes next is random, so that a block too few, too many or out of place shows.
const BLOCKS: usize = 16;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PORT: u16 = 7000;
/// A transfer that stands still has failed.
const STALL: Duration = Duration::from_secs(20);

/// What a TCP transfer keeps of its throughput with the probe in the host role
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    bench: BenchArgs,
}

/// What is on the receiving interface.
#[derive(Clone, Copy, Debug)]
enum Load {
    Pass,
    Probe(&'static [&'static str]),
}

const LOADS: [(&str, Load); 3] = [
    ("xdp_pass", Load::Pass),
    ("probe/native", Load::Probe(&["--role", "host", "--xdp-mode", "native"])),
    ("probe/tc", Load::Probe(&["--role", "host", "--xdp-mode", "tc"])),
];

fn main() -> Result<()> {
    let args = Args::parse();
    require_root();
    let (blocks, rounds) = if args.bench.quick { (2000, 3) } else { (16_000, 11) };
    let content = Content::new();
    let mut report = Report::new("host", args.bench);
    for (name, load) in LOADS {
        let mut rates = [Samples::default(), Samples::default()];
        let mut ratios = Samples::default();
        let mut refused = None;
        for _ in 0..rounds {
            let link = Link::for_many_senders("host")?;
            link.sender.add_address(&format!("{SENDER}/24"))?;
            link.metered.add_address(&format!("{RECEIVER}/24"))?;
            let without = transfer(&link, &content, blocks)?;
            match with(&link, load, || transfer(&link, &content, blocks))? {
                Ok(with) => {
                    rates[0].add(without);
                    rates[1].add(with);
                    ratios.add(with / without);
                }
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            }
        }
        if let Some(why) = refused {
            eprintln!("{name} is left out: {why}");
            continue;
        }
        let ratio = (ratios.median() * 1000.0).round() / 1000.0;
        let extra = [
            ("ratio_to_without", json!(ratio)),
            ("without_per_second", json!(rates[0].median().round())),
            ("unit", json!("octets")),
            ("content", json!("same, by checksum at both ends")),
        ];
        report.row(name, None, Metric::PerSecond, rates[1].median(), &extra);
    }
    report.finish().context("cannot write the report")
}

/// Does `work` while something is on the interface. The inner error is why it could not be put there.
fn with<T>(link: &Link, load: Load, work: impl FnOnce() -> Result<T>) -> Result<Result<T, String>> {
    let arguments = match load {
        Load::Pass => {
            let _program = attach(link, "pass")?;
            return work().map(Ok);
        }
        Load::Probe(arguments) => arguments,
    };
    let end = &link.metered;
    let collector = V5Collector::start(Some(&end.namespace), LOOPBACK)?;
    let address = collector.address().to_string();
    let mut all = vec!["--collector", &address];
    all.extend(arguments);
    let program = probe_program()?.display().to_string();
    let probe = match Probe::start(&program, &end.namespace, &end.name, &all) {
        Ok(probe) => probe,
        Err(error) => return Ok(Err(format!("{error:#}").replace('\n', " "))),
    };
    let outcome = work()?;
    let ended = probe.stop(Signal::SIGTERM)?;
    let ledger = &ended.ledger;
    ensure!(
        ended.status.success() && ledger.balanced(),
        "the probe ended with {}: {}",
        ended.status,
        ledger.0
    );
    ensure!(ledger.count("packets.metered") > 0, "the probe saw nothing of the transfer: {}", ledger.0);
    Ok(Ok(outcome))
}

/// Octets a second of one transfer; an error if what arrives is not what was sent.
fn transfer(link: &Link, content: &Content, blocks: usize) -> Result<f64> {
    let address = SocketAddr::from((RECEIVER, PORT));
    let listener = link.metered.namespace.enter(|| TcpListener::bind(address))?.context("listening")?;
    // The kernel shakes hands before anybody accepts, so that neither thread waits for the other in vain.
    let connect = || TcpStream::connect_timeout(&address, STALL);
    let stream = link.sender.namespace.enter(connect)?.context("connecting")?;
    let watch = Stopwatch::start();
    let (sent, received) = thread::scope(|scope| {
        let sender = scope.spawn(|| content.send(stream, blocks));
        let received = receive(&listener, blocks);
        (sender.join().map_err(|_| anyhow!("the sending thread failed")), received)
    });
    // If the sender failed, that is why nothing came.
    let sent = sent??;
    let received = received?;
    let elapsed = watch.elapsed();
    ensure!(sent == received, "what arrived is not what was sent: checksums {sent:016x} and {received:016x}");
    Ok((blocks * BLOCK) as f64 / elapsed.as_secs_f64())
}

fn receive(listener: &TcpListener, blocks: usize) -> Result<u64> {
    let (mut stream, _) = listener.accept().context("accepting")?;
    stream.set_read_timeout(Some(STALL))?;
    let mut digest = Digest::default();
    let mut block = vec![0; BLOCK];
    for number in 0..blocks {
        stream.read_exact(&mut block).with_context(|| format!("receiving block {number} of {blocks}"))?;
        digest.add(checksum(&block));
    }
    ensure!(stream.read(&mut block)? == 0, "more arrived than was sent");
    Ok(digest.0)
}

/// What is sent, with checksums made before the clock starts.
struct Content {
    blocks: Vec<(Vec<u8>, u64)>,
}

impl Content {
    fn new() -> Self {
        let mut random = Random::new(7);
        let mut block = || -> Vec<u8> {
            let words = (0..BLOCK / 4).map(|_| u32::try_from(random.below(1 << 32)).unwrap_or(0));
            words.flat_map(u32::to_le_bytes).collect()
        };
        let blocks = (0..BLOCKS).map(|_| block()).map(|block| (block.clone(), checksum(&block))).collect();
        Self { blocks }
    }

    fn send(&self, mut stream: TcpStream, blocks: usize) -> Result<u64> {
        stream.set_write_timeout(Some(STALL))?;
        let mut random = Random::new(11);
        let mut digest = Digest::default();
        for number in 0..blocks {
            let (block, checksum) = &self.blocks[usize::try_from(random.below(BLOCKS as u64))?];
            stream.write_all(block).with_context(|| format!("sending block {number} of {blocks}"))?;
            digest.add(*checksum);
        }
        Ok(digest.0)
    }
}

/// Checksums of blocks in their order.
#[derive(Default)]
struct Digest(u64);

impl Digest {
    fn add(&mut self, checksum: u64) {
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(checksum);
    }
}

/// Odd, so that no step forgets a bit of what came before (Knuth's MMIX).
const FACTOR: u64 = 6_364_136_223_846_793_005;

/// A polynomial over the words of a block in four lanes: it sees every octet and its place, and takes less time
/// than the copy out of the socket.
fn checksum(block: &[u8]) -> u64 {
    let mut lanes = [1u64, 2, 3, 4];
    for words in block.chunks_exact(32) {
        for (lane, word) in lanes.iter_mut().zip(words.chunks_exact(8)) {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            *lane = lane.wrapping_mul(FACTOR).wrapping_add(word);
        }
    }
    lanes.into_iter().fold(0, |sum, lane| sum.wrapping_mul(FACTOR).wrapping_add(lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_sees_every_octet_and_its_place() {
        let block: Vec<u8> = (0..1024u32).map(|number| number.to_le_bytes()[0]).collect();
        let whole = checksum(&block);
        for place in 0..block.len() {
            let mut other = block.clone();
            other[place] ^= 0x80;
            assert_ne!(checksum(&other), whole, "octet {place}");
        }
        let mut swapped = block.clone();
        swapped.swap(3, 4);
        assert_ne!(checksum(&swapped), whole);
    }

    #[test]
    fn a_digest_sees_the_order_of_blocks() {
        let of = |checksums: [u64; 2]| {
            let mut digest = Digest::default();
            checksums.into_iter().for_each(|checksum| digest.add(checksum));
            digest.0
        };
        assert_ne!(of([1, 2]), of([2, 1]));
    }
}
