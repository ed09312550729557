// SPDX-License-Identifier: Apache-2.0 OR MIT
//! programs → interface: where its packets are metered, both ways, and why there.

use std::fmt;

use aya::Ebpf;
use probe_common::Direction;

use super::{
    AttachPlan, Hook, KernelError, XdpMode,
    programs::{classifier, classifier_name, xdp, xdp_name},
    tc_link::TcLinks,
    xdp_link::XdpLink,
};
use crate::net::{self, Link, Promiscuous, Role};

const TC_IN_TAP_ROLE: &str = "--xdp-mode tc does not go with the role of a mirror port: at the tc hook nothing can be dropped before the host's stack has it; use --xdp-mode native, generic or auto, or --role host";
const EGRESS_IN_TAP_ROLE: &str = "--direction egress does not go with the role of a mirror port, where packets only come in; use --role host, or another direction";

/// The programs on an interface. All are detached on drop.
#[derive(Debug)]
pub struct Attachment {
    xdp: Option<XdpLink>,
    tc: TcLinks,
    role: Role,
    ingress: Option<Hook>,
    egress: Option<Hook>,
    why_not_native: Option<String>,
    warnings: Vec<String>,
    /// The NIC of a mirror port passes on what is addressed to others as long as this is held.
    promiscuous: Option<Promiscuous>,
}

impl Attachment {
    /// Where packets are metered: those that come in, or where these are not, those that go out.
    #[must_use]
    pub fn mode(&self) -> Hook {
        // One of them is set: there is no plan without.
        self.ingress.or(self.egress).unwrap_or(Hook::Generic)
    }

    /// Where packets that come in are metered, if they are.
    #[must_use]
    pub fn ingress(&self) -> Option<Hook> {
        self.ingress
    }

    /// Where packets that go out are metered, if they are.
    #[must_use]
    pub fn egress(&self) -> Option<Hook> {
        self.egress
    }

    /// Whether the XDP program is the one for frames that lie in several buffers.
    #[must_use]
    pub fn multi_buffer(&self) -> bool {
        self.xdp.as_ref().is_some_and(|xdp| xdp.frags)
    }

    /// Why what comes in is not metered by native XDP, when the choice was left to the probe; the end of a sentence
    /// that begins with "because".
    #[must_use]
    pub fn why_not_native(&self) -> Option<&str> {
        self.why_not_native.as_deref()
    }

    /// What the operator should know of it: whole sentences.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        warnings.extend(self.tc.warnings.iter().cloned());
        if let (Some(Hook::Generic), Some(why)) = (self.ingress, &self.why_not_native) {
            warnings.push(format!(
                "generic XDP, because {why}; the kernel builds a socket buffer for each packet first, which costs several times as much CPU"
            ));
        }
        if (self.ingress, self.role) == (Some(Hook::Generic), Role::Host) {
            // An XDP program is not told of how many segments a socket buffer consists (`struct xdp_md`); those that came
            // one by one are left so (`netif_elide_gro`).
            warnings.push(
                "generic XDP counts TCP segments that a virtual machine or container of this host sends in one buffer as one packet; --xdp-mode tc counts them one by one".to_owned(),
            );
        }
        warnings
    }
}

