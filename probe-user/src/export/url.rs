// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where to export to: `[v5://]HOST[:PORT][?key=value&…]`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Port of a NetFlow v5 collector when none is given.
const DEFAULT_PORT: u16 = 2055;
/// Smallest MTU that every IPv4 host must be able to receive (RFC 791 section 3.1).
const MIN_MTU: u16 = 576;

/// Export protocols.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExportVersion {
    /// NetFlow version 5.
    V5,
}

impl ExportVersion {
    /// Scheme of the URL, value of the `version` label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V5 => "v5",
        }
    }
}

/// One collector, as given with `--collector`. `Display` gives the canonical form, with the port and
/// the given options in a fixed order: the name of the collector in metrics and ledger.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CollectorUrl {
    /// Protocol.
    pub version: ExportVersion,
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// Local address to send from.
    pub source: Option<IpAddr>,
    /// Engine id of the first interface, instead of the probe's own setting.
    pub engine_id: Option<u8>,
    /// Engine type, instead of the probe's own setting.
    pub engine_type: Option<u8>,
    /// Most datagrams a second; none: as fast as bursts allow to be smoothed.
    pub pps: Option<u32>,
    /// Largest IP packet on the way to the collector, in octets.
    pub mtu: Option<u16>,
}

/// Why a collector was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    /// Another protocol.
    #[error(
        "collector '{url}': scheme '{scheme}' is not supported; supported: v5 (NetFlow v5 over UDP), as in v5://192.0.2.10:2055"
    )]
    Scheme {
        /// As given.
        url: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// No such option.
    #[error(
        "collector '{url}': unknown option '{key}'; a v5 collector knows source, engine_id, engine_type, pps and mtu"
    )]
    Key {
        /// As given.
        url: String,
        /// The unknown key.
        key: String,
    },
    /// An option with a value out of range, or given twice.
    #[error("collector '{url}': {key}={value} is not possible; {expected}")]
    Value {
        /// As given.
        url: String,
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
    /// No host, or not one.
    #[error("collector '{url}': {problem}; write HOST, HOST:PORT or [IPV6]:PORT, as in v5://192.0.2.10:2055")]
    Host {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl FromStr for CollectorUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let rest = match url.split_once("://") {
            Some(("v5", rest)) => rest,
            Some((scheme, _)) => return Err(UrlError::Scheme { url: url.into(), scheme: scheme.into() }),
            None => url,
        };
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) =
            split_authority(authority).map_err(|problem| UrlError::Host { url: url.into(), problem })?;
        let mut collector = Self {
            version: ExportVersion::V5,
            host,
            port,
            source: None,
            engine_id: None,
            engine_type: None,
            pps: None,
            mtu: None,
        };
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bad = |expected| UrlError::Value {
                url: url.into(),
                key: key.into(),
                value: value.into(),
                expected,
            };
            if seen.contains(&key) {
                return Err(bad("it is given twice"));
            }
            seen.push(key);
            match key {
                "source" => {
                    let address = value.trim_start_matches('[').trim_end_matches(']');
                    collector.source = Some(address.parse().map_err(|_| bad("expected a local IP address"))?);
                }
                "engine_id" => {
                    collector.engine_id = Some(value.parse().map_err(|_| bad("expected 0 to 255"))?)
                }
                "engine_type" => {
                    collector.engine_type = Some(value.parse().map_err(|_| bad("expected 0 to 255"))?);
                }
                "pps" if value == "auto" => collector.pps = None,
                "pps" => {
                    let pps = value.parse().ok().filter(|pps| *pps > 0);
                    collector.pps = Some(
                        pps.ok_or_else(|| bad("expected 'auto' or datagrams a second, 1 to 4294967295"))?,
                    );
                }
                "mtu" => {
                    let mtu = value.parse().ok().filter(|mtu| *mtu >= MIN_MTU);
                    collector.mtu = Some(mtu.ok_or_else(|| bad("expected 576 to 65535 octets"))?);
                }
                _ => return Err(UrlError::Key { url: url.into(), key: key.into() }),
            }
        }
        Ok(collector)
    }
}

