// SPDX-License-Identifier: Apache-2.0 OR MIT
//! XDP program → interface. The attachment is a BPF link: the kernel undoes it when the probe ends, however it ends.

use aya::{
    Ebpf,
    programs::{ProgramError, XdpMode as AyaMode, links::FdLink},
};

use super::{
    Hook, KernelError,
    programs::{xdp, xdp_name},
    refusal::{chain, no_privilege, os_error},
};
use crate::net::{Link, Role};

/// Every driver takes packets of this size in one buffer.
const ORDINARY_MTU: u32 = 1500;

/// An XDP program on an interface. Detached on drop.
#[derive(Debug)]
pub(super) struct XdpLink {
    pub(super) hook: Hook,
    /// Whether it is the program for frames of several buffers.
    pub(super) frags: bool,
    _link: FdLink,
}

impl XdpLink {
    /// Attaches in the driver: the program for frames of one buffer if it takes that, else the other.
    pub(super) fn native(
        ebpf: &mut Ebpf,
        details: bool,
        link: &Link,
        role: Role,
    ) -> Result<Self, KernelError> {
        let attempt = |ebpf: &mut Ebpf, frags| Self::attach(ebpf, details, link, role, Hook::Native, frags);
        let refusal = match attempt(ebpf, false) {
            Err(KernelError::Attach { reason, .. }) if link.mtu > ORDINARY_MTU => reason,
            other => return other,
        };
        // Drivers say no to a large MTU with ERANGE, EINVAL, E2BIG or EOPNOTSUPP: nothing that would tell it from
        // another no.
        attempt(ebpf, true).map_err(|error| match error {
            KernelError::Attach { interface, mode, .. } => {
                KernelError::Attach { interface, mode, reason: refusal }
            }
            KernelError::Load { .. } => KernelError::Attach {
                interface: link.name.clone(),
                mode: Hook::Native.name(),
                reason: format!(
                    "{refusal}; and the kernel knows no XDP programs for frames of several buffers (Linux 5.18 and later do)"
                ),
            },
            error => error,
        })
    }

    /// Attaches in the stack, where every packet is made to lie in one buffer first.
    pub(super) fn generic(
        ebpf: &mut Ebpf,
        details: bool,
        link: &Link,
        role: Role,
    ) -> Result<Self, KernelError> {
        Self::attach(ebpf, details, link, role, Hook::Generic, false)
    }

    fn attach(
        ebpf: &mut Ebpf,
        details: bool,
        link: &Link,
        role: Role,
        hook: Hook,
        frags: bool,
    ) -> Result<Self, KernelError> {
        let failed = |error: &ProgramError| attach_error(error, link, hook);
        let program = xdp(ebpf, xdp_name(role, details, frags))?;
        let mode = if hook == Hook::Native { AyaMode::Driver } else { AyaMode::Skb };
        let id = program.attach_to_if_index(link.index, mode).map_err(|error| failed(&error))?;
        let taken = program.take_link(id).map_err(|error| failed(&error))?;
        // aya falls back to netlink where links are refused; such an attachment would outlive a crash.
        let held = FdLink::try_from(taken).map_err(|_| KernelError::Attach {
            interface: link.name.clone(),
            mode: hook.name(),
            reason: "the kernel offers no BPF link for XDP (Linux 5.9 and later do)".to_owned(),
        })?;
        Ok(Self { hook, frags, _link: held })
    }
}

fn attach_error(error: &ProgramError, link: &Link, hook: Hook) -> KernelError {
    let interface = link.name.clone();
    let reason = match os_error(error) {
        Some(libc::ENODEV) => return KernelError::NoInterface { interface },
        Some(libc::EBUSY | libc::EEXIST) => return KernelError::Busy { interface },
        Some(libc::EPERM) => {
            return no_privilege(format!("attaching to interface {interface}"));
        }
        Some(libc::EOPNOTSUPP) => "its driver has no native XDP".to_owned(),
        Some(libc::ERANGE | libc::E2BIG) => {
            format!("its MTU of {} is too large for XDP in this driver; lower the MTU", link.mtu)
        }
        Some(libc::EINVAL) => format!(
            "the driver refused (often the MTU, here {}, LRO or the number of queues: `dmesg | tail` may say): {}",
            link.mtu,
            chain(error)
        ),
        _ => chain(error),
    };
    KernelError::Attach { interface, mode: hook.name(), reason }
}
