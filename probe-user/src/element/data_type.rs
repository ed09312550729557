// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How octets become a value: the abstract data types of RFC 7012 section 3.1 as RFC 7011 section 6.1
//! encodes them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Value;

/// Seconds from 1900, the epoch of NTP, to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;
const NANOSECONDS: u64 = 1_000_000_000;

/// Abstract data type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(
    missing_docs,
    reason = "the names of RFC 7012 section 3.1, RFC 6313 section 4.5 and IANA's registry"
)]
pub enum DataType {
    OctetArray,
    Unsigned8,
    Unsigned16,
    Unsigned32,
    Unsigned64,
    Unsigned256,
    Signed8,
    Signed16,
    Signed32,
    Signed64,
    Float32,
    Float64,
    Boolean,
    MacAddress,
    String,
    DateTimeSeconds,
    DateTimeMilliseconds,
    DateTimeMicroseconds,
    DateTimeNanoseconds,
    Ipv4Address,
    Ipv6Address,
    BasicList,
    SubTemplateList,
    SubTemplateMultiList,
}

impl DataType {
    /// The type of a name in IANA's registry.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "octetArray" => Self::OctetArray,
            "unsigned8" => Self::Unsigned8,
            "unsigned16" => Self::Unsigned16,
            "unsigned32" => Self::Unsigned32,
            "unsigned64" => Self::Unsigned64,
            "unsigned256" => Self::Unsigned256,
            "signed8" => Self::Signed8,
            "signed16" => Self::Signed16,
            "signed32" => Self::Signed32,
            "signed64" => Self::Signed64,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "boolean" => Self::Boolean,
            "macAddress" => Self::MacAddress,
            "string" => Self::String,
            "dateTimeSeconds" => Self::DateTimeSeconds,
            "dateTimeMilliseconds" => Self::DateTimeMilliseconds,
            "dateTimeMicroseconds" => Self::DateTimeMicroseconds,
            "dateTimeNanoseconds" => Self::DateTimeNanoseconds,
            "ipv4Address" => Self::Ipv4Address,
            "ipv6Address" => Self::Ipv6Address,
            "basicList" => Self::BasicList,
            "subTemplateList" => Self::SubTemplateList,
            "subTemplateMultiList" => Self::SubTemplateMultiList,
            _ => return None,
        })
    }

    /// Whether values hold records of their own, which only who knows the templates can read.
    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self, Self::BasicList | Self::SubTemplateList | Self::SubTemplateMultiList)
    }
}

/// Reads a value from octets in network byte order.
///
/// Numbers may have fewer octets than their type (RFC 7011 section 6.2); more are read as well, up to eight,
/// because exporters of NetFlow v9 send them. Octets that are no value of the type, and lists, are given as they are.
#[must_use]
pub fn decode(data_type: DataType, octets: &[u8]) -> Value {
    read(data_type, octets).unwrap_or_else(|| Value::Octets(octets.to_vec()))
}

fn read(data_type: DataType, octets: &[u8]) -> Option<Value> {
    Some(match data_type {
        DataType::Unsigned8
        | DataType::Unsigned16
        | DataType::Unsigned32
        | DataType::Unsigned64
        | DataType::Unsigned256 => Value::Unsigned(unsigned(octets)?),
        DataType::Signed8 | DataType::Signed16 | DataType::Signed32 | DataType::Signed64 => {
            Value::Signed(signed(octets)?)
        }
        // float64 may be sent as float32.
        DataType::Float32 | DataType::Float64 => Value::Float(match *octets {
            [a, b, c, d] => f32::from_be_bytes([a, b, c, d]).into(),
            _ => f64::from_be_bytes(octets.try_into().ok()?),
        }),
        // RFC 7011 section 6.1.5: 1 is true, 2 is false.
        DataType::Boolean => match octets {
            [1] => Value::Boolean(true),
            [2] => Value::Boolean(false),
            _ => return None,
        },
        DataType::MacAddress => Value::Mac(octets.try_into().ok()?),
        DataType::String => {
            // Fields of a fixed length are filled with zeros.
            let end = octets.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
            Value::String(String::from_utf8_lossy(&octets[..end]).into_owned())
        }
        DataType::DateTimeSeconds => Value::Time(time(octets, NANOSECONDS)?),
        DataType::DateTimeMilliseconds => Value::Time(time(octets, 1_000_000)?),
        DataType::DateTimeMicroseconds => Value::Time(ntp(octets, 1000)?),
        DataType::DateTimeNanoseconds => Value::Time(ntp(octets, 1)?),
        DataType::Ipv4Address => Value::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        DataType::Ipv6Address => Value::Ipv6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
        DataType::OctetArray
        | DataType::BasicList
        | DataType::SubTemplateList
        | DataType::SubTemplateMultiList => return None,
    })
}

fn unsigned(octets: &[u8]) -> Option<u64> {
    if octets.is_empty() {
        return None;
    }
    let (high, low) = octets.split_at(octets.len().saturating_sub(8));
    let small = high.iter().all(|octet| *octet == 0);
    small.then(|| low.iter().fold(0, |value, octet| value << 8 | u64::from(*octet)))
}

fn signed(octets: &[u8]) -> Option<i64> {
    let value = unsigned(octets).filter(|_| octets.len() <= 8)?;
    let unused = 64 - 8 * octets.len();
    Some((value << unused).cast_signed() >> unused)
}

/// A count of `unit` nanoseconds since 1970, in four or eight octets.
fn time(octets: &[u8], unit: u64) -> Option<u64> {
    matches!(octets.len(), 4 | 8).then_some(())?;
    Some(unsigned(octets)?.saturating_mul(unit))
}

