// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the object lacks or the kernel refuses, as errors for the operator.

use aya::{
    Ebpf,
    maps::{Map, MapError},
    programs::ProgramError,
};

use super::{KernelError, privilege};

/// A map of the object; each can be taken once.
pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or_else(|| mismatch(name))
}

/// The object lacks something.
pub(super) fn mismatch(what: &str) -> KernelError {
    KernelError::Mismatch { what: what.to_owned() }
}

/// A map refused a change.
pub(super) fn map_refused(attempted: &'static str, error: MapError) -> KernelError {
    KernelError::Call { attempted, error: std::io::Error::other(chain(&error)) }
}

/// Whether a map refused because there is no such key.
pub(super) fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
        || os_error(error) == Some(libc::ENOENT)
}

/// The verifier refused a program.
pub(super) fn program_error(error: &ProgramError, program: &str) -> KernelError {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        // The verifier answers EACCES to what it would take from somebody with CAP_PERFMON.
        if matches!(io_error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
            && !privilege::missing().is_empty()
        {
            return no_privilege(format!("loading the kernel program {program}"));
        }
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n");
        return KernelError::Load { reason: format!("{program}: {io_error}"), detail: format!("\n{tail}") };
    }
    KernelError::Load { reason: format!("{program}: {}", chain(error)), detail: String::new() }
}

/// Lack of privilege, with the capabilities that are missing.
pub(super) fn no_privilege(attempted: impl Into<String>) -> KernelError {
    KernelError::NoPrivilege { attempted: attempted.into(), missing: privilege::missing().join(", ") }
}

/// The operating system's error number at the bottom of a chain.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(number) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Some(number);
        }
        next = error.source();
    }
    None
}

/// An error and its causes in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
