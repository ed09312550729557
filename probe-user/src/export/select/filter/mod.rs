// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Filter expressions over flow records: `src net 10.0.0.0/8 and (dst port 53 or 443) …`.
//!
//! text ─lexer→ tokens ─parser→ [`Expression`] ─program→ a flat list of steps, which is what a record meets.

mod error;
mod expression;
mod lexer;
mod parser;
mod program;
mod term;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

pub use error::FilterError;
use expression::Expression;
use program::Program;

use crate::flow::FlowRecord;

/// Octets of the longest filter that is read.
const MAX_OCTETS: usize = 4096;
/// Deepest nesting of `( )` and `not` that is read.
const MAX_DEPTH: usize = 32;

/// A filter. `Display` gives its canonical text, which reads back as an equal filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    expression: Expression,
    program: Program,
}

impl Filter {
    /// Whether the record passes.
    #[inline]
    #[must_use]
    pub fn matches(&self, record: &FlowRecord) -> bool {
        self.program.accepts(record)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let expression = parser::parse(text)?;
        let program = Program::new(&expression);
        Ok(Self { expression, program })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.fmt(f)
    }
}
