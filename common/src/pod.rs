// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types that aya may copy to and from maps.
#![allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, stated here")]
// SAFETY: each type is `repr(C)`, made of integers alone, has no padding (size assertions beside the
// types and `tests/layout.rs`), and every bit pattern is a valid value.
use crate::{
    ClockReading, Control, Counters, Detail, DetailSet, FlowKey, InterfaceEntry, KernelSettings,
    OwnExportKey, RingCursor, SamplerState, Set, Slot,
};

unsafe impl aya::Pod for ClockReading {}
unsafe impl aya::Pod for Control {}
unsafe impl aya::Pod for Counters {}
unsafe impl aya::Pod for Detail {}
unsafe impl aya::Pod for DetailSet {}
unsafe impl aya::Pod for FlowKey {}
unsafe impl aya::Pod for InterfaceEntry {}
unsafe impl aya::Pod for KernelSettings {}
unsafe impl aya::Pod for OwnExportKey {}
unsafe impl aya::Pod for RingCursor {}
unsafe impl aya::Pod for SamplerState {}
unsafe impl aya::Pod for Set {}
unsafe impl aya::Pod for Slot {}
