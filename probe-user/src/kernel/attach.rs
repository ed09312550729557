// SPDX-License-Identifier: Apache-2.0 OR MIT
//! program → interface. The attachment is a BPF link: the kernel undoes it when the probe ends, however
//! it ends.

use aya::programs::{ProgramError, Xdp, XdpMode as AyaMode, links::FdLink};

use super::{
    KernelError,
    refusal::{chain, no_privilege, os_error},
};

/// Where in the kernel the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// Native where the driver can, else generic.
    Auto,
    /// In the driver, before the kernel allocates anything for the packet.
    Native,
    /// In the stack: works with every interface, at several times the cost.
    Generic,
}

impl XdpMode {
    /// Name on the command line and in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// A program on an interface. Detached on drop.
#[derive(Debug)]
pub struct Attachment {
    mode: XdpMode,
    why_not_native: Option<String>,
    _link: FdLink,
}

impl Attachment {
    pub(super) fn attach(
        program: &mut Xdp,
        interface: &str,
        index: u32,
        mode: XdpMode,
    ) -> Result<Self, KernelError> {
        let native = |program: &mut Xdp| link(program, interface, index, XdpMode::Native);
        let generic = |program: &mut Xdp| link(program, interface, index, XdpMode::Generic);
        match mode {
            XdpMode::Native => Ok(Self { mode, why_not_native: None, _link: native(program)? }),
            XdpMode::Generic => Ok(Self { mode, why_not_native: None, _link: generic(program)? }),
            XdpMode::Auto => match native(program) {
                Ok(link) => Ok(Self { mode: XdpMode::Native, why_not_native: None, _link: link }),
                Err(KernelError::Attach { reason, .. }) => Ok(Self {
                    mode: XdpMode::Generic,
                    why_not_native: Some(reason),
                    _link: generic(program)?,
                }),
                Err(error) => Err(error),
            },
        }
    }

    /// The mode it got.
    #[must_use]
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// Why the driver did not take it, when `auto` fell back to generic mode.
    #[must_use]
    pub fn why_not_native(&self) -> Option<&str> {
        self.why_not_native.as_deref()
    }
}

fn link(program: &mut Xdp, interface: &str, index: u32, mode: XdpMode) -> Result<FdLink, KernelError> {
    let flags = if mode == XdpMode::Native { AyaMode::Driver } else { AyaMode::Skb };
    let id =
        program.attach_to_if_index(index, flags).map_err(|error| attach_error(&error, interface, mode))?;
    let link = program.take_link(id).map_err(|error| attach_error(&error, interface, mode))?;
    // aya falls back to netlink where links are refused; such an attachment would outlive a crash.
    FdLink::try_from(link).map_err(|_| KernelError::Attach {
        interface: interface.to_owned(),
        mode: mode.name(),
        reason: "the kernel offers no BPF link for XDP (Linux 5.9 and later do)".to_owned(),
    })
}

fn attach_error(error: &ProgramError, interface: &str, mode: XdpMode) -> KernelError {
    let interface = interface.to_owned();
    let reason = match os_error(error) {
        Some(libc::ENODEV) => return KernelError::NoInterface { interface },
        Some(libc::EBUSY | libc::EEXIST) => return KernelError::Busy { interface },
        Some(libc::EPERM) => {
            return no_privilege(format!("attaching to interface {interface}"));
        }
        Some(libc::EOPNOTSUPP) => "its driver has no native XDP".to_owned(),
        Some(libc::ERANGE | libc::E2BIG) => {
            "its MTU is too large for XDP without multi-buffer support; lower the MTU".to_owned()
        }
        Some(libc::EINVAL) => format!(
            "the driver refused (often the MTU, LRO or the number of queues: `dmesg | tail` may say): {}",
            chain(error)
        ),
        _ => chain(error),
    };
    KernelError::Attach { interface, mode: mode.name(), reason }
}
