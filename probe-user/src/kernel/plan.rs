// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How an interface is to be metered, and where a program came to be.

use std::fmt;

use probe_common::Direction;

use crate::net::Role;

/// Where in the kernel the program is to meter what comes in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum XdpMode {
    /// What fits the interface and its role best.
    #[default]
    Auto,
    /// In the driver, before the kernel allocates anything for the packet.
    Native,
    /// In the stack, by generic XDP: works with every interface, at several times the cost.
    Generic,
    /// In the stack, at the tc hook: what goes on to the host can be metered there, nothing can be dropped.
    Tc,
}

/// Which packets of a host's own interface are metered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Directions {
    /// Each packet once: what comes in, and what goes out unless it came in on a metered interface.
    #[default]
    Once,
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
    /// What comes in and what goes out, whether or not it was metered before.
    Both,
}

impl Directions {
    /// Whether what comes in is metered.
    #[must_use]
    pub fn ingress(self) -> bool {
        self != Self::Egress
    }

    /// Whether what goes out is metered.
    #[must_use]
    pub fn egress(self) -> bool {
        self != Self::Ingress
    }
}

/// How an interface is to be metered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttachPlan {
    /// What becomes of its packets. Of a mirror port nothing but what comes in is metered.
    pub role: Role,
    /// Where what comes in is metered.
    pub mode: XdpMode,
    /// Which packets of a host's own interface.
    pub directions: Directions,
    /// Whether tc programs may be BPF links (tcx, Linux 6.6). Without, they are filters of a clsact qdisc, as on
    /// older kernels.
    pub tcx: bool,
}

impl AttachPlan {
    /// A plan that leaves the choice to the probe.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self { role, mode: XdpMode::Auto, directions: Directions::Once, tcx: true }
    }
}

/// Where a program came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// XDP in the driver.
    Native,
    /// XDP in the stack.
    Generic,
    /// The tc hook, by a BPF link.
    Tcx,
    /// The tc hook, by a filter of the clsact qdisc.
    Clsact,
}

impl Hook {
    /// Name in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native XDP",
            Self::Generic => "generic XDP",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// The word for one way through an interface, in messages.
pub(super) fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
