// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a filter was not understood.

use std::fmt;

/// Says where, and what is possible there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterError {
    /// What stands there; nothing at the end of the text.
    found: String,
    /// Character, counted from 1.
    at: usize,
    /// What is possible.
    expected: String,
}

/// Characters of a misunderstood word that are shown.
const SHOWN: usize = 40;

impl FilterError {
    pub(super) fn new(found: &str, at: usize, expected: impl Into<String>) -> Self {
        Self { found: found.chars().take(SHOWN).collect(), at, expected: expected.into() }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, at, expected } = self;
        if found.is_empty() {
            write!(f, "at the end (character {at}): {expected}")
        } else {
            write!(f, "at '{found}' (character {at}): {expected}")
        }
    }
}

impl std::error::Error for FilterError {}
