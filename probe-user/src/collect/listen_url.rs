// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where to listen, as it is written on the command line.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// How messages arrive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// Datagrams of any version.
    Udp,
    /// IPFIX over connections (RFC 7011 section 10.4).
    Tcp,
    /// The same, within TLS.
    Tls,
}

/// `udp://ADDRESS:PORT`, `tcp://…` or `tls://…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenUrl {
    /// How messages arrive.
    pub transport: Transport,
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
}

impl ListenUrl {
    /// Datagrams on an address.
    #[must_use]
    pub fn udp(address: SocketAddr) -> Self {
        Self { transport: Transport::Udp, address }
    }
}

impl FromStr for ListenUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (transport, address) = match text.split_once("://") {
            None => (Transport::Udp, text),
            Some(("udp", address)) => (Transport::Udp, address),
            Some(("tcp", address)) => (Transport::Tcp, address),
            Some(("tls", address)) => (Transport::Tls, address),
            Some((scheme, _)) => {
                return Err(format!("cannot listen on '{scheme}': possible are udp, tcp and tls"));
            }
        };
        address.parse().map(|address| Self { transport, address }).map_err(|_| {
            "expected udp://ADDRESS:PORT (or tcp://, tls://) with an IP address, such as udp://0.0.0.0:2055 \
             or udp://[::]:2055"
                .into()
        })
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_they_are_written() {
        for text in ["udp://0.0.0.0:2055", "tcp://[::1]:4739", "tls://192.0.2.1:4740"] {
            assert_eq!(text.parse::<ListenUrl>().unwrap().to_string(), text);
        }
        assert_eq!("127.0.0.1:9".parse::<ListenUrl>().unwrap().to_string(), "udp://127.0.0.1:9");
        for (text, said) in [("sctp://0.0.0.0:1", "udp, tcp and tls"), ("udp://host:1", "an IP address")] {
            let error = text.parse::<ListenUrl>().unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
