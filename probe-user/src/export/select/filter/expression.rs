// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a filter says, as a tree in one normal form, so that its text reads back as the same tree.

use std::fmt;

use super::term::Term;

/// A term, or terms joined. `All` and `Any` have at least two parts, none of their own kind; `Not` holds no
/// `Not`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Expression {
    Term(Term),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Expression {
    /// `part and part and …`; there is at least one.
    pub(super) fn all(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::All(parts) => parts,
            other => vec![other],
        });
        Self::one_or(flat.collect(), Self::All)
    }

    /// `part or part or …`; there is at least one.
    pub(super) fn any(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::Any(parts) => parts,
            other => vec![other],
        });
        Self::one_or(flat.collect(), Self::Any)
    }

    fn one_or(mut parts: Vec<Self>, join: fn(Vec<Self>) -> Self) -> Self {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            Some(last) => {
                parts.push(last);
                join(parts)
            }
            None => Self::Term(Term::Anything),
        }
    }

    /// `not part`.
    pub(super) fn not(part: Self) -> Self {
        match part {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    fn joined(
        f: &mut fmt::Formatter<'_>,
        parts: &[Self],
        word: &str,
        in_brackets: fn(&Self) -> bool,
    ) -> fmt::Result {
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                write!(f, " {word} ")?;
            }
            if in_brackets(part) { write!(f, "({part})")? } else { write!(f, "{part}")? }
        }
        Ok(())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term(term) => write!(f, "{term}"),
            Self::Not(part) => match **part {
                Self::Term(_) => write!(f, "not {part}"),
                _ => write!(f, "not ({part})"),
            },
            Self::All(parts) => Self::joined(f, parts, "and", |part| matches!(part, Self::Any(_))),
            Self::Any(parts) => Self::joined(f, parts, "or", |_| false),
        }
    }
}
