// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What ties a flow into a list of the timer wheel.

/// Neighbours in a list.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) next: u32,
    pub(super) previous: u32,
}
