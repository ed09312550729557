// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `--socket`: where a running probe is asked.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The control socket unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/flowprobe/control.sock";

/// Longest path of a Unix socket: `sun_path` in include/uapi/linux/un.h, with the NUL at its end.
const LONGEST: usize = 107;

/// Where the control socket of a probe is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SocketPath {
    /// At [`DEFAULT_SOCKET`] if that is possible, else nowhere.
    Auto,
    /// Nowhere.
    None,
    /// Here, or the probe does not start.
    At(PathBuf),
}

impl FromStr for SocketPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            _ => parse_socket(text).map(Self::At),
        }
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::At(path) => path.display().fmt(f),
        }
    }
}

/// Where a command finds the probe. `PROBE_SOCKET` serves the probe and the commands, so `auto` is known here too.
pub(super) fn parse_client_socket(text: &str) -> Result<PathBuf, String> {
    match text.parse()? {
        SocketPath::Auto => Ok(DEFAULT_SOCKET.into()),
        SocketPath::At(path) => Ok(path),
        SocketPath::None => {
            Err("a probe with --socket none cannot be asked: give the path of a socket".into())
        }
    }
}

fn parse_socket(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if text.len() > LONGEST {
        return Err(format!(
            "the path of a socket has at most {LONGEST} octets, this one has {}",
            text.len()
        ));
    }
    if text.contains('\0') || text.ends_with('/') || path.file_name().is_none() {
        return Err(
            "allowed are auto, none, or the path of a socket, such as /run/flowprobe/control.sock".into()
        );
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths_and_shows_them_in_the_same_form() {
        for text in ["auto", "none", "/run/a.sock", "./none"] {
            assert_eq!(text.parse::<SocketPath>().unwrap().to_string(), text);
        }
        let long = format!("/{}", "x".repeat(LONGEST));
        for text in ["", "/", "..", "/run/", "a\0b", long.as_str()] {
            assert!(text.parse::<SocketPath>().is_err(), "{text}");
        }
        assert!(format!("/{}", "x".repeat(LONGEST - 1)).parse::<SocketPath>().is_ok());
    }

    #[test]
    fn a_command_asks_where_the_probe_listens() {
        assert_eq!(parse_client_socket("auto"), Ok(DEFAULT_SOCKET.into()));
        assert_eq!(parse_client_socket("/a"), Ok("/a".into()));
        assert!(parse_client_socket("none").unwrap_err().contains("cannot be asked"));
    }
}
