// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The details of the live flows, by their place in the slab: 24 octets a flow, where they are asked for.

use std::io;

use probe_common::Detail;

use crate::prefetch::prefetch;

use super::{
    live_flow::FlowId,
    memory::{Mapping, Residence},
};

/// All details, or nothing.
pub(super) struct Details(Option<Mapping<Detail>>);

impl Details {
    pub(super) fn octets(capacity: u32, kept: bool) -> usize {
        if kept { Mapping::<Detail>::octets(capacity as usize) } else { 0 }
    }

    pub(super) fn new(capacity: u32, kept: bool, residence: Residence) -> io::Result<Self> {
        Ok(Self(kept.then(|| Mapping::new(capacity as usize, residence)).transpose()?))
    }

    pub(super) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, id: FlowId) {
        if let Some(details) = &self.0 {
            prefetch(details, id as usize);
        }
    }

    /// What is known of a flow.
    #[inline(always)]
    pub(super) fn of(&self, id: FlowId) -> Detail {
        self.0.as_ref().and_then(|details| details.get(id as usize)).copied().unwrap_or(Detail::UNKNOWN)
    }

    /// Lets a flow begin with what is known of its first packets.
    #[inline(always)]
    pub(super) fn begin(&mut self, id: FlowId, detail: Option<&Detail>) {
        if let Some(place) = self.0.as_mut().and_then(|details| details.get_mut(id as usize)) {
            *place = detail.copied().unwrap_or(Detail::UNKNOWN);
        }
    }

    /// Adds what is known of more packets, which came before those of the flow or after its first one.
    #[inline(always)]
    pub(super) fn add(&mut self, id: FlowId, detail: &Detail, came_earlier: bool) {
        if let Some(place) = self.0.as_mut().and_then(|details| details.get_mut(id as usize)) {
            if came_earlier {
                place.add_earlier(detail);
            } else {
                place.add_later(detail);
            }
        }
    }
}
