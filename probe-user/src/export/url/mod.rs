// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where and how to export: `[SCHEME://]HOST[:PORT][?key=value&…]`, `ipfix+file:///DIRECTORY[?…]`.
//!
//! The table of options is in `keys.rs`: a new one is one entry there and one field here.

mod authority;
mod error;
mod keys;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr, num::NonZeroU32, str::FromStr, time::Duration};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::values::{Biflow, ExportVersion, InterfaceNumbers, SamplingOptions, Transport};
pub use error::UrlError;

use super::{encode::FieldSet, select::Filter};
use keys::KEYS;

/// What separates options, and what a shell or a list of collectors would split at.
const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');
/// In a path, also what begins the options.
const ESCAPED_PATH: &AsciiSet = &ESCAPED.add(b'?');

/// One collector, as given with `--collector`. `Display` gives the canonical form, with the port and
/// the given options in a fixed order: the name of the collector in metrics and ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CollectorUrl {
    /// Protocol.
    pub version: ExportVersion,
    /// How messages travel.
    pub transport: Transport,
    /// Name or address, IPv6 without brackets; for files the directory.
    pub host: String,
    /// Port; 0 for files.
    pub port: u16,
    /// Local address to send from.
    pub source: Option<IpAddr>,
    /// What stands in the fields for interfaces.
    pub interfaces: InterfaceNumbers,
    /// Engine id of the first interface, instead of the probe's own setting.
    pub engine_id: Option<u8>,
    /// Engine type, instead of the probe's own setting.
    pub engine_type: Option<u8>,
    /// Observation domain or source id of the first interface, instead of the probe's own setting.
    pub domain: Option<u32>,
    /// Fields of v9 and IPFIX records.
    pub fields: FieldSet,
    /// Which records it gets; none: all.
    pub filter: Option<Filter>,
    /// It gets the records of one flow in so many.
    pub sampling: Option<NonZeroU32>,
    /// Both directions in one record.
    pub biflow: Biflow,
    /// Templates are sent again after this time.
    pub template_refresh: Option<Duration>,
    /// Templates are sent again after so many datagrams.
    pub template_packets: Option<u32>,
    /// Whether options (statistics, sampling, interfaces) are sent.
    pub options: bool,
    /// Options are sent again after this time.
    pub options_refresh: Option<Duration>,
    /// Which elements tell of sampling.
    pub sampling_options: SamplingOptions,
    /// Whether the mode stands in the two upper bits of the v5 header's sampling field.
    pub v5_sampling_mode_bits: bool,
    /// Most datagrams a second; none: as fast as bursts allow to be smoothed.
    pub pps: Option<u32>,
    /// Largest IP packet on the way to the collector, in octets.
    pub mtu: Option<u16>,
    /// Differentiated services code point of the packets.
    pub dscp: Option<u8>,
    /// PEM file of the authorities that the collector's certificate is checked against.
    pub ca: Option<String>,
    /// PEM file of our certificate.
    pub cert: Option<String>,
    /// PEM file of our private key.
    pub key: Option<String>,
    /// Name that the collector's certificate must have, if not the host.
    pub server_name: Option<String>,
    /// Time that one file covers.
    pub rotate: Option<Duration>,
}

impl CollectorUrl {
    /// A collector with default options.
    fn new(version: ExportVersion, transport: Transport) -> Self {
        Self {
            version,
            transport,
            host: String::new(),
            port: 0,
            source: None,
            interfaces: InterfaceNumbers::default(),
            engine_id: None,
            engine_type: None,
            domain: None,
            fields: FieldSet::default(),
            filter: None,
            sampling: None,
            biflow: Biflow::default(),
            template_refresh: None,
            template_packets: None,
            options: true,
            options_refresh: None,
            sampling_options: SamplingOptions::default(),
            v5_sampling_mode_bits: true,
            pps: None,
            mtu: None,
            dscp: None,
            ca: None,
            cert: None,
            key: None,
            server_name: None,
            rotate: None,
        }
    }

    /// What stands before `://`.
    #[must_use]
    pub fn scheme(&self) -> String {
        format!("{}{}", self.version.name(), self.transport.suffix())
    }

    fn default_port(&self) -> u16 {
        match (self.version, self.transport) {
            (ExportVersion::Ipfix, Transport::Tls) => 4740,
            (ExportVersion::Ipfix, _) => 4739,
            _ => 2055,
        }
    }

    fn set_options(&mut self, url: &str, query: &str) -> Result<(), UrlError> {
        // Which keys mean something may depend on another one, whatever their order.
        let mut pairs: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        pairs.sort_by_key(|(key, _)| KEYS.iter().position(|known| known.name == *key));
        let mut before = None;
        for (key, value) in pairs {
            let bad = |expected: String| UrlError::Value {
                url: url.into(),
                key: key.into(),
                value: value.into(),
                expected,
            };
            if before.replace(key) == Some(key) {
                return Err(bad("it is given twice".to_owned()));
            }
            let Some(known) = KEYS.iter().find(|known| known.name == key && (known.applies)(self)) else {
                let known: Vec<_> =
                    KEYS.iter().filter(|known| (known.applies)(self)).map(|known| known.name).collect();
                return Err(UrlError::Key {
                    url: url.into(),
                    key: key.into(),
                    scheme: self.scheme(),
                    known: known.join(", "),
                });
            };
            let plain = value.replace('+', " ");
            let plain = percent_decode_str(&plain)
                .decode_utf8()
                .map_err(|_| bad("what the % signs stand for is no UTF-8".to_owned()))?;
            (known.set)(self, &plain).map_err(bad)?;
        }
        Ok(())
    }
}

fn scheme(name: &str) -> Option<(ExportVersion, Transport)> {
    use ExportVersion::{Ipfix, V1, V5, V7, V9};
    for version in [V1, V5, V7, V9] {
        if version.name() == name {
            return Some((version, Transport::Udp));
        }
    }
    let suffix = name.strip_prefix(Ipfix.name())?;
    Transport::ALL.into_iter().find(|transport| transport.suffix() == suffix).map(|found| (Ipfix, found))
}

impl FromStr for CollectorUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let (name, rest) = url.split_once("://").unwrap_or(("v5", url));
        let (version, transport) =
            scheme(name).ok_or_else(|| UrlError::Scheme { url: url.into(), scheme: name.into() })?;
        let mut collector = Self::new(version, transport);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if transport == Transport::File {
            let path = percent_decode_str(place)
                .decode_utf8()
                .map_err(|_| UrlError::Path { url: url.into(), problem: "the path is no UTF-8" })?;
            if !path.starts_with('/') {
                let problem = "the directory must be absolute";
                return Err(UrlError::Path { url: url.into(), problem });
            }
            collector.host = path.into_owned();
        } else {
            let place = place.strip_suffix('/').unwrap_or(place);
            (collector.host, collector.port) = authority::split(place, collector.default_port())
                .map_err(|problem| UrlError::Host { url: url.into(), problem })?;
        }
        collector.set_options(url, query)?;
        Ok(collector)
    }
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        if self.transport == Transport::File {
            write!(f, "{}", utf8_percent_encode(&self.host, ESCAPED_PATH))?;
        } else if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        let mut separator = '?';
        for key in KEYS {
            if let Some(value) = (key.get)(self) {
                let value = utf8_percent_encode(&value, ESCAPED).to_string().replace("%20", "+");
                write!(f, "{separator}{}={value}", key.name)?;
                separator = '&';
            }
        }
        Ok(())
    }
}
