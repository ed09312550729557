// SPDX-License-Identifier: Apache-2.0 OR MIT
//! text → tokens.

/// Longest first, so that `<=` is not taken for `<`.
const OPERATORS: [&str; 12] = ["&&", "||", "<=", ">=", "==", "!=", "<", ">", "=", "!", "(", ")"];

/// A word or an operator, and where it begins: a character counted from 1. Empty at the end of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl Token<'_> {
    /// Whether it is that word, in capitals or not.
    pub(super) fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }
}

/// All of them, and one without text that marks the end.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut at) = (text, 1);
    loop {
        let trimmed = rest.trim_start();
        at += rest[..rest.len() - trimmed.len()].chars().count();
        rest = trimmed;
        let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
        let end = operator.map_or_else(|| word_end(rest), |operator| operator.len());
        let (token, after) = rest.split_at(end);
        tokens.push(Token { text: token, at });
        if token.is_empty() {
            return tokens;
        }
        at += token.chars().count();
        rest = after;
    }
}

fn word_end(text: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '!' | '<' | '>' | '=' | '&' | '|');
    // A single '&' or '|' is a word of its own, which nothing expects.
    let first = text.chars().next().map_or(0, char::len_utf8);
    if text.starts_with(ends) { first } else { text.find(ends).unwrap_or(text.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_operators_with_their_places() {
        let found: Vec<_> =
            tokens(" packets>=10&&(not\tü|x) ").iter().map(|token| (token.text, token.at)).collect();
        let expected = [
            ("packets", 2),
            (">=", 9),
            ("10", 11),
            ("&&", 13),
            ("(", 15),
            ("not", 16),
            ("ü", 20),
            ("|", 21),
            ("x", 22),
            (")", 23),
            ("", 25),
        ];
        assert_eq!(found, expected);
    }
}