/// "native XDP with frames of several buffers (ingress), tcx (egress)".
impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = if self.multi_buffer() { " for frames of several buffers" } else { "" };
        match (self.ingress, self.egress) {
            (Some(ingress), Some(egress)) if ingress == egress => write!(f, "{ingress} (ingress and egress)"),
            (Some(ingress), Some(egress)) => write!(f, "{ingress}{several} (ingress), {egress} (egress)"),
            (Some(ingress), None) if self.role == Role::Host => write!(f, "{ingress}{several} (ingress)"),
            (Some(ingress), None) => write!(f, "{ingress}{several}"),
            (None, Some(egress)) => write!(f, "{egress} (egress)"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// What a plan says of an interface.
struct Wanted {
    ingress: bool,
    egress: bool,
    /// Why XDP in the driver is not even tried, where the choice is ours.
    not_native: Option<&'static str>,
}

impl Wanted {
    fn of(link: &Link, plan: AttachPlan) -> Result<Self, KernelError> {
        let refuse = |why| Err(KernelError::Plan { interface: link.name.clone(), why });
        match plan.role {
            Role::Tap if plan.mode == XdpMode::Tc => refuse(TC_IN_TAP_ROLE),
            Role::Tap if !plan.directions.ingress() => refuse(EGRESS_IN_TAP_ROLE),
            Role::Tap => Ok(Self { ingress: true, egress: false, not_native: None }),
            Role::Host => {
                // What the loopback interface sends, it receives: once is once.
                let twice = link.loopback && plan.directions == super::Directions::Once;
                Ok(Self {
                    ingress: plan.directions.ingress(),
                    egress: plan.directions.egress() && !twice,
                    not_native: link.kind.why_not_native().filter(|_| plan.mode == XdpMode::Auto),
                })
            }
        }
    }

    /// Whether the first attempt for what comes in is at the tc hook.
    fn ingress_at_tc(&self, plan: AttachPlan) -> bool {
        plan.mode == XdpMode::Tc || self.not_native.is_some()
    }
}

/// Has the kernel verify the programs that will be tried first.
pub(super) fn prepare(
    ebpf: &mut Ebpf,
    details: bool,
    link: &Link,
    plan: AttachPlan,
) -> Result<(), KernelError> {
    let wanted = Wanted::of(link, plan)?;
    if wanted.ingress && !wanted.ingress_at_tc(plan) {
        xdp(ebpf, xdp_name(plan.role, details, false))?;
    } else if wanted.ingress {
        classifier(ebpf, classifier_name(Direction::Ingress, details))?;
    }
    if wanted.egress {
        classifier(ebpf, classifier_name(Direction::Egress, details))?;
    }
    Ok(())
}

/// Attaches what a plan says.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    details: bool,
    link: &Link,
    plan: AttachPlan,
) -> Result<Attachment, KernelError> {
    let wanted = Wanted::of(link, plan)?;
    let mut made = Attachment {
        xdp: None,
        tc: TcLinks::default(),
        role: plan.role,
        ingress: None,
        egress: None,
        why_not_native: wanted.not_native.map(str::to_owned),
        warnings: Vec::new(),
        promiscuous: None,
    };
    if wanted.ingress {
        if !wanted.ingress_at_tc(plan) {
            made.attach_xdp(ebpf, details, link, plan)?;
        }
        if made.xdp.is_none() {
            made.ingress = Some(made.tc.attach(ebpf, details, link, Direction::Ingress, plan.tcx)?);
        }
    }
    if wanted.egress {
        made.egress = Some(made.tc.attach(ebpf, details, link, Direction::Egress, plan.tcx)?);
    }
    if plan.role == Role::Tap {
        match Promiscuous::set(link.index) {
            Ok(held) => made.promiscuous = Some(held),
            Err(error) => made.warnings.push(format!(
                "it cannot be put into promiscuous mode ({error}), so the NIC may drop what is not addressed to it; run with CAP_NET_RAW, or `ip link set dev {} promisc on`",
                link.name
            )),
        }
    }
    made.warnings.extend(match made.ingress {
        Some(Hook::Native | Hook::Generic) => net::hidden_from_xdp(link),
        Some(Hook::Tcx | Hook::Clsact) => net::hidden_from_the_stack(link),
        None => Vec::new(),
    });
    Ok(made)
}

impl Attachment {
    /// Attaches to XDP, or notes why the tc hook is to be used instead.
    fn attach_xdp(
        &mut self,
        ebpf: &mut Ebpf,
        details: bool,
        link: &Link,
        plan: AttachPlan,
    ) -> Result<(), KernelError> {
        let native = |ebpf: &mut Ebpf| XdpLink::native(ebpf, details, link, plan.role);
        let generic = |ebpf: &mut Ebpf| XdpLink::generic(ebpf, details, link, plan.role);
        let attached = match (plan.mode, plan.role) {
            (XdpMode::Native, _) => native(ebpf)?,
            (XdpMode::Generic, _) => generic(ebpf)?,
            (XdpMode::Auto | XdpMode::Tc, role) => match (native(ebpf), role) {
                (Ok(attached), _) => attached,
                (Err(KernelError::Attach { reason, .. }), Role::Tap) => {
                    self.why_not_native = Some(reason);
                    generic(ebpf)?
                }
                // The tc hook costs less than generic XDP, which has each packet copied into one buffer, and it is
                // told how many packets a buffer stands for.
                (Err(KernelError::Attach { reason, .. }), Role::Host) => {
                    self.why_not_native = Some(reason);
                    return Ok(());
                }
                (Err(KernelError::Busy { .. }), Role::Host) => {
                    self.why_not_native = Some("another XDP program is attached there".to_owned());
                    self.warnings.push(
                        "another XDP program is attached there: packets that it drops or sends elsewhere are not seen"
                            .to_owned(),
                    );
                    return Ok(());
                }
                (Err(error), _) => return Err(error),
            },
        };
        self.ingress = Some(attached.hook);
        self.xdp = Some(attached);
        Ok(())
    }
}
