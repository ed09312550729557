// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was not decoded, and why: one counter for each reason.

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Fewer octets than a header.
    #[error("shorter than its header")]
    Truncated,
    /// No version that is known.
    #[error("version {0} is none of NetFlow v1, v5, v7, v9 and IPFIX (10)")]
    Version(u16),
    /// The header counts none, or too many.
    #[error("its header counts {0} records: none, or more than its version allows")]
    Count(u16),
    /// The length is not what the header says.
    #[error("its length is not what its header says")]
    Length,
    /// A second with more than 10^9 nanoseconds.
    #[error("its clock is not a time")]
    Clock,
}

impl Malformed {
    /// Names of the reasons, in the order of [`Malformed::index`].
    pub const NAMES: [&'static str; 5] = ["truncated", "unsupported_version", "count", "length", "clock"];

    /// Place of the reason in a table of counters.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Truncated => 0,
            Self::Version(_) => 1,
            Self::Count(_) => 2,
            Self::Length => 3,
            Self::Clock => 4,
        }
    }
}

/// Why a part of a message was not taken; the rest was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// A set is shorter than its header or longer than its message.
    SetLength,
    /// A set number that RFC 3954 and RFC 7011 keep for later.
    ReservedSet,
    /// Data before their template.
    NoTemplate,
    /// A template that ends early, or has a reserved number.
    Template,
    /// A template of more fields than are remembered.
    TemplateTooLarge,
    /// A template whose records would have no octets.
    EmptyRecord,
    /// A record that ends within a field.
    RecordLength,
    /// A list (RFC 6313) that contradicts its length or nests too deep; its octets are given as they are.
    List,
    /// A template withdrawn over UDP, where that has no meaning (RFC 7011 section 8.4).
    WithdrawalOverUdp,
    /// A template withdrawn that was not there (RFC 7011 section 8.1).
    WithdrawalUnknown,
    /// A template that changed without having been withdrawn first, over a stream (RFC 7011 section 8).
    TemplateChanged,
    /// Octets behind the end of a message.
    Trailing,
    /// A template forgotten because its exporter had too many.
    TemplateEvicted,
    /// All templates of the exporter that was silent longest, forgotten to make room.
    SessionEvicted,
}

impl Defect {
    /// Names of the reasons, in the order in which they are declared.
    pub const NAMES: [&'static str; 14] = [
        "set_length",
        "reserved_set",
        "no_template",
        "template",
        "template_too_large",
        "empty_record",
        "record_length",
        "list",
        "withdrawal_over_udp",
        "withdrawal_unknown",
        "template_changed",
        "trailing",
        "template_evicted",
        "session_evicted",
    ];
}

/// How often each [`Defect`] was met.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Defects([u64; Defect::NAMES.len()]);

impl Defects {
    /// How often this one was met.
    #[must_use]
    pub fn get(&self, defect: Defect) -> u64 {
        self.0[defect as usize]
    }

    /// Names and counts of those that were met.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Defect::NAMES.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    pub(super) fn note(&mut self, defect: Defect) {
        self.0[defect as usize] += 1;
    }
}
