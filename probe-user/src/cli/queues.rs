// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `--queues`: which receive queues get an AF_XDP socket.

use std::{fmt, str::FromStr};

use super::number_list::{format_list, parse_list};

/// Most queues that can be named: more than any NIC has.
const MOST: u16 = 1024;

/// Which receive queues of each interface get an AF_XDP socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Queues {
    /// All that the interface uses.
    Auto,
    /// The first so many.
    First(u16),
    /// These.
    These(Vec<u16>),
}

impl Queues {
    /// The queues to serve of an interface that receives on `count` queues, in order.
    ///
    /// # Errors
    /// The first queue that was asked for and is not there.
    pub fn choose(&self, count: u32) -> Result<Vec<u32>, u32> {
        let wanted: Vec<u32> = match self {
            Self::Auto => (0..count).collect(),
            Self::First(first) => (0..u32::from(*first)).collect(),
            Self::These(queues) => queues.iter().map(|queue| u32::from(*queue)).collect(),
        };
        match wanted.iter().find(|queue| **queue >= count) {
            Some(missing) => Err(*missing),
            None => Ok(wanted),
        }
    }
}

impl FromStr for Queues {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "allowed are auto, how many (such as 4: queues 0 to 3; 1 to {MOST}), or which (such as 0,2 or 4-7; \
                 one alone is 2-2)"
            )
        };
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let numbers = parse_list(text).ok_or_else(refused)?;
        match numbers[..] {
            [count] if !text.contains('-') => match count {
                1..=MOST => Ok(Self::First(count)),
                _ => Err(refused()),
            },
            _ if numbers.iter().any(|queue| *queue >= MOST) => Err(refused()),
            _ => Ok(Self::These(numbers)),
        }
    }
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::First(count) => count.fmt(f),
            // Alone it would read as how many.
            Self::These(queues) => match queues[..] {
                [queue] => write!(f, "{queue}-{queue}"),
                _ => f.write_str(&format_list(queues)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_how_many_and_which_and_shows_them_in_the_same_form() {
        for (text, queues) in [
            ("auto", Queues::Auto),
            ("4", Queues::First(4)),
            ("0,2", Queues::These(vec![0, 2])),
            ("4-7", Queues::These(vec![4, 5, 6, 7])),
            ("2-2", Queues::These(vec![2])),
        ] {
            assert_eq!(text.parse(), Ok(queues.clone()), "{text}");
            assert_eq!(queues.to_string(), text);
        }
        for text in ["", "0", "-1", "1025", "0-1024", "all", "1,1"] {
            assert!(text.parse::<Queues>().is_err(), "{text}");
        }
    }

    #[test]
    fn chooses_among_the_queues_that_are_there() {
        assert_eq!(Queues::Auto.choose(2), Ok(vec![0, 1]));
        assert_eq!(Queues::First(2).choose(4), Ok(vec![0, 1]));
        assert_eq!(Queues::First(4).choose(2), Err(2));
        assert_eq!(Queues::These(vec![3, 1]).choose(4), Ok(vec![3, 1]));
        assert_eq!(Queues::These(vec![1, 9]).choose(4), Err(9));
    }
}
