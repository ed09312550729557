// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How records of one template are made: which pieces of a flow's image go where.

use probe_common::IpVersion;

use super::{
    FieldSet,
    fields::{FIELDS, Field, REVERSE_COUNTERS, REVERSE_MORE},
    image::{self, Facts, Image, Place},
    template::{Dialect, Spec, template},
};
use crate::{element::ElementId, export::values::Biflow};

/// Octets that lie together in the image and on the wire.
#[derive(Clone, Copy, Debug)]
struct Run {
    from: usize,
    to: usize,
    len: usize,
}

/// A template and how its records are filled.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) template_id: u16,
    /// The template, as a set.
    pub(super) template: Vec<u8>,
    pub(super) record_len: usize,
    runs: Vec<Run>,
    details: bool,
    /// Whether ICMP's type and code stand where ports do, for want of a field of their own.
    icmp_port: bool,
}

/// A flow and its reverse, as octets.
#[derive(Debug)]
pub(super) struct Images(Box<[u8; 2 * image::LEN]>);

impl Images {
    pub(super) fn new() -> Self {
        Self(Box::new([0; 2 * image::LEN]))
    }
}

const ICMP_TYPE_CODE: [u16; 2] = [32, 139];
const BIFLOW_DIRECTION: Spec = Spec::new(239, 1);

impl Plan {
    /// For flows of one IP version; with `biflow`, of both directions.
    pub(super) fn new(
        dialect: Dialect,
        template_id: u16,
        fields: FieldSet,
        version: IpVersion,
        biflow: Biflow,
    ) -> Self {
        let (mut specs, mut runs, mut at) = (Vec::new(), Vec::new(), 0);
        let mut details = false;
        let mut add = |place: Place, side: usize, spec: Spec| {
            let len = usize::from(spec.len);
            // Numbers are right-aligned in their places.
            push(&mut runs, Run { from: side * image::LEN + place.end() - len, to: at, len });
            at += len;
            details |= place.is_detail();
            specs.push(spec);
        };
        for field in fields.of_version(version) {
            add(field.place, 0, spec(dialect, field));
        }
        if biflow != Biflow::Off {
            let more = REVERSE_MORE.into_iter().filter(|id| {
                biflow == Biflow::Full && fields.of_version(version).any(|field| field.id == *id)
            });
            for id in REVERSE_COUNTERS.into_iter().chain(more) {
                // In the form that it has in the forward direction.
                if let Some(field) = fields.of_version(version).chain(&FIELDS).find(|field| field.id == id) {
                    let spec = Spec { enterprise: ElementId::REVERSE, ..spec(dialect, field) };
                    add(field.place, 1, spec);
                }
            }
            add(Place::BiflowDirection, 0, BIFLOW_DIRECTION);
        }
        // Version 9 has it there always: collectors know it from version 5.
        let icmp_port = dialect == Dialect::V9
            || !fields.of_version(version).any(|field| ICMP_TYPE_CODE.contains(&field.id));
        Self {
            template_id,
            template: template(dialect, template_id, &specs),
            record_len: at,
            runs,
            details,
            icmp_port,
        }
    }

    /// Writes a record of `record_len` octets.
    #[inline]
    pub(super) fn write(
        &self,
        images: &mut Images,
        facts: Facts<'_>,
        reverse: Option<Facts<'_>>,
        out: &mut [u8],
    ) {
        if let Some((forward, rest)) = images.0.split_first_chunk_mut::<{ image::LEN }>() {
            self.fill(forward, facts);
            if let (Some(facts), Some(image)) = (reverse, rest.first_chunk_mut()) {
                self.fill(image, facts);
            }
        }
        for run in &self.runs {
            out[run.to..run.to + run.len].copy_from_slice(&images.0[run.from..run.from + run.len]);
        }
    }

    #[inline]
    fn fill(&self, image: &mut Image, facts: Facts<'_>) {
        image::fill(image, &Facts { icmp_port: self.icmp_port, ..facts });
        if self.details {
            image::fill_details(image, facts.record);
        }
    }
}

fn spec(dialect: Dialect, field: &Field) -> Spec {
    match dialect {
        Dialect::V9 => Spec::new(field.v9.0, field.v9.1),
        Dialect::Ipfix => Spec::new(field.id, field.len),
    }
}

/// Adds a piece, to the last one where they touch.
fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.from + last.len == run.from => last.len += run.len,
        _ => runs.push(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pieces_make_a_default_record() {
        for (dialect, version, octets, pieces) in [
            (Dialect::Ipfix, IpVersion::V4, 63, 3),
            (Dialect::Ipfix, IpVersion::V6, 87, 2),
            (Dialect::V9, IpVersion::V4, 55, 5),
            (Dialect::V9, IpVersion::V6, 79, 4),
        ] {
            let plan = Plan::new(dialect, 256, FieldSet::default(), version, Biflow::Off);
            assert_eq!((plan.record_len, plan.runs.len()), (octets, pieces), "{dialect:?} {version:?}");
        }
    }
}
