// SPDX-License-Identifier: Apache-2.0 OR MIT
//! tc program → interface: by a BPF link where the kernel has them (tcx, Linux 6.6), else as a filter of the clsact
//! qdisc.
//!
//! Order matters at this hook: a program that says OK, DROP or REDIRECT ends the chain, and those behind it see
//! nothing of the packet. Ours says UNSPEC, so it hides packets from nobody; so that none are hidden from it, it is
//! put before the others.

use std::{fs, io, process};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcError, TcHandle},
    },
};
use probe_common::Direction;

use super::{
    Hook, KernelError,
    plan::way,
    programs::{classifier, classifier_name},
    refusal::{chain, no_privilege, os_error},
};
use crate::net::{
    Link,
    clsact::{self, Filter, Filters, IngressQdisc},
};

/// Before other filters.
const FIRST: u16 = 1;
/// The kernel chooses a priority: behind those that somebody chose.
const ANY: u16 = 0;

/// A program at the tc hook. Detached on drop.
#[derive(Debug)]
pub(super) enum TcLink {
    /// The kernel undoes it however the process ends.
    Tcx(#[allow(dead_code, reason = "kept for its drop")] FdLink),
    /// We undo it; after a crash, the next attachment does.
    Clsact(#[allow(dead_code, reason = "kept for its drop")] SchedClassifierLink),
}

impl TcLink {
    pub(super) fn hook(&self) -> Hook {
        match self {
            Self::Tcx(_) => Hook::Tcx,
            Self::Clsact(_) => Hook::Clsact,
        }
    }
}

/// The qdisc of an interface to which a program was attached. On drop it is removed if we made it and nobody uses it;
/// drop the programs first.
#[derive(Debug)]
pub(super) struct Qdisc {
    index: u32,
    ours: bool,
}

impl Drop for Qdisc {
    fn drop(&mut self) {
        let unused = |direction| clsact::filters(self.index, direction).is_ok_and(|filters| filters.all == 0);
        if self.ours && unused(Direction::Ingress) && unused(Direction::Egress) {
            // If it fails, an empty qdisc stays: it costs a packet next to nothing.
            if let Err(error) = clsact::remove_qdisc(self.index) {
                tracing::debug!("removing the clsact qdisc of interface {}: {error}", self.index);
            }
        }
    }
}

/// What is attached at the tc hook of an interface. Programs are declared, and so dropped, before the qdisc.
#[derive(Default, Debug)]
pub(super) struct TcLinks {
    pub(super) ingress: Option<TcLink>,
    pub(super) egress: Option<TcLink>,
    qdisc: Option<Qdisc>,
    pub(super) warnings: Vec<String>,
}

impl TcLinks {
    /// Attaches the program of one way.
    pub(super) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        details: bool,
        link: &Link,
        direction: Direction,
        tcx: bool,
    ) -> Result<Hook, KernelError> {
        let program = classifier(ebpf, classifier_name(direction, details))?;
        let attached = match tcx.then(|| attach_tcx(program, link, direction)) {
            Some(Ok(attached)) => attached,
            Some(Err(Refused::Otherwise(error))) => return Err(error),
            Some(Err(Refused::NoTcx)) | None => TcLink::Clsact(self.attach_clsact(program, link, direction)?),
        };
        let hook = attached.hook();
        match direction {
            Direction::Ingress => self.ingress = Some(attached),
            Direction::Egress => self.egress = Some(attached),
        }
        Ok(hook)
    }

    fn attach_clsact(
        &mut self,
        program: &mut SchedClassifier,
        link: &Link,
        direction: Direction,
    ) -> Result<SchedClassifierLink, KernelError> {
        let failed = |error: io::Error| io_error(&error, link, direction);
        let left = remove_left_behind(link, direction)?;
        let ours = match clsact::qdisc(link.index).map_err(failed)? {
            IngressQdisc::None => clsact::add_qdisc(link.index).map(|()| true).map_err(failed)?,
            // What a crashed probe attached, it attached to a qdisc that nobody else made, as a rule. It is removed
            // only if nobody uses it in any case.
            IngressQdisc::Clsact => left,
            IngressQdisc::IngressOnly if direction == Direction::Ingress => false,
            IngressQdisc::IngressOnly => {
                return Err(refused(
                    link,
                    direction,
                    format!(
                        "it has an `ingress` qdisc, which takes no programs for what goes out; replace it by clsact (`tc qdisc del dev {0} ingress`, `tc qdisc add dev {0} clsact`), or use --direction ingress",
                        link.name
                    ),
                ));
            }
        };
        let qdisc = self.qdisc.get_or_insert(Qdisc { index: link.index, ours });
        qdisc.ours |= ours;
        let others = clsact::filters(link.index, direction).map_err(failed)?.all;
        let id = match attach_filter(program, link, direction, FIRST) {
            Ok(id) => id,
            // Another kind of filter, or one for another protocol, has this priority.
            Err(_) if others > 0 => {
                self.warnings.push(format!(
                    "there are tc filters before the probe's ({}, `tc filter show dev {} {}`): packets whose way they end are not seen",
                    way(direction), link.name, way(direction)
                ));
                attach_filter(program, link, direction, ANY)
                    .map_err(|error| tc_error(&error, link, direction))?
            }
            Err(error) => return Err(tc_error(&error, link, direction)),
        };
        program.take_link(id).map_err(|error| tc_error(&error, link, direction))
    }
}

enum Refused {
    /// The kernel has no tcx.
    NoTcx,
    Otherwise(KernelError),
}

fn attach_tcx(program: &mut SchedClassifier, link: &Link, direction: Direction) -> Result<TcLink, Refused> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let otherwise = |error: &ProgramError| Refused::Otherwise(tc_error(error, link, direction));
    let id = match program.attach_with_options(&link.name, attach_type(direction), options) {
        Ok(id) => id,
        // Kernels before 6.6 do not know the attach type; later ones may be built without (CONFIG_NET_XGRESS).
        Err(error) if matches!(os_error(&error), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            return Err(Refused::NoTcx);
        }
        Err(error) => return Err(otherwise(&error)),
    };
    let taken = program.take_link(id).map_err(|error| otherwise(&error))?;
    FdLink::try_from(taken).map(TcLink::Tcx).map_err(|_| Refused::NoTcx)
}

