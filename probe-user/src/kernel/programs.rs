// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs of the object, each verified when it is first wanted: on a host that needs one of them, the kernel
//! does not look at the other twelve, and one that an older kernel refuses does no harm where nobody asks for it.

use aya::{
    Ebpf,
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use nix::sys::signal::{SigSet, SigmaskHow};
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
        verify(name, || program.load())?;
    }
    Ok(program)
}

/// A verified tc program.
pub(super) fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, KernelError> {
    let program: &mut SchedClassifier = find(ebpf, name)?;
    if program.fd().is_err() {
        verify(name, || program.load())?;
    }
    Ok(program)
}

/// Attempts to load a program; libbpf makes as many.
const ATTEMPTS: u32 = 5;

/// Has the kernel verify a program. The verifier gives up with EAGAIN when a signal waits for the thread
/// (`signal_pending` in `do_check`, kernel/bpf/verifier.c), even one that would be ignored, and verifying may take as
/// long as the next one. So signals wait, or go to other threads, and what the kernel itself calls a signal
/// (`TIF_NOTIFY_SIGNAL`) is answered by trying again.
fn verify(name: &str, mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), KernelError> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let mut attempt = 1;
    let loaded = loop {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if attempt < ATTEMPTS && io_error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => break result,
        }
        attempt += 1;
    };
    if let Ok(before) = before {
        // It cannot fail: the mask is the one that was.
        before.thread_set_mask().ok();
    }
    loaded.map_err(|error| program_error(&error, name))
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, KernelError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| mismatch(name))?;
    program.try_into().map_err(|_| mismatch(name))
}
