// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The flat form of an expression: terms, each with the place to go on at if it holds and if not.
//!
//! Steps are written from the last to the first, so that every step points to earlier places of the list:
//! evaluation begins at its end and comes to a verdict in at most as many steps as there are terms.

use super::{expression::Expression, term::Term};
use crate::flow::FlowRecord;

/// Verdicts; greater labels are steps.
const REJECT: usize = 0;
const ACCEPT: usize = 1;
const FIRST_STEP: usize = 2;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Step {
    term: Term,
    holds: usize,
    fails: usize,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Program {
    steps: Vec<Step>,
}

impl Program {
    pub(super) fn new(expression: &Expression) -> Self {
        let mut program = Self { steps: Vec::new() };
        program.append(expression, ACCEPT, REJECT);
        program
    }

    /// Appends the steps of an expression; returns the label of the one to begin with.
    fn append(&mut self, expression: &Expression, holds: usize, fails: usize) -> usize {
        match expression {
            Expression::Term(term) => {
                self.steps.push(Step { term: *term, holds, fails });
                FIRST_STEP + self.steps.len() - 1
            }
            Expression::Not(part) => self.append(part, fails, holds),
            Expression::All(parts) => {
                parts.iter().rev().fold(holds, |holds, part| self.append(part, holds, fails))
            }
            Expression::Any(parts) => {
                parts.iter().rev().fold(fails, |fails, part| self.append(part, holds, fails))
            }
        }
    }

    #[inline]
    pub(super) fn accepts(&self, record: &FlowRecord) -> bool {
        let mut label = FIRST_STEP + self.steps.len() - 1;
        while let Some(step) = label.checked_sub(FIRST_STEP).and_then(|place| self.steps.get(place)) {
            label = if step.term.holds(record) { step.holds } else { step.fails };
        }
        label == ACCEPT
    }
}
