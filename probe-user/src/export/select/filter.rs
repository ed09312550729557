// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Filter expressions over flow records.

use std::{fmt, str::FromStr};

use crate::flow::FlowRecord;

/// A filter. Two are equal if their canonical texts are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter(String);

/// Why a filter was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected 'any'")]
pub struct FilterError;

impl Filter {
    /// Whether the record passes.
    #[must_use]
    pub fn matches(&self, _record: &FlowRecord) -> bool {
        true
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text == "any" { Ok(Self(text.to_owned())) } else { Err(FilterError) }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
