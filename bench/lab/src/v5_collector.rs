// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A NetFlow v5 collector that decodes with a crate we did not write.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use netflow_parser::{NetflowPacket, NetflowParser, static_versions::v5::FlowSet};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::{FlowId, Flows, Namespace, Sums};

/// Receive buffer asked for: enough for a flood of records while the machine does other things.
const RECEIVE_BUFFER: usize = 256 << 20;
/// Largest UDP payload.
const LARGEST: usize = 65_535;

/// Keeps every datagram that arrives; [`V5Collector::finish`] decodes them.
#[derive(Debug)]
pub struct V5Collector {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    receiver: JoinHandle<Vec<Datagram>>,
}

/// One record as the collector understood it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V5Record {
    /// Engine type and engine id of its datagram.
    pub engine: (u8, u8),
    /// The flow.
    pub flow: FlowId,
    /// Packets and octets.
    pub sums: Sums,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Ingress interface.
    pub input: u16,
    /// First packet, Unix time in milliseconds.
    pub first_ms: u64,
    /// Last packet, Unix time in milliseconds.
    pub last_ms: u64,
}

/// Everything a collector received, checked for form and order.
#[derive(Debug, Default)]
pub struct Export {
    /// Records in the order of arrival.
    pub records: Vec<V5Record>,
    /// Number of datagrams.
    pub datagrams: usize,
    /// For each exporting socket and engine, the records that its sequence has counted.
    pub sequences: BTreeMap<(SocketAddr, u8, u8), u32>,
}

/// One datagram as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// Its payload.
    pub octets: Vec<u8>,
}

impl V5Collector {
    /// Listens on `address` (port 0: any), in a namespace if one is given.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(namespace: Option<&Namespace>, address: SocketAddr) -> Result<Self> {
        let bind = || UdpSocket::bind(address);
        let socket = match namespace {
            Some(inside) => inside.enter(bind)?,
            None => bind(),
        }
        .with_context(|| format!("listening on UDP {address}"))?;
        setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).context("enlarging the receive buffer")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let receiver = thread::spawn(move || receive(&socket, &stopped));
        Ok(Self { address, stop, receiver })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes what has arrived (all of it, if the exporter has ended) and decodes it.
    ///
    /// # Errors
    /// When a datagram is malformed, or a sequence number is not the expected one.
    pub fn finish(self) -> Result<Export> {
        self.finish_raw().and_then(|datagrams| Export::decode(&datagrams))
    }

    /// Takes what has arrived, without looking into it.
    ///
    /// # Errors
    /// When the receiving thread failed.
    pub fn finish_raw(self) -> Result<Vec<Datagram>> {
        self.stop.store(true, Ordering::Release);
        self.receiver.join().map_err(|_| anyhow!("the receiving thread failed"))
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Vec<Datagram> {
    let mut received = Vec::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        // Read before the socket is found empty: what was sent before the stop is still taken.
        let stopping = stop.load(Ordering::Acquire);
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                received.push(Datagram { from, octets: buffer[..length].to_vec() });
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stopping {
                    return received;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return received,
        }
    }
}

impl Export {
    /// Sums per flow, all engines together.
    #[must_use]
    pub fn flows(&self) -> Flows {
        let mut flows = Flows::new();
        for record in &self.records {
            *flows.entry(record.flow).or_default() += record.sums;
        }
        flows
    }

    /// The records of one engine.
    pub fn of_engine(&self, engine_id: u8) -> impl Iterator<Item = &V5Record> {
        self.records.iter().filter(move |record| record.engine.1 == engine_id)
    }

    /// Sums per flow of datagrams from an exporter that is not ours: sequence and times are not looked at.
    ///
    /// # Errors
    /// When one is not NetFlow v5.
    pub fn flows_of_others(datagrams: &[Datagram]) -> Result<Flows> {
        let mut parser = NetflowParser::default();
        let mut flows = Flows::new();
        for (number, Datagram { from, octets }) in datagrams.iter().enumerate() {
            let parsed = parser.parse_bytes(octets);
            let [NetflowPacket::V5(packet)] = parsed.packets.as_slice() else {
                bail!("datagram {number} from {from} is no NetFlow v5: {:?}", parsed.error);
            };
            for record in &packet.flowsets {
                *flows.entry(flow_of(record)).or_default() += sums_of(record);
            }
        }
        Ok(flows)
    }

    /// Decodes datagrams in the order of their arrival.
    ///
    /// # Errors
    /// When one is malformed, or a sequence number is not the expected one.
    pub fn decode(datagrams: &[Datagram]) -> Result<Self> {
        let mut parser = NetflowParser::default();
        let mut export = Self { datagrams: datagrams.len(), ..Self::default() };
        for (number, Datagram { from, octets }) in datagrams.iter().enumerate() {
            export
                .add(&mut parser, *from, octets)
                .with_context(|| format!("datagram {number} from {from}, {} octets", octets.len()))?;
        }
        Ok(export)
    }

    fn add(&mut self, parser: &mut NetflowParser, from: SocketAddr, datagram: &[u8]) -> Result<()> {
        let parsed = parser.parse_bytes(datagram);
        ensure!(parsed.is_ok(), "not decodable: {:?}", parsed.error);
        let [NetflowPacket::V5(packet)] = parsed.packets.as_slice() else {
            bail!("not exactly one NetFlow v5 message: {:?}", parsed.packets);
        };
        let header = &packet.header;
        ensure!(datagram.len() == 24 + 48 * packet.flowsets.len(), "octets after the last record");
        ensure!(packet.flowsets.len() == usize::from(header.count), "count differs from the records");
        let next = self.sequences.entry((from, header.engine_type, header.engine_id)).or_insert(0);
        ensure!(
            *next == header.flow_sequence,
            "flow_sequence is {}, expected {next}: records are missing or came twice",
            header.flow_sequence
        );
        *next = next.wrapping_add(u32::from(header.count));
        let now_ms = u64::from(header.unix_secs) * 1000 + u64::from(header.unix_nsecs) / 1_000_000;
        for record in &packet.flowsets {
            ensure!(
                record.first <= record.last && record.last <= header.sys_up_time,
                "not first {} <= last {} <= uptime {}",
                record.first,
                record.last,
                header.sys_up_time
            );
            ensure!(record.d_pkts > 0, "a record without packets");
            let unix_ms = |uptime: u32| now_ms.saturating_sub(u64::from(header.sys_up_time - uptime));
            self.records.push(V5Record {
                engine: (header.engine_type, header.engine_id),
                flow: flow_of(record),
                sums: sums_of(record),
                tcp_flags: record.tcp_flags,
                input: record.input,
                first_ms: unix_ms(record.first),
                last_ms: unix_ms(record.last),
            });
        }
        Ok(())
    }
}

fn flow_of(record: &FlowSet) -> FlowId {
    FlowId {
        source: record.src_addr.into(),
        destination: record.dst_addr.into(),
        source_port: record.src_port,
        destination_port: record.dst_port,
        protocol: record.protocol_number,
        tos: record.tos,
    }
}

fn sums_of(record: &FlowSet) -> Sums {
    Sums { packets: record.d_pkts.into(), octets: record.d_octets.into() }
}
