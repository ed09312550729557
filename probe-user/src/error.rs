// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why the probe ended, and the exit status that says so.

use std::{error::Error, fmt, process::ExitCode};

use crate::kernel::KernelError;

/// What kind of failure it was; decides the exit status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Failed while running: exit status 1.
    Run,
    /// Wrong usage or configuration: exit status 2.
    Usage,
    /// The host cannot do it (no such interface, no privilege, no XDP): exit status 3.
    Host,
}

/// An error for the operator: what was attempted on what, why it failed, what to do next.
#[derive(Debug)]
pub struct ProbeError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

impl ProbeError {
    /// Something failed while running.
    #[must_use]
    pub fn run(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Run, message.into())
    }

    /// Wrong usage or configuration.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message.into())
    }

    /// The host cannot do it.
    #[must_use]
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Host, message.into())
    }

    fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, message, source: None, hint: None }
    }

    /// Adds why: an error, or a text.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self.kind {
            ErrorKind::Run => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Host => 3,
        }
    }

    /// The exit status, for `main`.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_status())
    }

    /// The lines for the terminal: `error: what: why: why`, and `hint: what to do`.
    #[must_use]
    pub fn report(&self) -> String {
        match &self.hint {
            Some(hint) => format!("error: {}\n  hint: {hint}", self.explanation()),
            None => format!("error: {}", self.explanation()),
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What failed and why: `what: why: why`.
    #[must_use]
    pub fn explanation(&self) -> String {
        let mut text = self.message.clone();
        let mut said = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let message = error.to_string();
            // Some libraries repeat their source in their own message.
            if !said.ends_with(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            said = message;
            cause = error.source();
        }
        text
    }
}

impl From<KernelError> for ProbeError {
    fn from(error: KernelError) -> Self {
        let message = error.to_string();
        if error.is_host() { Self::host(message) } else { Self::run(message) }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ProbeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn reports_the_chain_once_and_the_hint() {
        let error = ProbeError::host("cannot attach to eth1")
            .because(ProbeError::run("loading the program failed").because(io::Error::from_raw_os_error(1)))
            .hint("run as root");
        assert_eq!(
            error.report(),
            "error: cannot attach to eth1: loading the program failed: Operation not permitted (os error 1)\n  \
             hint: run as root"
        );
        assert_eq!(error.exit_status(), 3);
    }

    #[test]
    fn does_not_repeat_a_cause_that_the_message_ends_with() {
        let error = ProbeError::run("open failed: Permission denied (os error 13)")
            .because(io::Error::from_raw_os_error(13));
        assert_eq!(error.report(), "error: open failed: Permission denied (os error 13)");
    }
}
