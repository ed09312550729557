// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A collector that takes datagrams: finds it by its name, follows it when the name moves, and notices when it
//! refuses them and when it is back.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Protocol, Type};

use super::{
    Endpoint, Mechanism, Sent, Sink, SinkError, Tended,
    address::{Address, News},
    health::{Health, Verdict},
    socket::{self, SocketOptions},
    udp_socket::DatagramSocket,
};
use crate::export::{encode::Now, ring::Run, stats::ErrorReason, url::CollectorUrl};
use crate::flow::Timestamp;

/// IP and UDP headers.
const OVERHEAD_V4: usize = 28;
const OVERHEAD_V6: usize = 48;
const DEFAULT_MTU: u16 = 1500;
const UDP: u8 = 17;
/// How often the socket is asked what ICMP said.
const LISTEN: Duration = Duration::from_millis(100);
/// How often the kernel is asked for the path MTU.
const PATH_MTU: Duration = Duration::from_secs(10);
/// Down for so long, the collector may have moved: its name is looked up.
const MOVED: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct UdpSink {
    address: Address,
    options: SocketOptions,
    /// None while the name has no address.
    socket: Option<DatagramSocket>,
    mechanism: Mechanism,
    has_templates: bool,
    health: Health,
    connects: u64,
    /// Connects that the stream was told of.
    refreshed: u64,
    message_octets: usize,
    listened: Timestamp,
    measured: Timestamp,
    /// The path MTU that was complained about.
    path_mtu: Option<usize>,
}

impl UdpSink {
    /// Resolves, opens, binds and connects. A collector without a route today is no error, and neither is a name
    /// without an address.
    ///
    /// # Errors
    /// What the operator has to change.
    pub fn open(collector: &CollectorUrl) -> Result<Self, SinkError> {
        let address = Address::new(collector)?;
        let options = SocketOptions::new(collector, Type::DGRAM, Protocol::UDP);
        options.check(&address)?;
        let mut sink = Self {
            message_octets: message_octets(&address, collector),
            address,
            options,
            socket: None,
            mechanism: Mechanism::Segmentation,
            has_templates: collector.version.has_templates(),
            health: Health::default(),
            connects: 0,
            refreshed: 0,
            listened: Timestamp::default(),
            measured: Timestamp::default(),
            path_mtu: None,
        };
        sink.replace_socket()?;
        Ok(sink)
    }

    /// Uses another mechanism; for benches, and for tests of the fall-back.
    pub fn set_mechanism(&mut self, mechanism: Mechanism) {
        self.mechanism = mechanism;
        if let Some(socket) = &mut self.socket {
            socket.set_mechanism(mechanism);
        }
    }

