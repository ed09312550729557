// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `HOST`, `HOST:PORT`, `[IPV6]:PORT`.

use std::net::Ipv6Addr;

/// Host (IPv6 without brackets) and port.
pub(super) fn split(authority: &str, default_port: u16) -> Result<(String, u16), &'static str> {
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or("']' is missing")?;
        let address: Ipv6Addr = host.parse().map_err(|_| "what stands in brackets is not an IPv6 address")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err("after ']' only ':PORT' may follow"),
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if port.is_some_and(|port| port.contains(':')) {
            return Err("an IPv6 address needs brackets");
        }
        if host.is_empty() {
            return Err("the host is missing");
        }
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err("the host holds a character that no host name has");
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port {
        None => default_port,
        Some(port) => {
            port.parse().ok().filter(|port| *port != 0).ok_or("the port is not a number from 1 to 65535")?
        }
    };
    Ok((host, port))
}
