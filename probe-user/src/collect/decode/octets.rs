// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Octets read from the front, never past their end.

/// What is left to read, in network byte order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Octets<'a>(pub(super) &'a [u8]);

impl<'a> Octets<'a> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The next `len` octets; `None`, and nothing taken, when there are fewer.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (front, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*front))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*front))
    }

    /// The octets of a value whose length stands before it (RFC 7011 section 7).
    pub(super) fn variable(&mut self) -> Option<&'a [u8]> {
        let len = match self.u8()? {
            255 => self.u16()?.into(),
            short => short.into(),
        };
        self.take(len)
    }
}
