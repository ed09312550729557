// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which flow the next packet belongs to and how long it is. Compiled into the kernel program that sends
//! and into user space that says what must arrive: one definition, no agreement to keep.

/// What never changes during a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Number of flows; 0 sends nothing.
    pub flows: u32,
    /// Number of the first flow, so that two senders can have flows of their own or the same.
    pub first_flow: u32,
    /// Distance from one packet's flow to the next, below `flows` and without a common divisor: every flow
    /// gets one packet in each turn, and neighbours in time are not neighbours in number.
    pub stride: u32,
    /// Length of the shortest IP packet.
    pub shortest: u16,
    /// Bits of the length that vary from packet to packet.
    pub length_mask: u16,
}

/// Where a sender stands. Starts at zero.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    /// Packets sent in this turn.
    pub place: u32,
    /// Flow of the next packet, counted from the first.
    pub flow: u32,
    /// Turns completed.
    pub turn: u32,
}

/// One packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    /// Number of the flow.
    pub flow: u32,
    /// Length of the IP packet.
    pub length: u16,
}

impl Plan {
    /// The next packet; neither divides nor loops, because it runs for each packet.
    #[inline(always)]
    #[must_use]
    pub fn advance(&self, position: &mut Position) -> Planned {
        let flow = self.first_flow.wrapping_add(position.flow);
        // Differs between flows and between the turns of one flow.
        let variation = flow.wrapping_mul(7).wrapping_add(position.turn.wrapping_mul(13));
        let planned = Planned {
            flow,
            length: self.shortest.wrapping_add((variation & 0xffff) as u16 & self.length_mask),
        };
        position.flow = position.flow.wrapping_add(self.stride);
        if position.flow >= self.flows {
            position.flow = position.flow.wrapping_sub(self.flows);
        }
        position.place = position.place.wrapping_add(1);
        if position.place >= self.flows {
            *position = Position { place: 0, flow: 0, turn: position.turn.wrapping_add(1) };
        }
        planned
    }
}

/// Source port of a flow; the source address is the first flow's plus its number.
#[inline(always)]
#[must_use]
pub(crate) fn source_port(flow: u32) -> u16 {
    1024 | (flow & 0x3fff) as u16
}
