// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The named packets of `common/vectors/`, and what the parser must make of each.
//!
//! A file is a sentence, then the frame in hex (a comment after `#` says which header), then the answer:
//! either `outcome: NAME`, or the fields of the key, the octets of the IP packet and of its `headers`, and what else was
//! read; `fragment: ID OFFSET more|last`, the offset in units of 8 octets. What is left out is zero; `headers` may not be. The MAC addresses are those of the frame. `zeros: N` appends N octets to the frame.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use probe_common::parse::{Fragment, ParsedPacket};
use probe_common::{Detail, FlowKey, Note, Outcome};

/// One named packet.
#[derive(Clone, Debug)]
pub struct Vector {
    /// File name without its extension.
    pub name: String,
    /// What the packet shows.
    pub sentence: String,
    /// The whole frame, from the Ethernet header.
    pub frame: Vec<u8>,
    /// What the parser must say.
    pub expected: Result<ParsedPacket, Outcome>,
}

/// All vectors, sorted by name.
///
/// # Errors
/// When the folder or a file cannot be read or understood; the message names the file and the line.
pub fn all() -> Result<Vec<Vector>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../common/vectors");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut vectors = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        vectors.push(read(name, &text).with_context(|| format!("in {}", path.display()))?);
    }
    ensure!(!vectors.is_empty(), "no vectors in {}", folder.display());
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(vectors)
}

/// Reads the text of one vector.
///
/// # Errors
/// When a line cannot be understood or the answer is incomplete; the message names the line.
pub fn read(name: &str, text: &str) -> Result<Vector> {
    let mut lines = text.lines();
    let sentence = lines.next().context("empty file: the first line says what the packet shows")?;
    let mut frame = Vec::new();
    let mut answer = Answer::default();
    for line in lines {
        let content = line.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let result = match content.split_once(": ") {
            Some(("zeros", count)) => number(count).map(|count: usize| frame.resize(frame.len() + count, 0)),
            Some((field, value)) => answer.set(field, value),
            None => hex(content, &mut frame),
        };
        result.with_context(|| format!("line '{line}'"))?;
    }
    Ok(Vector { name: name.into(), sentence: sentence.into(), expected: answer.finish(&frame)?, frame })
}

fn hex(line: &str, frame: &mut Vec<u8>) -> Result<()> {
    for octet in line.split_ascii_whitespace() {
        frame.push(u8::from_str_radix(octet, 16).with_context(|| format!("'{octet}' is no octet in hex"))?);
    }
    Ok(())
}

/// A number, in hex after `0x`.
fn number<T: TryFrom<u64>>(text: &str) -> Result<T> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let value = value.with_context(|| format!("'{text}' is no number"))?;
    T::try_from(value).ok().with_context(|| format!("{value} is too large"))
}

/// `ID OFFSET more|last`.
fn fragment(text: &str) -> Result<Fragment> {
    let mut words = text.split(' ');
    let (Some(identification), Some(offset), Some(more), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        bail!("a fragment is: identification, offset in units of 8 octets, 'more' or 'last'");
    };
    let more = match more {
        "more" => true,
        "last" => false,
        _ => bail!("'{more}' is neither 'more' nor 'last'"),
    };
    Ok(Fragment { identification: number(identification)?, offset: number(offset)?, more })
}

#[derive(Default)]
struct Answer {
    outcome: Option<Outcome>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: u8,
    tos: u8,
    ports: (u16, u16),
    vlans: (u16, u16),
    octets: u32,
    tcp_flags: u16,
    ttl: u8,
    flow_label: u32,
    fragment_flags: u8,
    headers: Option<u32>,
    fragment: Fragment,
    note: Option<Note>,
}

impl Answer {
    fn set(&mut self, field: &str, value: &str) -> Result<()> {
        match field {
            "outcome" => {
                let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == value);
                self.outcome = Some(outcome.with_context(|| format!("no outcome '{value}'"))?);
            }
            "note" => {
                let note = Note::ALL.into_iter().find(|note| note.name() == value);
                self.note = Some(note.with_context(|| format!("no note '{value}'"))?);
            }
            "source" => self.source = Some(value.parse()?),
            "destination" => self.destination = Some(value.parse()?),
            "protocol" => self.protocol = number(value)?,
            "tos" => self.tos = number(value)?,
            "ports" => {
                let (source, destination) = value.split_once(' ').context("two ports")?;
                self.ports = (number(source)?, number(destination)?);
            }
            "vlan" => self.vlans.0 = number(value)?,
            "customer vlan" => self.vlans.1 = number(value)?,
            "octets" => self.octets = number(value)?,
            "headers" => self.headers = Some(number(value)?),
            "fragment" => self.fragment = fragment(value)?,
            "tcp flags" => self.tcp_flags = number(value)?,
            "ttl" => self.ttl = number(value)?,
            "flow label" => self.flow_label = number(value)?,
            "fragment flags" => self.fragment_flags = number(value)?,
            _ => bail!("no field '{field}'"),
        }
        Ok(())
    }

    fn finish(self, frame: &[u8]) -> Result<Result<ParsedPacket, Outcome>> {
        if let Some(outcome) = self.outcome {
            return Ok(Err(outcome));
        }
        let mut key = match (self.source, self.destination) {
            (Some(IpAddr::V4(source)), Some(IpAddr::V4(destination))) => {
                FlowKey::ipv4(source.octets(), destination.octets(), self.protocol, self.tos)
            }
            (Some(IpAddr::V6(source)), Some(IpAddr::V6(destination))) => {
                FlowKey::ipv6(words(source.octets()), words(destination.octets()), self.protocol, self.tos)
            }
            _ => bail!("expected 'outcome', or 'source' and 'destination' of one IP version"),
        };
        key.set_ports(self.ports.0, self.ports.1);
        key.set_vlans(self.vlans.0, self.vlans.1);
        let length = u16::try_from(self.octets).unwrap_or(u16::MAX);
        let mac = |at| {
            frame.get(at..).and_then(|rest| rest.first_chunk::<6>()).copied().context("an Ethernet header")
        };
        let detail = Detail {
            source_mac: mac(6)?,
            destination_mac: mac(0)?,
            flow_label: self.flow_label,
            min_length: length,
            max_length: length,
            min_ttl: self.ttl,
            max_ttl: self.ttl,
            fragment_flags: self.fragment_flags,
            known: Detail::IP | Detail::MAC,
        };
        Ok(Ok(ParsedPacket {
            key,
            octets: self.octets,
            header_octets: self.headers.context("'headers': octets of IP and transport headers")?,
            tcp_flags: self.tcp_flags,
            fragment: self.fragment,
            note: self.note,
            detail,
        }))
    }
}

fn words(octets: [u8; 16]) -> [u64; 2] {
    let (mut high, mut low) = ([0; 8], [0; 8]);
    high.copy_from_slice(&octets[..8]);
    low.copy_from_slice(&octets[8..]);
    [u64::from_ne_bytes(high), u64::from_ne_bytes(low)]
}
