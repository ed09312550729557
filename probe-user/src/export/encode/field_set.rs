// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which fields a collector gets: `fields=default,sourceMacAddress,-tcpControlBits`.
//!
//! A list, read from left to right: a named set or a field adds, a minus before it takes away. A list
//! that begins with a minus begins with `default`. Canonical is the shortest list: a set, what it lacks, what
//! is too much, each in the order of the table.

use std::{fmt, str::FromStr};

use probe_common::IpVersion;

use super::fields::{FIELDS, Field, Preset};

/// Fewest octets of a record: what pads a set of version 9 must not look like one.
const MIN_RECORD: u16 = 4;

/// A set of fields.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldSet(u64);

/// Why a set of fields was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FieldSetError {
    /// Neither a field nor a set.
    #[error(
        "'{0}' is neither a field nor a set of fields; sets are default, minimal, l2, full and v5, fields are \
         named as IANA names them: {names}",
        names = FieldSet::names()
    )]
    Unknown(String),
    /// Nothing worth sending is left.
    #[error("hardly anything is left of {0} flows; ask for more fields, or for default")]
    Empty(&'static str),
}

impl Default for FieldSet {
    fn default() -> Self {
        Self::preset(Preset::Default)
    }
}

impl FieldSet {
    fn of(chosen: impl Fn(&Field) -> bool) -> Self {
        Self(FIELDS.iter().enumerate().fold(0, |set, (bit, field)| set | u64::from(chosen(field)) << bit))
    }

    fn preset(preset: Preset) -> Self {
        Self::of(|field| field.presets & preset.bit() != 0)
    }

    fn named(name: &str) -> Option<Self> {
        let preset = Preset::ALL.into_iter().find(|preset| preset.name().eq_ignore_ascii_case(name));
        preset.map(Self::preset).or_else(|| {
            let set = Self::of(|field| field.name.eq_ignore_ascii_case(name));
            (set.0 != 0).then_some(set)
        })
    }

    /// All fields that can be asked for.
    #[must_use]
    pub fn names() -> String {
        FIELDS.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
    }

    /// Whether records need what is metered only if asked for: MAC addresses, lengths, TTLs, fragment flags,
    /// flow label.
    #[must_use]
    pub fn needs_details(&self) -> bool {
        self.fields().any(|field| field.place.is_detail())
    }

