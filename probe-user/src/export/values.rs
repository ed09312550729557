// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The words in which a collector says what it wants: what encoders, transports and URLs share.

use std::fmt;

/// Export protocols.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExportVersion {
    /// NetFlow version 1.
    V1,
    /// NetFlow version 5.
    V5,
    /// NetFlow version 7.
    V7,
    /// NetFlow version 9 (RFC 3954).
    V9,
    /// IPFIX (RFC 7011).
    Ipfix,
}

impl ExportVersion {
    /// Scheme of the URL, value of the `version` label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V5 => "v5",
            Self::V7 => "v7",
            Self::V9 => "v9",
            Self::Ipfix => "ipfix",
        }
    }

    /// Whether templates describe the records.
    #[must_use]
    pub fn has_templates(self) -> bool {
        matches!(self, Self::V9 | Self::Ipfix)
    }
}

/// How messages travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A TCP connection.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// An SCTP association.
    Sctp,
    /// Files (RFC 5655).
    File,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Sctp, Self::File];

    /// What stands behind the version in the scheme.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Udp => "",
            Self::Tcp => "+tcp",
            Self::Tls => "+tls",
            Self::Sctp => "+sctp",
            Self::File => "+file",
        }
    }

    /// Whether messages arrive in order and whole, in sessions that begin with the templates.
    #[must_use]
    pub fn has_sessions(self) -> bool {
        self != Self::Udp
    }
}

/// How a collector is told of sampling.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum SamplingOptions {
    /// Element 34: what collectors in use understand.
    #[default]
    Compat,
    /// Selector elements (RFC 5477): 302, 304, 305 and 306, 309 and 310, or 311; in v9 48 to 50.
    Psamp,
}

/// Both directions of a conversation in one record (RFC 5103).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Biflow {
    /// Each direction in a record of its own.
    #[default]
    Off,
    /// Reverse packets and octets only: what collectors that know little of RFC 5103 survive.
    Counters,
    /// Reverse times, TCP flags, class of service and end reason as well.
    Full,
}

/// What stands in the fields for interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum InterfaceNumbers {
    /// The kernel's ifIndex.
    #[default]
    IfIndex,
    /// 7 bits of engine id, then 9 bits of ifIndex, as virtual switches sent them.
    EnginePort,
}

macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),* }) => {
        impl $type {
            /// The value of that name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $name,)*
                })
            }
        }
    };
}

names!(SamplingOptions { Compat = "compat", Psamp = "psamp" });
names!(Biflow { Off = "off", Counters = "on", Full = "full" });
names!(InterfaceNumbers { IfIndex = "ifindex", EnginePort = "engine-port" });
