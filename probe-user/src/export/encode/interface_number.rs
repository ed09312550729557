// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What stands in the fields for interfaces.

use probe_common::{Direction, FlowKey};

use super::EncoderSettings;
use crate::export::values::InterfaceNumbers;

const ENGINE_MASK: u8 = 0x7f;
const PORT_BITS: u32 = 9;
const PORT_MASK: u32 = (1 << PORT_BITS) - 1;

/// ifIndex, or engine id and port as virtual switches sent them: 7 and 9 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct InterfaceNumber {
    engine: Option<u8>,
}

impl InterfaceNumber {
    pub(super) const IF_INDEX: Self = Self { engine: None };

    /// For the domain that comes after `offset` others.
    pub(super) fn new(settings: &EncoderSettings, offset: u32) -> Self {
        let [.., low] = offset.to_be_bytes();
        let engine = settings.engine_id.wrapping_add(low) & ENGINE_MASK;
        Self { engine: (settings.interfaces == InterfaceNumbers::EnginePort).then_some(engine) }
    }

    /// The number in 32 bits, and whether something was cut off.
    #[inline]
    pub(super) fn wide(self, index: u32) -> (u32, bool) {
        match self.engine {
            None => (index, false),
            Some(engine) => (u32::from(engine) << PORT_BITS | index & PORT_MASK, index > PORT_MASK),
        }
    }

    /// The numbers that stand for where packets came in and where they went out, and whether something was cut off.
    /// Only the side on which they were seen is known; the other one is 0.
    #[inline]
    pub(super) fn sides(self, key: &FlowKey) -> ([u32; 2], bool) {
        let (number, cut) = self.wide(key.interface());
        (on_side(key, number), cut)
    }

    /// The same in 16 bits.
    #[inline]
    pub(super) fn narrow_sides(self, key: &FlowKey) -> ([u16; 2], bool) {
        let (number, cut) = self.narrow(key.interface());
        (on_side(key, number), cut)
    }

    /// The number in 16 bits, and whether it did not fit. An ifIndex that does not fit is unknown: 0.
    #[inline]
    fn narrow(self, index: u32) -> (u16, bool) {
        let (number, cut) = self.wide(index);
        let narrow = u16::try_from(number);
        (narrow.unwrap_or(0), cut || narrow.is_err())
    }
}

/// Ingress and egress.
#[inline]
fn on_side<T: Default>(key: &FlowKey, number: T) -> [T; 2] {
    match key.direction() {
        Direction::Ingress => [number, T::default()],
        Direction::Egress => [T::default(), number],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_stands_on_the_side_on_which_packets_were_seen() {
        let key = |index, direction| {
            let mut key = FlowKey::default();
            key.set_interface(index, direction);
            key
        };
        let port = InterfaceNumber { engine: Some(5) };
        for (numbers, index, wide, narrow) in [
            (InterfaceNumber::IF_INDEX, 7, (7, false), (7, false)),
            (InterfaceNumber::IF_INDEX, 70_000, (70_000, false), (0, true)),
            (port, 7, (5 << 9 | 7, false), (5 << 9 | 7, false)),
            (port, 513, (5 << 9 | 1, true), (5 << 9 | 1, true)),
        ] {
            let (ingress, egress) = (key(index, Direction::Ingress), key(index, Direction::Egress));
            assert_eq!(numbers.sides(&ingress), ([wide.0, 0], wide.1));
            assert_eq!(numbers.sides(&egress), ([0, wide.0], wide.1));
            assert_eq!(numbers.narrow_sides(&ingress), ([narrow.0, 0], narrow.1));
            assert_eq!(numbers.narrow_sides(&egress), ([0, narrow.0], narrow.1));
        }
    }
}
