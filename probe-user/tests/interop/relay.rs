// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stands between the probe and its collectors: keeps every datagram, and passes on what it is told to.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use probe_lab::{Datagram, Namespace};

/// Whether a datagram passes while the gate is closed.
pub(crate) type Passes = fn(&[u8]) -> bool;

/// A running relay.
pub(crate) struct Relay {
    open: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    kept: Arc<Mutex<Vec<(Datagram, bool)>>>,
    thread: JoinHandle<()>,
}

fn bind(port: u16) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap()
}

/// What came through it.
#[derive(Clone)]
pub(crate) struct Relayed {
    /// All datagrams.
    pub(crate) received: Vec<Datagram>,
    /// Those passed on.
    pub(crate) passed: Vec<Datagram>,
}

impl Relay {
    /// Listens on `port` and passes to the ports `to`, everything once the gate is open.
    pub(crate) fn start(namespace: &Namespace, port: u16, to: &[u16], while_closed: Passes) -> Self {
        let (socket, out) = namespace.enter(|| (bind(port), bind(0))).unwrap();
        Self::on(socket, out, to, while_closed)
    }

    fn on(socket: UdpSocket, out: UdpSocket, to: &[u16], while_closed: Passes) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let to: Vec<SocketAddr> = to.iter().map(|port| (Ipv4Addr::LOCALHOST, *port).into()).collect();
        let (open, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let kept = Arc::new(Mutex::new(Vec::new()));
        let shared = (Arc::clone(&open), Arc::clone(&stop), Arc::clone(&kept));
        let thread = thread::spawn(move || {
            let (open, stop, kept) = shared;
            let mut buffer = vec![0; 65_535];
            loop {
                // Read before the socket is found empty: what was sent before the stop is still taken.
                let stopping = stop.load(Ordering::Acquire);
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        let octets = buffer[..length].to_vec();
                        let passes = open.load(Ordering::Acquire) || while_closed(&octets);
                        for address in to.iter().filter(|_| passes) {
                            // A collector that is not there refuses; that is its loss.
                            out.send_to(&octets, address).ok();
                        }
                        kept.lock().unwrap().push((Datagram { from, octets }, passes));
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        if stopping {
                            return;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => panic!("the relay cannot receive: {error}"),
                }
            }
        });
        Self { open, stop, kept, thread }
    }

    /// A relay that passes nothing on: a collector that keeps datagrams as they are.
    pub(crate) fn keeper(namespace: &Namespace, port: u16) -> Self {
        Self::start(namespace, port, &[], |_| true)
    }

    /// The same without a namespace, on any port; returns that too.
    pub(crate) fn keeper_here() -> (Self, u16) {
        let socket = bind(0);
        let port = socket.local_addr().unwrap().port();
        (Self::on(socket, bind(0), &[], |_| true), port)
    }

    /// From now on everything passes.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// What came so far.
    pub(crate) fn so_far(&self) -> Relayed {
        Relayed::of(self.kept.lock().unwrap().clone())
    }

    /// Ends it.
    pub(crate) fn finish(self) -> Relayed {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
        Relayed::of(std::mem::take(&mut *self.kept.lock().unwrap()))
    }
}

impl Relayed {
    fn of(kept: Vec<(Datagram, bool)>) -> Self {
        let passed =
            kept.iter().filter(|(_, passed)| *passed).map(|(datagram, _)| datagram.clone()).collect();
        Self { received: kept.into_iter().map(|(datagram, _)| datagram).collect(), passed }
    }
}