    /// How datagrams are handed over now.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.socket.as_ref().map_or(self.mechanism, DatagramSocket::mechanism)
    }

    /// A new socket towards the present address; the old one stays if there is none to be had.
    fn replace_socket(&mut self) -> Result<(), SinkError> {
        let (Some(peer), Some(local)) = (self.address.current(), self.address.local()) else { return Ok(()) };
        let socket = self.options.open(local)?;
        let url = || self.options.url().to_owned();
        let mut socket = DatagramSocket::new(socket, peer, self.mechanism)
            .map_err(|cause| SinkError::Socket { url: url(), protocol: "UDP", cause })?;
        match socket.connect() {
            Ok(()) => self.connects += 1,
            // There may be a route tomorrow.
            Err(errno) if socket::reason(&errno.into()) == ErrorReason::Unreachable => {}
            Err(errno) => return Err(SinkError::Connect { url: url(), peer, cause: errno.into() }),
        }
        self.socket = Some(socket);
        self.health = Health::default();
        Ok(())
    }

    /// Hands a run over, as far as the kernel takes it.
    pub fn send(&mut self, run: &Run<'_>, now: Timestamp) -> Sent {
        let Some(socket) = &mut self.socket else { return Sent::BUSY };
        let was_connected = socket.is_connected();
        let sent = socket.send(run, now);
        self.connects += u64::from(socket.is_connected() && !was_connected);
        if let Some((reason, _)) = sent.error {
            self.health.failed(reason, now);
        }
        if sent.datagrams > 0 {
            self.health.sent(now);
        }
        sent
    }

    fn follow(&mut self, now: Timestamp, tended: &mut Tended) {
        if self.health.down_since().is_some_and(|since| now.since(since) >= MOVED) {
            self.address.hurry(now);
        }
        match self.address.tend(now) {
            News::None => {}
            News::Failed(why) => tended.trouble(ErrorReason::Unresolved, why),
            News::Changed => match self.replace_socket() {
                Ok(()) => {
                    if let Some(peer) = self.address.current() {
                        tracing::info!("{} is at {} now", self.options.url(), peer.ip());
                    }
                }
                Err(error) => tended.trouble(ErrorReason::Other, error.to_string()),
            },
        }
    }

    fn listen(&mut self, now: Timestamp, tended: &mut Tended) {
        if now.since(self.listened) < LISTEN {
            return;
        }
        self.listened = now;
        if let Some(socket) = &self.socket
            && let Some(error) = socket.take_error()
        {
            let reason = socket::reason(&error);
            self.health.failed(reason, now);
            let what = format!("datagrams to {} do not arrive: {error}", socket.peer());
            tended.trouble(reason, format!("{what}; check that the collector runs and can be reached"));
        }
    }

    /// The kernel fragments what is too large for the path (IP_PMTUDISC_WANT), so nothing is lost here; but
    /// firewalls drop fragments.
    fn measure(&mut self, now: Timestamp, tended: &mut Tended) {
        if now.since(self.measured) < PATH_MTU {
            return;
        }
        self.measured = now;
        let Some(mtu) = self.socket.as_ref().and_then(DatagramSocket::path_mtu) else { return };
        let needed = self.message_octets + OVERHEAD_V4;
        if mtu >= needed {
            self.path_mtu = None;
        } else if self.path_mtu.replace(mtu) != Some(mtu) {
            tended.trouble(
                ErrorReason::TooLarge,
                format!(
                    "the path takes packets of {mtu} octets, and datagrams of up to {needed} are sent in fragments, \
                     which firewalls often drop; set mtu={mtu} in the collector's URL"
                ),
            );
        }
    }
}

impl Sink for UdpSink {
    fn send(&mut self, run: &Run<'_>, now: Now) -> Sent {
        Self::send(self, run, now.at)
    }

    fn tend(&mut self, _preamble: &mut dyn FnMut(&mut Vec<u8>), now: Now) -> Tended {
        let mut tended = Tended::default();
        self.measure(now.at, &mut tended);
        self.listen(now.at, &mut tended);
        self.follow(now.at, &mut tended);
        let verdict = self.health.look(self.has_templates, now.at);
        let connected = std::mem::replace(&mut self.refreshed, self.connects) != self.connects;
        tended.refresh = connected || verdict != Verdict::AsBefore;
        tended
    }

    fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    fn is_up(&self) -> bool {
        self.socket.is_some() && self.health.is_up()
    }

    fn message_octets(&self) -> usize {
        self.message_octets
    }

    fn endpoint(&self) -> Option<Endpoint> {
        let socket = self.socket.as_ref()?;
        Some(Endpoint { protocol: UDP, local: socket.local_addr()?, peer: socket.peer() })
    }

    fn connects(&self) -> u64 {
        self.connects
    }

    fn unresolved(&self) -> Option<String> {
        self.address.failed_at_start().map(|why| format!("cannot export to {}: {why}", self.options.url()))
    }
}

/// Room for records; for a name without an address as if it had one of IPv6, whose headers are larger.
fn message_octets(address: &Address, collector: &CollectorUrl) -> usize {
    let ip = address.current().map(|peer: SocketAddr| peer.ip()).or(collector.source);
    let overhead = match ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
        IpAddr::V4(_) => OVERHEAD_V4,
        IpAddr::V6(_) => OVERHEAD_V6,
    };
    usize::from(collector.mtu.unwrap_or(DEFAULT_MTU)).saturating_sub(overhead)
}
