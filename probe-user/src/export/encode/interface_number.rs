// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What stands in the fields for interfaces.

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

    /// The number in 16 bits, and whether it did not fit. An ifIndex that does not fit is unknown: 0.
    #[inline]
    pub(super) fn narrow(self, index: u32) -> (u16, bool) {
        let (number, cut) = self.wide(index);
        let narrow = u16::try_from(number);
        (narrow.unwrap_or(0), cut || narrow.is_err())
    }
}