fn attach_filter(
    program: &mut SchedClassifier,
    link: &Link,
    direction: Direction,
    priority: u16,
) -> Result<SchedClassifierLinkId, ProgramError> {
    // The handle says whose it is, so that one left behind can be told from one in use.
    let handle = TcHandle::from(process::id());
    let options = NlOptions { priority, handle, classid: None };
    program.attach_with_options(&link.name, attach_type(direction), TcAttachOptions::Netlink(options))
}

fn attach_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

/// Removes our filters whose process is gone; returns whether there were any.
fn remove_left_behind(link: &Link, direction: Direction) -> Result<bool, KernelError> {
    let failed = |error: io::Error| io_error(&error, link, direction);
    let Filters { named, .. } = clsact::filters(link.index, direction).map_err(failed)?;
    let ours = |filter: &&Filter| {
        [false, true].iter().any(|details| filter.name == classifier_name(direction, *details))
    };
    let mut removed = false;
    for filter in named.iter().filter(ours) {
        if is_another_probe(filter.handle) {
            return Err(KernelError::Metered { interface: link.name.clone(), process: filter.handle });
        }
        clsact::remove_filter(link.index, direction, filter).map_err(failed)?;
        removed = true;
    }
    Ok(removed)
}

/// Whether that process runs the same program as this one, and is another.
fn is_another_probe(process: u32) -> bool {
    let name = |process: &str| fs::read_to_string(format!("/proc/{process}/comm")).ok();
    process != process::id() && name(&process.to_string()).is_some_and(|found| Some(found) == name("self"))
}

fn tc_error(error: &ProgramError, link: &Link, direction: Direction) -> KernelError {
    let number = match error {
        ProgramError::TcError(TcError::NetlinkError(error)) | ProgramError::NetlinkError(error) => {
            error.raw_os_error()
        }
        // The look-up of the name.
        ProgramError::TcError(TcError::IoError(error)) => error.raw_os_error(),
        error => os_error(error),
    };
    explain(number, &chain(error), link, direction)
}

fn io_error(error: &io::Error, link: &Link, direction: Direction) -> KernelError {
    explain(error.raw_os_error(), &error.to_string(), link, direction)
}

fn explain(number: Option<i32>, said: &str, link: &Link, direction: Direction) -> KernelError {
    match number {
        Some(libc::ENODEV | libc::ENXIO) => KernelError::NoInterface { interface: link.name.clone() },
        Some(libc::EPERM) => no_privilege(format!("attaching to interface {}", link.name)),
        Some(libc::ENOENT | libc::EOPNOTSUPP) => refused(
            link,
            direction,
            format!(
                "the kernel has no tc hook for it (modules sch_ingress and cls_bpf, or Linux 6.6): {said}"
            ),
        ),
        _ => refused(link, direction, said.to_owned()),
    }
}

fn refused(link: &Link, direction: Direction, reason: String) -> KernelError {
    let mode = match direction {
        Direction::Ingress => "tc (ingress)",
        Direction::Egress => "tc (egress)",
    };
    KernelError::Attach { interface: link.name.clone(), mode, reason }
}
