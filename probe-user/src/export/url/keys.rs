// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The options of a collector: one table, in the order of the canonical form.

use std::time::Duration;

use super::{Biflow, CollectorUrl, ExportVersion, InterfaceNumbers, SamplingOptions, Transport};
use crate::{
    duration::{format_duration, parse_duration},
    export::{encode::FieldSet, select::Filter},
};

/// Smallest MTU that every IPv4 host must be able to receive (RFC 791 section 3.1).
const MIN_MTU: u16 = 576;
const MIN_REFRESH: Duration = Duration::from_secs(1);
const MAX_REFRESH: Duration = Duration::from_secs(86_400);

type Refusal = String;

/// One option.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// For which collectors it means something.
    pub(super) applies: fn(&CollectorUrl) -> bool,
    pub(super) set: fn(&mut CollectorUrl, &str) -> Result<(), Refusal>,
    /// The value in its canonical form, not yet encoded; `None` if it was not given.
    pub(super) get: fn(&CollectorUrl) -> Option<String>,
}

fn always(_: &CollectorUrl) -> bool {
    true
}

fn has_engine(url: &CollectorUrl) -> bool {
    matches!(url.version, ExportVersion::V5 | ExportVersion::V7)
        || url.interfaces == InterfaceNumbers::EnginePort
}

fn has_templates(url: &CollectorUrl) -> bool {
    url.version.has_templates()
}

fn has_template_resends(url: &CollectorUrl) -> bool {
    url.version.has_templates() && url.transport == Transport::Udp
}

fn is_ipfix(url: &CollectorUrl) -> bool {
    url.version == ExportVersion::Ipfix
}

fn is_v5(url: &CollectorUrl) -> bool {
    url.version == ExportVersion::V5
}

fn is_network(url: &CollectorUrl) -> bool {
    url.transport != Transport::File
}

fn is_tls(url: &CollectorUrl) -> bool {
    url.transport == Transport::Tls
}

fn is_file(url: &CollectorUrl) -> bool {
    url.transport == Transport::File
}

fn set<T>(place: &mut Option<T>, value: Option<T>, expected: &str) -> Result<(), Refusal> {
    *place = Some(value.ok_or(expected)?);
    Ok(())
}

fn text<T: ToString>(value: Option<&T>) -> Option<String> {
    value.map(T::to_string)
}

fn refresh(value: &str) -> Result<Duration, Refusal> {
    let refusal = "expected a time from 1s to 1d, such as 10m";
    parse_duration(value)
        .ok()
        .filter(|time| (MIN_REFRESH..=MAX_REFRESH).contains(time))
        .ok_or_else(|| refusal.to_owned())
}

fn duration_text(value: Option<&Duration>) -> Option<String> {
    value.map(|value| format_duration(*value))
}

fn switch(value: &str) -> Result<bool, Refusal> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

fn switch_text(value: bool) -> String {
    if value { "on" } else { "off" }.to_owned()
}

fn positive(value: &str) -> Option<u32> {
    value.parse().ok().filter(|number| *number > 0)
}

macro_rules! file_key {
    ($name:literal, $field:ident) => {
        Key {
            name: $name,
            applies: is_tls,
            set: |url, value| {
                set(
                    &mut url.$field,
                    Some(value.to_owned()).filter(|v| !v.is_empty()),
                    "expected the path of a PEM file",
                )
            },
            get: |url| url.$field.clone(),
        }
    };
}

