// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The details of a flow as members of its JSON object, with the IANA names.

use std::fmt;

use probe_common::Detail;
use serde::{Serialize, Serializer};

/// A MAC address, written as `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = &self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|octet| write!(f, ":{octet:02x}"))
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `None` for 0, which stands for "not known" or "none".
pub(super) fn known<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// What a flow's packets had in common. Absent means not known.
#[derive(Serialize, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct DetailJson {
    /// Of the first packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_mac_address: Option<MacAddress>,
    /// Of the first packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_mac_address: Option<MacAddress>,
    /// TTL or hop limit.
    #[serde(rename = "minimumTTL", skip_serializing_if = "Option::is_none")]
    pub minimum_ttl: Option<u8>,
    /// TTL or hop limit.
    #[serde(rename = "maximumTTL", skip_serializing_if = "Option::is_none")]
    pub maximum_ttl: Option<u8>,
    /// Octets; of ours 65535 also for longer packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_ip_total_length: Option<u64>,
    /// Octets; of ours 65535 also for longer packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_ip_total_length: Option<u64>,
    /// IANA element 197: don't fragment 0x40, more fragments 0x20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment_flags: Option<u8>,
    /// Of the first packet; absent where it is 0.
    #[serde(rename = "flowLabelIPv6", skip_serializing_if = "Option::is_none")]
    pub flow_label: Option<u32>,
}

impl From<&Detail> for DetailJson {
    fn from(detail: &Detail) -> Self {
        let mut json = Self::default();
        if detail.knows_mac() {
            json.source_mac_address = Some(MacAddress(detail.source_mac));
            json.destination_mac_address = Some(MacAddress(detail.destination_mac));
        }
        if detail.knows_ip() {
            json.minimum_ttl = Some(detail.min_ttl);
            json.maximum_ttl = Some(detail.max_ttl);
            json.minimum_ip_total_length = Some(detail.min_length.into());
            json.maximum_ip_total_length = Some(detail.max_length.into());
            json.fragment_flags = Some(detail.fragment_flags);
            json.flow_label = known(detail.flow_label);
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(detail: &Detail) -> String {
        serde_json::to_string(&DetailJson::from(detail)).unwrap()
    }

    #[test]
    fn what_is_not_known_is_absent() {
        assert_eq!(json(&Detail::UNKNOWN), "{}");
        let mut detail = Detail::of_ip(1500, 63, 0x12345, 0x20);
        detail.add_later(&Detail::of_ip(60, 64, 9, 0x40));
        let ip = r#""minimumTTL":63,"maximumTTL":64,"minimumIpTotalLength":60,"maximumIpTotalLength":1500,"#
            .to_owned()
            + r#""fragmentFlags":96,"flowLabelIPv6":74565}"#;
        assert_eq!(json(&detail), format!("{{{ip}"));
        detail.set_macs(&[2, 0, 0, 0, 0xab, 2, 2, 0, 0, 0, 0xcd, 1]);
        let macs = r#""sourceMacAddress":"02:00:00:00:cd:01","destinationMacAddress":"02:00:00:00:ab:02","#;
        assert_eq!(json(&detail), format!("{{{macs}{ip}"));
        let ipv4 = json(&Detail::of_ip(28, 1, 0, 0));
        assert!(ipv4.contains(r#""fragmentFlags":0"#) && !ipv4.contains("flowLabelIPv6"), "{ipv4}");
    }
}
