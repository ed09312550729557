// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One element of a record, as it was received or will be sent.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Which element: its number, and who gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ElementId {
    /// Private enterprise number; 0 for IANA's own (and for NetFlow v9, whose numbers below 128 are the
    /// same).
    pub enterprise: u32,
    /// Number, without the enterprise bit.
    pub id: u16,
}

impl ElementId {
    /// Enterprise number of RFC 5103: the same element of IANA's, of the reverse direction.
    pub const REVERSE: u32 = 29305;
    /// Stands for the scope types of NetFlow v9 (RFC 3954 section 6.1: 1 system to 5 template), which have
    /// numbers of their own. Nobody has this enterprise number.
    pub const V9_SCOPE: u32 = u32::MAX;

    /// One of IANA's elements.
    #[must_use]
    pub const fn iana(id: u16) -> Self {
        Self { enterprise: 0, id }
    }

    /// The reverse of one of IANA's elements.
    #[must_use]
    pub const fn reverse(id: u16) -> Self {
        Self { enterprise: Self::REVERSE, id }
    }
}

/// A value in host byte order. Times are Unix time.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// unsigned8 to unsigned64, also of reduced size.
    Unsigned(u64),
    /// signed8 to signed64, also of reduced size.
    Signed(i64),
    /// float32 and float64.
    Float(f64),
    /// boolean.
    Boolean(bool),
    /// macAddress.
    Mac([u8; 6]),
    /// ipv4Address.
    Ipv4(Ipv4Addr),
    /// ipv6Address.
    Ipv6(Ipv6Addr),
    /// dateTimeSeconds to dateTimeNanoseconds, in nanoseconds.
    Time(u64),
    /// string; what is no UTF-8 is replaced by U+FFFD.
    String(String),
    /// octetArray, elements that nobody knows, and values of a length that their type does not have.
    Octets(Vec<u8>),
    /// basicList, subTemplateList, subTemplateMultiList (RFC 6313): each entry a record.
    List(Vec<Vec<(ElementId, Value)>>),
}

impl Value {
    /// The number, of an unsigned value.
    #[must_use]
    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            _ => None,
        }
    }

    /// Unix time in nanoseconds, of a time.
    #[must_use]
    pub fn time(&self) -> Option<u64> {
        match self {
            Self::Time(time) => Some(*time),
            _ => None,
        }
    }
}
