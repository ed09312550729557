// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel program logs, in builds with the feature `kernel-log`; nothing otherwise.

use aya::Ebpf;

use super::KernelError;

#[cfg(feature = "kernel-log")]
mod with_log {
    use super::{Ebpf, KernelError};
    use log::{Log, Metadata, Record};

    /// Hands records on to our own log.
    struct ToTracing;

    impl Log for ToTracing {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            tracing::debug!("kernel program: {}", record.args());
        }

        fn flush(&self) {}
    }

    /// Reader of the program's log.
    pub(in crate::kernel) struct KernelLog(aya_log::EbpfLogger<ToTracing>);

    impl KernelLog {
        pub(in crate::kernel) fn open(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
            aya_log::EbpfLogger::init_with_logger(ebpf, ToTracing).map(Self).map_err(|error| {
                KernelError::Mismatch { what: format!("its log ({error}), which this build was to show") }
            })
        }

        pub(in crate::kernel) fn show(&mut self) {
            self.0.flush();
        }
    }
}

#[cfg(not(feature = "kernel-log"))]
mod without_log {
    use super::{Ebpf, KernelError};

    /// Stands for the reader in builds without it.
    pub(in crate::kernel) struct KernelLog;

    impl KernelLog {
        pub(in crate::kernel) fn open(_: &mut Ebpf) -> Result<Self, KernelError> {
            Ok(Self)
        }

        #[allow(clippy::unused_self, reason = "the same shape as with the feature")]
        pub(in crate::kernel) fn show(&mut self) {}
    }
}

#[cfg(feature = "kernel-log")]
pub(super) use with_log::KernelLog;
#[cfg(not(feature = "kernel-log"))]
pub(super) use without_log::KernelLog;