    /// The fields, in the order of the table.
    pub(super) fn fields(self) -> impl Iterator<Item = &'static Field> {
        FIELDS.iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, field)| field)
    }

    /// Those that flows of an IP version have, each once: in its longest form.
    pub(super) fn of_version(self, version: IpVersion) -> impl Iterator<Item = &'static Field> {
        let longer =
            move |field: &Field| self.fields().any(|other| other.id == field.id && other.len > field.len);
        self.fields().filter(move |field| field.version.is_none_or(|only| only == version) && !longer(field))
    }

    /// Without what is named so; a field's name stands for its shorter form too, where that is what is there.
    fn without_named(self, name: &str) -> Option<Self> {
        let named = Self::named(name)?;
        if self.0 & named.0 != 0 {
            return Some(self.without(named));
        }
        let shorter = |field: &Field| {
            field.name.split_once('/').is_some_and(|(long, _)| long.eq_ignore_ascii_case(name))
        };
        Some(self.without(Self::of(shorter)))
    }

    fn count(self) -> u32 {
        self.0.count_ones()
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromStr for FieldSet {
    type Err = FieldSetError;

    fn from_str(text: &str) -> Result<Self, FieldSetError> {
        let mut set = if text.trim_start().starts_with('-') { Self::default() } else { Self(0) };
        for item in text.split(',').map(str::trim) {
            let next = match item.strip_prefix('-') {
                Some(name) => set.without_named(name),
                None => Self::named(item).map(|named| Self(set.0 | named.0)),
            };
            let name = item.strip_prefix('-').unwrap_or(item);
            set = next.ok_or_else(|| FieldSetError::Unknown(name.to_owned()))?;
        }
        for (version, name) in [(IpVersion::V4, "IPv4"), (IpVersion::V6, "IPv6")] {
            if set.of_version(version).map(|field| field.v9.1).sum::<u16>() < MIN_RECORD {
                return Err(FieldSetError::Empty(name));
            }
        }
        Ok(set)
    }
}

impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = |preset: &Preset| {
            let preset = Self::preset(*preset);
            1 + self.without(preset).count() + preset.without(*self).count()
        };
        let nearest =
            Preset::ALL.into_iter().min_by_key(items).filter(|preset| items(preset) <= self.count());
        let base = nearest.map_or(Self(0), Self::preset);
        let more = self.without(base).fields().map(|field| ("", field.name));
        let less = base.without(*self).fields().map(|field| ("-", field.name));
        let first = nearest.map(|preset| ("", preset.name()));
        for (index, (sign, name)) in first.into_iter().chain(more).chain(less).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{sign}{name}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(text: &str, version: IpVersion) -> Vec<u16> {
        text.parse::<FieldSet>().unwrap().of_version(version).map(|field| field.id).collect()
    }

    #[test]
    fn sets_have_the_fields_that_collectors_know() {
        let common = [5, 6, 32, 10, 14, 58, 243, 136, 61, 2, 1, 152, 153];
        let default = [&[8, 12, 7, 11, 4][..], &common].concat();
        assert_eq!(ids("default", IpVersion::V4), default);
        assert_eq!(ids("minimal", IpVersion::V6), [27, 28, 7, 11, 4, 2, 1, 152, 153]);
        assert_eq!(ids("l2", IpVersion::V4), [&default[..], &[245, 56, 80]].concat());
        let v5 = [8, 12, 7, 11, 4, 5, 6, 10, 14, 2, 1, 152, 153, 15, 16, 17, 9, 13];
        assert_eq!(ids("v5", IpVersion::V4), v5);
        assert_eq!(ids("-tcpControlBits,minimumTTL", IpVersion::V4).len(), default.len());
        let flags = |text: &str| {
            let set: FieldSet = text.parse().unwrap();
            set.of_version(IpVersion::V4)
                .filter(|field| field.id == 6)
                .map(|field| field.len)
                .collect::<Vec<_>>()
        };
        assert_eq!((flags("default"), flags("v5"), flags("l2")), (vec![1], vec![1], vec![2]));
        assert_eq!((flags("default,tcpControlBits"), flags("full,tcpControlBits/1")), (vec![2], vec![2]));
    }

    #[test]
    fn details_are_needed_for_what_is_no_part_of_the_key() {
        for (text, needs) in [
            ("default", false),
            ("minimal", false),
            ("v5", false),
            ("l2", true),
            ("full", true),
            ("minimal,flowLabelIPv6", true),
            ("l2,-sourceMacAddress,-destinationMacAddress", false),
        ] {
            assert_eq!(text.parse::<FieldSet>().unwrap().needs_details(), needs, "{text}");
        }
    }

    #[test]
    fn text_becomes_canonical() {
        for (text, canonical) in [
            ("default", "default"),
            ("Minimal", "minimal"),
            ("-vlanId", "default,-vlanId"),
            ("default, sourcemacaddress , -tcpControlBits", "default,sourceMacAddress,-tcpControlBits/1"),
            ("default,tcpControlBits", "default,tcpControlBits"),
            ("l2,-tcpControlBits,tcpControlBits/1", "l2,tcpControlBits/1,-tcpControlBits"),
            ("minimal,default", "default"),
            ("full,-full,packetDeltaCount", "packetDeltaCount"),
        ] {
            let set: FieldSet = text.parse().unwrap();
            assert_eq!(set.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(set));
        }
        for text in ["", "default,", "octets", "--vlanId"] {
            assert!(matches!(text.parse::<FieldSet>(), Err(FieldSetError::Unknown(_))), "{text}");
        }
        for text in ["sourceIPv4Address", "minimal,-minimal", "tcpControlBits,vlanId"] {
            assert!(matches!(text.parse::<FieldSet>(), Err(FieldSetError::Empty(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_set_and_back(bits in 0..1u64 << FIELDS.len()) {
            // With the counters there is always enough left.
            let set = FieldSet(bits | FieldSet::named("packetDeltaCount").unwrap().0);
            prop_assert_eq!(set.to_string().parse(), Ok(set));
        }
    }
}