/// All of them.
pub(super) static KEYS: &[Key] = &[
    Key {
        name: "source",
        applies: is_network,
        set: |url, value| {
            let address = value.trim_start_matches('[').trim_end_matches(']');
            set(&mut url.source, address.parse().ok(), "expected a local IP address")
        },
        get: |url| text(url.source.as_ref()),
    },
    Key {
        name: "interfaces",
        applies: always,
        set: |url, value| {
            url.interfaces = InterfaceNumbers::named(value).ok_or("expected ifindex or engine-port")?;
            Ok(())
        },
        get: |url| Some(url.interfaces).filter(|n| *n != InterfaceNumbers::default()).map(|n| n.to_string()),
    },
    Key {
        name: "engine_id",
        applies: has_engine,
        set: |url, value| set(&mut url.engine_id, value.parse().ok(), "expected 0 to 255"),
        get: |url| text(url.engine_id.as_ref()),
    },
    Key {
        name: "engine_type",
        applies: is_v5,
        set: |url, value| set(&mut url.engine_type, value.parse().ok(), "expected 0 to 255"),
        get: |url| text(url.engine_type.as_ref()),
    },
    Key {
        name: "domain",
        applies: has_templates,
        set: |url, value| set(&mut url.domain, value.parse().ok(), "expected 0 to 4294967295"),
        get: |url| text(url.domain.as_ref()),
    },
    Key {
        name: "fields",
        applies: has_templates,
        set: |url, value| {
            url.fields = value.parse::<FieldSet>().map_err(|error| error.to_string())?;
            Ok(())
        },
        get: |url| Some(url.fields.to_string()).filter(|_| url.fields != FieldSet::default()),
    },
    Key {
        name: "filter",
        applies: always,
        set: |url, value| {
            url.filter = Some(value.parse::<Filter>().map_err(|error| error.to_string())?);
            Ok(())
        },
        get: |url| text(url.filter.as_ref()),
    },
    Key {
        name: "sampling",
        applies: always,
        set: |url, value| {
            let interval = value.strip_prefix("flow:").unwrap_or(value);
            set(
                &mut url.sampling,
                interval.parse().ok(),
                "expected N or flow:N: the records of one flow in N, 1 to 4294967295",
            )
        },
        get: |url| text(url.sampling.as_ref()),
    },
    Key {
        name: "biflow",
        applies: is_ipfix,
        set: |url, value| {
            url.biflow = Biflow::named(value).ok_or("expected off, on or full")?;
            Ok(())
        },
        get: |url| Some(url.biflow).filter(|biflow| *biflow != Biflow::Off).map(|biflow| biflow.to_string()),
    },
    Key {
        name: "template_refresh",
        applies: has_template_resends,
        set: |url, value| {
            url.template_refresh = Some(refresh(value)?);
            Ok(())
        },
        get: |url| duration_text(url.template_refresh.as_ref()),
    },
    Key {
        name: "template_packets",
        applies: has_template_resends,
        set: |url, value| {
            set(&mut url.template_packets, positive(value), "expected datagrams, 1 to 4294967295")
        },
        get: |url| text(url.template_packets.as_ref()),
    },
    Key {
        name: "options",
        applies: has_templates,
        set: |url, value| {
            url.options = switch(value)?;
            Ok(())
        },
        get: |url| Some(switch_text(url.options)).filter(|_| !url.options),
    },
    Key {
        name: "options_refresh",
        applies: has_templates,
        set: |url, value| {
            url.options_refresh = Some(refresh(value)?);
            Ok(())
        },
        get: |url| duration_text(url.options_refresh.as_ref()),
    },
    Key {
        name: "sampling_options",
        applies: has_templates,
        set: |url, value| {
            url.sampling_options = SamplingOptions::named(value).ok_or("expected compat or psamp")?;
            Ok(())
        },
        get: |url| {
            Some(url.sampling_options).filter(|o| *o != SamplingOptions::default()).map(|o| o.to_string())
        },
    },
    Key {
        name: "v5_sampling_mode_bits",
        applies: is_v5,
        set: |url, value| {
            url.v5_sampling_mode_bits = switch(value)?;
            Ok(())
        },
        get: |url| Some(switch_text(url.v5_sampling_mode_bits)).filter(|_| !url.v5_sampling_mode_bits),
    },
    Key {
        name: "pps",
        applies: is_network,
        set: |url, value| {
            url.pps = match value {
                "auto" => None,
                _ => Some(positive(value).ok_or("expected 'auto' or datagrams a second, 1 to 4294967295")?),
            };
            Ok(())
        },
        get: |url| text(url.pps.as_ref()),
    },
    Key {
        name: "mtu",
        applies: |url| matches!(url.transport, Transport::Udp | Transport::Sctp),
        set: |url, value| {
            let mtu = value.parse().ok().filter(|mtu| *mtu >= MIN_MTU);
            set(&mut url.mtu, mtu, "expected 576 to 65535 octets")
        },
        get: |url| text(url.mtu.as_ref()),
    },
    Key {
        name: "dscp",
        applies: is_network,
        set: |url, value| {
            let dscp = value.parse().ok().filter(|dscp| *dscp < 64);
            set(&mut url.dscp, dscp, "expected 0 to 63")
        },
        get: |url| text(url.dscp.as_ref()),
    },
    file_key!("ca", ca),
    file_key!("cert", cert),
    file_key!("key", key),
    Key {
        name: "server_name",
        applies: is_tls,
        set: |url, value| {
            let name = Some(value.to_owned()).filter(|name| !name.is_empty());
            set(&mut url.server_name, name, "expected the name in the collector's certificate")
        },
        get: |url| url.server_name.clone(),
    },
    Key {
        name: "rotate",
        applies: is_file,
        set: |url, value| {
            url.rotate = Some(refresh(value)?);
            Ok(())
        },
        get: |url| duration_text(url.rotate.as_ref()),
    },
];
