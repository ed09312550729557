// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs of the object, each verified when it is first wanted: on a host that needs one of them, the kernel
//! does not look at the other twelve, and one that an older kernel refuses does no harm where nobody asks for it.

use aya::{
    Ebpf,
    programs::{Program, SchedClassifier, Xdp},
};
use probe_common::Direction;

use super::{
    KernelError,
    refusal::{mismatch, program_error},
};
use crate::net::Role;

/// Name of an XDP program.
pub(super) fn xdp_name(role: Role, details: bool, frags: bool) -> &'static str {
    match (role, details, frags) {
        (Role::Tap, false, false) => "probe_tap",
        (Role::Tap, true, false) => "probe_tap_details",
        (Role::Tap, false, true) => "probe_tap_frags",
        (Role::Tap, true, true) => "probe_tap_details_frags",
        (Role::Host, false, false) => "probe_host",
        (Role::Host, true, false) => "probe_host_details",
        (Role::Host, false, true) => "probe_host_frags",
        (Role::Host, true, true) => "probe_host_details_frags",
    }
}

/// Name of a tc program.
pub(super) fn classifier_name(direction: Direction, details: bool) -> &'static str {
    match (direction, details) {
        (Direction::Ingress, false) => "probe_ingress",
        (Direction::Ingress, true) => "probe_ingress_details",
        (Direction::Egress, false) => "probe_egress",
        (Direction::Egress, true) => "probe_egress_details",
    }
}

/// A verified XDP program.
pub(super) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, KernelError> {
    let program: &mut Xdp = find(ebpf, name)?;
    if program.fd().is_err() {
        program.load().map_err(|error| program_error(&error, name))?;
    }
    Ok(program)
}

/// A verified tc program.
pub(super) fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, KernelError> {
    let program: &mut SchedClassifier = find(ebpf, name)?;
    if program.fd().is_err() {
        program.load().map_err(|error| program_error(&error, name))?;
    }
    Ok(program)
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, KernelError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| mismatch(name))?;
    program.try_into().map_err(|_| mismatch(name))
}
