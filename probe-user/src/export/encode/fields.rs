// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fields of v9 and IPFIX records.

use std::{fmt, str::FromStr};

/// Which fields a collector gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct FieldSet(());

/// Why a set of fields was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected 'default'")]
pub struct FieldSetError;

impl FieldSet {
    /// Whether records need MAC addresses, lengths or TTLs, which are metered only if asked for.
    #[must_use]
    pub fn needs_details(&self) -> bool {
        false
    }
}

impl FromStr for FieldSet {
    type Err = FieldSetError;

    fn from_str(text: &str) -> Result<Self, FieldSetError> {
        if text == "default" { Ok(Self::default()) } else { Err(FieldSetError) }
    }
}

impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("default")
    }
}
