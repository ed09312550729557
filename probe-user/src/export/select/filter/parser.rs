// SPDX-License-Identifier: Apache-2.0 OR MIT
//! tokens → expression, by recursive descent: `or` binds less than `and`, `and` less than `not`.

use std::net::IpAddr;

use probe_common::{Direction, IpVersion};

use super::{
    FilterError, MAX_DEPTH, MAX_OCTETS,
    expression::Expression,
    lexer::{Token, tokens},
    term::{Comparison, FLAGS, Network, PROTOCOLS, Quantity, Side, Term, WAYS},
};
use crate::duration::parse_duration;

const KNOWN: &str = "known are any, ip, ip6, host, net, port (each of them also after src or dst), proto, tcp, udp, \
    icmp, icmp6, sctp, vlan, if (also after in or out), dir, tos, flags, packets, octets, bytes, duration, not and ( )";

/// Protocols that may stand without `proto`.
const BARE_PROTOCOLS: [&str; 5] = ["tcp", "udp", "icmp", "icmp6", "sctp"];

/// Reads a whole filter.
pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    let expression = read(text)?;
    let canonical = expression.to_string();
    // It may be longer and have more brackets than what was given.
    if canonical != text && read(&canonical).as_ref() != Ok(&expression) {
        let expected = "the filter is too long or nested too deeply when written out";
        return Err(FilterError::new(text, 1, expected));
    }
    Ok(expression)
}

fn read(text: &str) -> Result<Expression, FilterError> {
    if text.len() > MAX_OCTETS {
        let start: String = text.chars().take(10).collect();
        return Err(FilterError::new(&start, 1, format!("a filter has at most {MAX_OCTETS} octets")));
    }
    let mut parser = Parser { tokens: tokens(text), next: 0, depth: 0 };
    let expression = parser.alternatives()?;
    match parser.peek() {
        Token { text: "", .. } => Ok(expression),
        token => Err(refuse(token, "expected and, or, or the end")),
    }
}

fn refuse(token: Token<'_>, expected: impl Into<String>) -> FilterError {
    FilterError::new(token.text, token.at, expected)
}