/// An NTP timestamp (RFC 5905 section 6), rounded to `unit` nanoseconds: a fraction of 2^-32 s is cut when
/// it is made, and one of microseconds lacks its last 11 bits (RFC 7011 section 6.1.9).
fn ntp(octets: &[u8], unit: u64) -> Option<u64> {
    let stamp = u64::from_be_bytes(octets.try_into().ok()?);
    if stamp == 0 {
        return Some(0);
    }
    let (seconds, fraction) = (stamp >> 32, stamp & 0xffff_ffff);
    // RFC 4330 section 3: with the first bit clear, seconds count from 2036.
    let era = if seconds >> 31 == 0 { 1 << 32 } else { 0 };
    let rounded = (fraction * (NANOSECONDS / unit) + (1 << 31)) >> 32;
    Some((seconds + era).saturating_sub(NTP_TO_UNIX) * NANOSECONDS + rounded * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_size() {
        assert_eq!(decode(DataType::Unsigned64, &[1]), Value::Unsigned(1));
        assert_eq!(decode(DataType::Unsigned32, &[1, 2, 3]), Value::Unsigned(0x01_0203));
        assert_eq!(decode(DataType::Unsigned64, &[0xff; 8]), Value::Unsigned(u64::MAX));
        assert_eq!(decode(DataType::Unsigned8, &[0, 7]), Value::Unsigned(7), "more octets than the type has");
        let wide = [&[0; 24][..], &[0xff; 8]].concat();
        assert_eq!(decode(DataType::Unsigned256, &wide), Value::Unsigned(u64::MAX));
        assert_eq!(decode(DataType::Unsigned256, &[1; 32]), Value::Octets(vec![1; 32]));
        assert_eq!(decode(DataType::Signed32, &[0xff]), Value::Signed(-1));
        assert_eq!(decode(DataType::Signed32, &[0x80, 0, 0]), Value::Signed(-(1 << 23)));
        assert_eq!(decode(DataType::Signed64, &[0x7f; 8]), Value::Signed(0x7f7f_7f7f_7f7f_7f7f));
        assert_eq!(decode(DataType::Float64, &1.5f32.to_be_bytes()), Value::Float(1.5));
        assert_eq!(decode(DataType::Float64, &0.1f64.to_be_bytes()), Value::Float(0.1));
        for octets in [&[][..], &[1; 9]] {
            assert_eq!(decode(DataType::Unsigned64, octets), Value::Octets(octets.to_vec()));
            assert_eq!(decode(DataType::Signed64, octets), Value::Octets(octets.to_vec()));
        }
    }

    #[test]
    fn booleans_addresses_and_strings() {
        assert_eq!(decode(DataType::Boolean, &[1]), Value::Boolean(true));
        assert_eq!(decode(DataType::Boolean, &[2]), Value::Boolean(false));
        assert_eq!(decode(DataType::Boolean, &[0]), Value::Octets(vec![0]));
        assert_eq!(decode(DataType::Ipv4Address, &[192, 0, 2, 1]), Value::Ipv4([192, 0, 2, 1].into()));
        assert_eq!(decode(DataType::Ipv4Address, &[192, 0, 2]), Value::Octets(vec![192, 0, 2]));
        assert_eq!(decode(DataType::Ipv6Address, &[1; 16]), Value::Ipv6([1; 16].into()));
        assert_eq!(decode(DataType::MacAddress, &[2, 0, 0, 0, 0, 1]), Value::Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(decode(DataType::String, b"eth0\0\0"), Value::String("eth0".into()));
        assert_eq!(decode(DataType::String, b"a\xffb"), Value::String("a\u{fffd}b".into()));
        assert_eq!(decode(DataType::String, b""), Value::String(String::new()));
        assert_eq!(decode(DataType::BasicList, &[1, 2]), Value::Octets(vec![1, 2]));
    }

    #[test]
    fn times_are_unix_time_in_nanoseconds() {
        let seconds: u64 = 1_700_000_000;
        let at = |ns: u64| Value::Time(seconds * NANOSECONDS + ns);
        let low = u32::try_from(seconds).unwrap();
        assert_eq!(decode(DataType::DateTimeSeconds, &low.to_be_bytes()), at(0));
        assert_eq!(
            decode(DataType::DateTimeMilliseconds, &(seconds * 1000 + 7).to_be_bytes()),
            at(7_000_000)
        );
        assert_eq!(decode(DataType::DateTimeMilliseconds, &[0xff; 8]), Value::Time(u64::MAX));
        assert_eq!(decode(DataType::DateTimeMilliseconds, &[0; 3]), Value::Octets(vec![0; 3]));
        for ns in [0, 1, 999, 1000, 123_456_000, 999_999_000, 999_999_999] {
            let fraction = (ns << 32) / NANOSECONDS;
            let stamp = (seconds + NTP_TO_UNIX) << 32 | fraction;
            assert_eq!(decode(DataType::DateTimeNanoseconds, &stamp.to_be_bytes()), at(ns));
            if ns % 1000 == 0 {
                let cut = stamp & !0x7ff;
                assert_eq!(decode(DataType::DateTimeMicroseconds, &cut.to_be_bytes()), at(ns));
            }
        }
        assert_eq!(decode(DataType::DateTimeNanoseconds, &[0; 8]), Value::Time(0), "not known");
        let in_2036 = (1u64 << 32).to_be_bytes();
        let era = ((1u64 << 32) + 1 - NTP_TO_UNIX) * NANOSECONDS;
        assert_eq!(decode(DataType::DateTimeNanoseconds, &in_2036), Value::Time(era));
    }
}