fn split_authority(authority: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or("']' is missing")?;
        let address: Ipv6Addr = host.parse().map_err(|_| "what stands in brackets is not an IPv6 address")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err("after ']' only ':PORT' may follow"),
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if port.is_some_and(|port| port.contains(':')) {
            return Err("an IPv6 address needs brackets");
        }
        if host.is_empty() {
            return Err("the host is missing");
        }
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err("the host holds a character that no host name has");
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => {
            port.parse().ok().filter(|port| *port != 0).ok_or("the port is not a number from 1 to 65535")?
        }
    };
    Ok((host, port))
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, host, port, source, engine_id, engine_type, pps, mtu } = self;
        write!(f, "{}://", version.name())?;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")?
        } else {
            write!(f, "{host}:{port}")?
        }
        let options = [
            ("source", source.map(|source| source.to_string())),
            ("engine_id", engine_id.map(|id| id.to_string())),
            ("engine_type", engine_type.map(|kind| kind.to_string())),
            ("pps", pps.map(|pps| pps.to_string())),
            ("mtu", mtu.map(|mtu| mtu.to_string())),
        ];
        let mut separator = '?';
        for (key, value) in options {
            if let Some(value) = value {
                write!(f, "{separator}{key}={value}")?;
                separator = '&';
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form() {
        for (given, canonical) in [
            ("192.0.2.1", "v5://192.0.2.1:2055"),
            ("Flows.Example.net:9995", "v5://flows.example.net:9995"),
            ("v5://10.0.0.1/", "v5://10.0.0.1:2055"),
            ("[2001:DB8::1]", "v5://[2001:db8::1]:2055"),
            ("v5://[::1]:99?pps=auto", "v5://[::1]:99"),
            (
                "v5://h:1?mtu=1400&engine_type=2&pps=500&engine_id=7&source=192.0.2.9",
                "v5://h:1?source=192.0.2.9&engine_id=7&engine_type=2&pps=500&mtu=1400",
            ),
        ] {
            let parsed: CollectorUrl = given.parse().unwrap();
            assert_eq!(parsed.to_string(), canonical);
            assert_eq!(canonical.parse::<CollectorUrl>().unwrap(), parsed);
        }
    }

    #[test]
    fn errors_name_what_is_possible() {
        for (given, expected) in [
            ("ipfix://10.0.0.1", "scheme 'ipfix' is not supported; supported: v5"),
            ("v5://h?domain=1", "unknown option 'domain'"),
            ("h?pps=0", "pps=0 is not possible; expected 'auto' or datagrams a second"),
            ("h?engine_id=256", "expected 0 to 255"),
            ("h?engine_id=1&engine_id=2", "given twice"),
            ("h?mtu=100", "expected 576 to 65535"),
            ("h?source=eth0", "expected a local IP address"),
            ("2001:db8::1", "needs brackets"),
            ("[::1", "']' is missing"),
            ("[::1]9", "only ':PORT'"),
            ("[h]:9", "not an IPv6 address"),
            ("", "the host is missing"),
            (":2055", "the host is missing"),
            ("h:0", "1 to 65535"),
            ("h:99999", "1 to 65535"),
            ("a b", "a character that no host name has"),
        ] {
            let error = given.parse::<CollectorUrl>().unwrap_err().to_string();
            assert!(error.contains(expected), "'{given}' gave: {error}");
            assert!(error.starts_with(&format!("collector '{given}'")), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_survives_its_canonical_form(text in "\\PC{0,40}") {
            if let Ok(url) = text.parse::<CollectorUrl>() {
                proptest::prop_assert_eq!(url.to_string().parse::<CollectorUrl>().unwrap(), url);
            }
        }
    }
}
