// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a collector was not understood.

/// Each says what is possible.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    /// Another protocol.
    #[error(
        "collector '{url}': scheme '{scheme}' is not known; known are v1, v5, v7, v9, ipfix, ipfix+tcp, ipfix+tls, ipfix+sctp and ipfix+file, as in v5://192.0.2.10:2055"
    )]
    Scheme {
        /// As given.
        url: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// No such option, or not for this protocol.
    #[error("collector '{url}': option '{key}' is not known here; {scheme} knows {known}")]
    Key {
        /// As given.
        url: String,
        /// The unknown key.
        key: String,
        /// The scheme.
        scheme: String,
        /// The keys that it knows.
        known: String,
    },
    /// An option with a value out of range, or given twice.
    #[error("collector '{url}': {key}={value} is not possible; {expected}")]
    Value {
        /// As given.
        url: String,
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// No host, or not one.
    #[error("collector '{url}': {problem}; write HOST, HOST:PORT or [IPV6]:PORT, as in v5://192.0.2.10:2055")]
    Host {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No path, or not one.
    #[error(
        "collector '{url}': {problem}; write ipfix+file:///DIRECTORY, as in ipfix+file:///var/lib/flowprobe/ipfix"
    )]
    Path {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