struct Parser<'a> {
    /// The last one is empty.
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.next).or(self.tokens.last()).copied().unwrap_or(Token { text: "", at: 1 })
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn accept(&mut self, words: &[&str]) -> bool {
        let found = words.iter().any(|word| self.peek().is(word));
        self.next += usize::from(found);
        found
    }

    fn alternatives(&mut self) -> Result<Expression, FilterError> {
        let mut parts = vec![self.conditions()?];
        while self.accept(&["or", "||"]) {
            parts.push(self.conditions()?);
        }
        Ok(Expression::any(parts))
    }

    fn conditions(&mut self) -> Result<Expression, FilterError> {
        let mut parts = vec![self.condition()?];
        while self.accept(&["and", "&&"]) {
            parts.push(self.condition()?);
        }
        Ok(Expression::all(parts))
    }

    fn condition(&mut self) -> Result<Expression, FilterError> {
        let token = self.peek();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(refuse(token, format!("a filter has at most {MAX_DEPTH} levels of ( ) and not")));
        }
        let expression = if self.accept(&["not", "!"]) {
            Expression::not(self.condition()?)
        } else if self.accept(&["("]) {
            let inner = self.alternatives()?;
            if !self.accept(&[")"]) {
                return Err(refuse(
                    self.peek(),
                    format!("expected and, or, or the ) for character {}", token.at),
                ));
            }
            inner
        } else {
            self.term()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn term(&mut self) -> Result<Expression, FilterError> {
        let token = self.take();
        if let Some(name) = BARE_PROTOCOLS.into_iter().find(|name| token.is(name)) {
            let protocol = Expression::Term(Term::Protocol(protocol(name).unwrap_or(0)));
            // As in "tcp dst port 80".
            let goes_on = ["src", "dst", "host", "net", "port"].iter().any(|word| self.peek().is(word));
            return Ok(if goes_on { Expression::all(vec![protocol, self.term()?]) } else { protocol });
        }
        if let Some((_, quantity)) = Quantity::NAMES.into_iter().find(|(name, _)| token.is(name)) {
            return self.quantity(quantity).map(Expression::Term);
        }
        let word = token.text.to_ascii_lowercase();
        let term = match word.as_str() {
            "any" => Term::Anything,
            "ip" | "ipv4" => Term::Version(IpVersion::V4),
            "ip6" | "ipv6" => Term::Version(IpVersion::V6),
            "src" => self.end(Side::Source)?,
            "dst" => self.end(Side::Destination)?,
            "host" | "net" | "port" => {
                self.next -= 1;
                self.end(Side::Either)?
            }
            "proto" => self.protocol()?,
            "vlan" => Term::Vlan(self.number(0xfff, "a VLAN id, 0 to 4095")?),
            "if" => self.interface(None)?,
            "in" | "out" if self.peek().is("if") => {
                self.take();
                self.interface(way(&word))?
            }
            "in" | "out" => {
                return Err(refuse(self.peek(), format!("expected if, as in {word} if 3; or dir {word}")));
            }
            "dir" => self.direction()?,
            "tos" => Term::Tos(self.number(0xff, "a type of service, 0 to 255 or 0x00 to 0xff")?),
            "flags" => self.flags()?,
            _ => return Err(refuse(token, format!("expected a test; {KNOWN}"))),
        };
        Ok(Expression::Term(term))
    }

    /// `host`, `net`, `port` with what follows; or an address alone.
    fn end(&mut self, side: Side) -> Result<Term, FilterError> {
        let word = self.take();
        if word.is("port") {
            return self.ports(side);
        }
        let is_host = word.is("host") || word.is("ip");
        let is_named = is_host || word.is("net");
        let value = if is_named { self.take() } else { word };
        let network = match value.text.split_once('/') {
            Some((address, length)) if !is_host => address
                .parse()
                .ok()
                .zip(length.parse().ok().filter(|_| decimal(length)))
                .and_then(|(address, length)| Network::new(address, length)),
            None if is_host || !is_named => value.text.parse::<IpAddr>().ok().and_then(Network::host),
            _ => None,
        };
        network.map(|network| Term::Network(side, network)).ok_or_else(|| {
            refuse(
                value,
                if is_host {
                    "expected an IPv4 or IPv6 address; names are not looked up"
                } else if is_named {
                    "expected an address and the bits of its prefix, as in 192.0.2.0/24 or 2001:db8::/32"
                } else {
                    "expected host, net, port or an address"
                },
            )
        })
    }

    fn ports(&mut self, side: Side) -> Result<Term, FilterError> {
        let token = self.take();
        let port = |text: &str| text.parse::<u16>().ok().filter(|_| decimal(text));
        let (first, last) = token.text.split_once('-').unwrap_or((token.text, token.text));
        match port(first).zip(port(last)) {
            Some((first, last)) if first <= last => Ok(Term::Ports(side, first, last)),
            _ => Err(refuse(token, "expected a port, 0 to 65535, or a range such as 6000-6063")),
        }
    }

    fn protocol(&mut self) -> Result<Term, FilterError> {
        let token = self.take();
        let number = token.text.parse().ok().filter(|_| decimal(token.text));
        protocol(&token.text.to_ascii_lowercase()).or(number).map(Term::Protocol).ok_or_else(|| {
            let names = PROTOCOLS.map(|(name, _)| name).join(", ");
            refuse(token, format!("expected a protocol number, 0 to 255, or one of {names}"))
        })
    }

    fn interface(&mut self, way: Option<Direction>) -> Result<Term, FilterError> {
        self.number(u64::from(u32::MAX), "an ifIndex (see: ip link)").map(|index| Term::Interface(way, index))
    }

    fn direction(&mut self) -> Result<Term, FilterError> {
        let token = self.take();
        way(&token.text.to_ascii_lowercase())
            .map(Term::Direction)
            .ok_or_else(|| refuse(token, "expected in or out"))
    }

    fn number<T: TryFrom<u64>>(&mut self, largest: u64, expected: &str) -> Result<T, FilterError> {
        let token = self.take();
        let number = match token.text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')),
            None => token.text.parse().ok().filter(|_| decimal(token.text)),
        };
        number
            .filter(|number| *number <= largest)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| refuse(token, format!("expected {expected}")))
    }

    fn flags(&mut self) -> Result<Term, FilterError> {
        let token = self.take();
        let (set, mask) = token.text.split_once('/').unwrap_or((token.text, token.text));
        match flags(set).zip(flags(mask)) {
            Some((set, mask)) if mask != 0 && set & !mask == 0 => Ok(Term::Flags { set, mask }),
            _ => Err(refuse(
                token,
                "expected TCP flags, as letters of FSRPAUECN or names with commas (SYN,ACK), or SET/OF such as S/SA \
                 or 0/S: of the flags behind the slash exactly those before it",
            )),
        }
    }

    fn quantity(&mut self, quantity: Quantity) -> Result<Term, FilterError> {
        let sign = self.take();
        let Some((_, comparison)) = Comparison::NAMES.into_iter().find(|(name, _)| sign.text == *name) else {
            return Err(refuse(sign, "expected one of > >= < <= = !="));
        };
        let token = self.take();
        let value = match quantity {
            Quantity::Duration => parse_duration(token.text)
                .ok()
                .and_then(|duration| u64::try_from(duration.as_nanos()).ok())
                .ok_or_else(|| {
                    refuse(token, "expected a duration with its unit (ms s m h d), such as 500ms")
                })?,
            _ => scaled(token.text).ok_or_else(|| {
                refuse(token, "expected a number, also with k, m or g (thousands), such as 10k")
            })?,
        };
        Ok(Term::Quantity(quantity, comparison, value))
    }
}

/// Digits alone: `u16::from_str` would also take a sign.
fn decimal(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit())
}

fn protocol(name: &str) -> Option<u8> {
    let name = if matches!(name, "icmpv6" | "ipv6-icmp") { "icmp6" } else { name };
    PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn way(name: &str) -> Option<Direction> {
    WAYS.iter().find(|(known, _)| *known == name).map(|(_, way)| *way)
}

fn scaled(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok().filter(|_| decimal(digits))?.checked_mul(factor)
}

/// Names separated by commas, or letters; `0` for none.
fn flags(text: &str) -> Option<u16> {
    let text = text.to_ascii_uppercase();
    if text == "0" {
        return Some(0);
    }
    text.split(',').try_fold(0, |flags, part| {
        let named = FLAGS.iter().find(|(_, name, _)| *name == part).map(|(.., bit)| *bit);
        let bits = named.or_else(|| letters(part))?;
        Some(flags | bits)
    })
}

fn letters(text: &str) -> Option<u16> {
    let bit = |letter| FLAGS.iter().find(|(known, ..)| *known == letter).map(|(.., bit)| *bit);
    let bits = text.chars().try_fold(0, |bits, letter| Some(bits | bit(letter)?))?;
    (bits != 0).then_some(bits)
}
