// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Traffic as fast as the machine can: `BPF_PROG_TEST_RUN` with live frames runs our XDP program on a
//! recycled frame, and redirects it to a veth interface (kernel 5.18 or later).
//!
//! Everything that was sent is known: the program follows a [`Plan`] and counts, and
//! [`send_in_parallel`] compares that count with the frames that came out at the other end.

#[path = "plan.rs"]
mod plan;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunAttrs, TestRunOptions,
    maps::Array,
    programs::{ProgramError, Xdp},
};
pub use plan::Plan;
use plan::{Position, source_port};

use crate::{
    FlowId, Flows, Link, Sums,
    clock::wait_until,
    cpus,
    packets::{Packet, Transport},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/generator.o"));

/// Frames of one batch inside the kernel: as many as one poll of the receiving end takes.
const BATCH: u32 = 64;
/// Frames of one system call. Its set-up takes milliseconds, so this is large; a signal ends it early.
const CHUNK: u32 = 1 << 20;
/// How long the last frames may take to be counted by the receiving end.
const SETTLE: Duration = Duration::from_secs(5);

/// The stream's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// From 10.0.0.0 + flow to 192.0.2.1.
    V4,
    /// From 2001:db8:: + flow to 2001:db8:ffff::1.
    V6,
}

/// What a generator sends. Flow `n` comes from address base + `n`, port [`source_port`]`(n)`.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// IPv4 or IPv6.
    pub network: Network,
    /// TCP (with ACK set) or UDP.
    pub transport: Transport,
    /// VLAN tags, outermost first.
    pub vlans: Vec<u16>,
    /// Flows and lengths.
    pub plan: Plan,
}

impl Traffic {
    /// UDP over IPv4, `flows` flows beginning with number `first_flow`, lengths from 64 to 127 octets.
    #[must_use]
    pub fn udp(first_flow: u32, flows: u32) -> Self {
        Self {
            network: Network::V4,
            transport: Transport::Udp { source: 0, destination: 4000 },
            vlans: Vec::new(),
            plan: Plan { flows, first_flow, stride: stride(flows), shortest: 64, length_mask: 63 },
        }
    }

    /// The same over IPv6.
    #[must_use]
    pub fn over_ipv6(mut self) -> Self {
        self.network = Network::V6;
        self
    }

    /// The same as TCP segments with ACK set.
    #[must_use]
    pub fn over_tcp(mut self) -> Self {
        self.transport =
            Transport::Tcp { source: 0, destination: 443, flags: 0x10, sequence: 1, acknowledgement: 1 };
        self
    }

    /// The same with VLAN tags, outermost first.
    #[must_use]
    pub fn in_vlans(mut self, vlans: &[u16]) -> Self {
        self.vlans = vlans.to_vec();
        self
    }

    fn addresses(&self, flow: u32) -> (IpAddr, IpAddr) {
        match self.network {
            Network::V4 => (
                Ipv4Addr::from(u32::from(FIRST_V4).wrapping_add(flow)).into(),
                Ipv4Addr::new(192, 0, 2, 1).into(),
            ),
            Network::V6 => (
                Ipv6Addr::from(u128::from(FIRST_V6) | u128::from(flow)).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).into(),
            ),
        }
    }

    fn id(&self, flow: u32) -> FlowId {
        let (source, destination) = self.addresses(flow);
        FlowId {
            source,
            destination,
            source_port: source_port(flow),
            destination_port: self.transport.destination_port(),
            protocol: self.transport.protocol(),
            tos: 0,
        }
    }

    /// A frame long enough for every packet of the plan.
    fn frame(&self) -> Vec<u8> {
        let (source, destination) = self.addresses(0);
        let longest = usize::from(self.plan.shortest) + usize::from(self.plan.length_mask);
        let mut packet = Packet::new(source, destination, self.transport);
        packet.vlans.clone_from(&self.vlans);
        packet.payload = vec![0; longest.saturating_sub(packet.ip_length())];
        packet.frame()
    }
}

const FIRST_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);

/// About 0.618 of `flows`, without a common divisor.
fn stride(flows: u32) -> u32 {
    let wanted = u32::try_from(u64::from(flows) * 618 / 1000).unwrap_or(1).max(1);
    (wanted..flows).chain(1..wanted).find(|&stride| divisor(stride, flows) == 1).unwrap_or(1)
}

fn divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// One sender with its own program and its own place in its plan.
#[derive(Debug)]
pub struct Generator {
    ebpf: Ebpf,
    traffic: Traffic,
    frame: Vec<u8>,
}

impl Generator {
    /// Loads the sender for the sending end of `link`.
    ///
    /// # Errors
    /// When the kernel refuses the program, or the lab was built without it.
    pub fn load(link: &Link, traffic: &Traffic) -> Result<Self> {
        ensure!(
            !OBJECT.is_empty(),
            "the lab was built with PROBE_SKIP_EBPF=1 and has no generator; build again without it"
        );
        let plan = traffic.plan;
        let first_source: u32 = match traffic.network {
            Network::V4 => FIRST_V4.into(),
            Network::V6 => 0,
        };
        let network_offset = 14 + 4 * u32::try_from(traffic.vlans.len())?;
        let is_v6 = u32::from(traffic.network == Network::V6);
        let (shortest, length_mask) = (u32::from(plan.shortest), u32::from(plan.length_mask));
        let mut ebpf = EbpfLoader::new()
            .override_global("INTERFACE", &link.sender.index, true)
            .override_global("NETWORK_OFFSET", &network_offset, true)
            .override_global("IPV6", &is_v6, true)
            .override_global("FIRST_SOURCE", &first_source, true)
            .override_global("FLOWS", &plan.flows, true)
            .override_global("FIRST_FLOW", &plan.first_flow, true)
            .override_global("STRIDE", &plan.stride, true)
            .override_global("SHORTEST", &shortest, true)
            .override_global("LENGTH_MASK", &length_mask, true)
            .load(OBJECT)
            .context("loading the generator's object")?;
        let program: &mut Xdp =
            ebpf.program_mut("generate").context("no program in the object")?.try_into()?;
        program.load().context("loading the generator into the kernel")?;
        Ok(Self { ebpf, frame: traffic.frame(), traffic: traffic.clone() })
    }

    /// Sends `packets` frames from this thread, which must be in the namespace of the sending end.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn send(&mut self, packets: u64) -> Result<()> {
        let goal = self.sent()? + packets;
        loop {
            let missing = goal - self.sent()?;
            if missing == 0 {
                return Ok(());
            }
            let program: &Xdp =
                self.ebpf.program("generate").context("no program in the object")?.try_into()?;
            let options = TestRunOptions {
                data_in: Some(&self.frame),
                repeat: CHUNK.min(u32::try_from(missing).unwrap_or(CHUNK)),
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            };
            match program.test_run(options) {
                Ok(_) => {}
                // A signal ended the call; the program has counted how far it came.
                Err(ProgramError::SyscallError(error))
                    if error.io_error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending live frames"),
            }
        }
    }

    /// Frames sent so far, as the program has counted them.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn sent(&self) -> Result<u64> {
        let map = self.ebpf.map("PROGRESS").context("no map in the object")?;
        // Progress in probe-ebpf/src/bin/generator.rs: the count comes first.
        let progress: [u64; 3] = Array::try_from(map)?.get(&0, 0)?;
        Ok(progress[0])
    }

    /// Packets and octets of every flow sent so far.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn expected(&self) -> Result<Flows> {
        let plan = self.traffic.plan;
        let mut sums = vec![Sums::default(); usize::try_from(plan.flows)?];
        let mut position = Position::default();
        for _ in 0..self.sent()? {
            let planned = plan.advance(&mut position);
            let index = usize::try_from(planned.flow - plan.first_flow)?;
            sums[index] += Sums { packets: 1, octets: planned.length.into() };
        }
        let used = sums.into_iter().enumerate().filter(|(_, sum)| sum.packets > 0);
        used.map(|(index, sum)| Ok((self.traffic.id(plan.first_flow + u32::try_from(index)?), sum))).collect()
    }
}

/// Each generator sends `packets` frames, all at the same time, each from a CPU of its own as far as
/// there are enough. Returns when the other end of the link has counted them.
///
/// # Errors
/// When the link has refused frames: then nobody knows which, and nothing exact can be said.
pub fn send_in_parallel(link: &Link, generators: &mut [Generator], packets: u64) -> Result<()> {
    let before = link.metered.received_frames()?;
    let cpus = cpus::allowed()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = generators
            .iter_mut()
            .enumerate()
            .map(|(number, generator)| {
                let cpu = cpus[number % cpus.len()];
                scope.spawn(move || {
                    link.sender.namespace.enter(|| -> Result<()> {
                        // On a CPU of its own a sender fills a queue no faster than that same CPU empties it.
                        cpus::pin(cpu)?;
                        generator.send(packets)
                    })?
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let wanted = before + packets * u64::try_from(generators.len())?;
    let mut seen = before;
    wait_until(SETTLE, || {
        seen = link.metered.received_frames().unwrap_or(seen);
        seen >= wanted
    });
    if seen == wanted {
        // The counter moves before the last poll has run XDP to its end.
        sleep(Duration::from_millis(20));
        return Ok(());
    }
    bail!(
        "{} took {} frames of {} sent: the cable lost some, so this run says nothing about the probe",
        link.metered.name,
        seen - before,
        wanted - before
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_visits_every_flow_once() {
        for flows in [1, 2, 3, 7, 64, 1000, 4096] {
            let plan = Plan { flows, first_flow: 5, stride: stride(flows), shortest: 64, length_mask: 63 };
            let mut position = Position::default();
            for turn in 0..3 {
                let mut seen = vec![false; flows as usize];
                for _ in 0..flows {
                    assert_eq!(position.turn, turn);
                    let planned = plan.advance(&mut position);
                    assert!((64..128).contains(&planned.length));
                    assert!(!std::mem::replace(&mut seen[(planned.flow - 5) as usize], true));
                }
            }
        }
    }
}
