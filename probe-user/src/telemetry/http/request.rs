// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A request's bytes, read as far as needed: method and path.

use super::{Reply, Routes};

/// Longest request head.
pub(super) const MAX_REQUEST: usize = 8 * 1024;
/// Scrapers send a handful; 64 leave room for proxies.
const MAX_HEADERS: usize = 64;

/// What a request asks for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// More bytes are needed.
    Partial,
    /// A method and a path without its query; whether only the head is wanted.
    Path { path: String, head_only: bool },
    /// Refused with this status.
    Refused(u16),
}

impl Request {
    /// Reads what has arrived so far.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Partial) if bytes.len() >= MAX_REQUEST => Self::Refused(431),
            Ok(httparse::Status::Partial) => Self::Partial,
            Err(httparse::Error::TooManyHeaders) => Self::Refused(431),
            Err(httparse::Error::Version) => Self::Refused(505),
            Err(_) => Self::Refused(400),
            Ok(httparse::Status::Complete(_)) => {
                let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
                match method {
                    "GET" | "HEAD" => {
                        Self::Path { path: path_of(target).into(), head_only: method == "HEAD" }
                    }
                    _ => Self::Refused(405),
                }
            }
        }
    }

    /// The bytes to answer with; none while more of the request is to come.
    pub(super) fn answer(&self, routes: &Routes) -> Option<Vec<u8>> {
        match self {
            Self::Partial => None,
            Self::Refused(status) => Some(response(&Reply::text(*status, phrase(*status)), false)),
            Self::Path { path, head_only } => {
                let reply = match path.as_str() {
                    "/metrics" => (routes.metrics)(),
                    "/healthz" => (routes.healthz)(),
                    "/readyz" => (routes.readyz)(),
                    _ => Reply::text(404, "not found: there are /metrics, /healthz and /readyz"),
                };
                Some(response(&reply, *head_only))
            }
        }
    }
}

/// The path of a request target, which may be a whole URL (RFC 9112 section 3.2.2).
fn path_of(target: &str) -> &str {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    path.split(['?', '#']).next().unwrap_or(path)
}

fn response(reply: &Reply, head_only: bool) -> Vec<u8> {
    let Reply { status, content_type, body } = reply;
    let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        phrase(*status),
        body.len()
    )
    .into_bytes();
    if !head_only {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_request_however_it_is_cut() {
        let whole = b"GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(Request::parse(&whole[..cut]), Request::Partial, "{cut}");
        }
        assert_eq!(Request::parse(whole), Request::Path { path: "/metrics".into(), head_only: false });
    }

    #[test]
    fn refuses_what_is_not_for_it() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_REQUEST));
        for (bytes, status) in [
            ("POST /metrics HTTP/1.1\r\n\r\n", 405),
            ("BREW /metrics HTTP/1.1\r\n\r\n", 405),
            ("GET /metrics HTTP/3.0\r\n\r\n", 505),
            ("\x16\x03\x01\x02", 400),
            (many.as_str(), 431),
            (long.as_str(), 431),
        ] {
            assert_eq!(Request::parse(bytes.as_bytes()), Request::Refused(status), "{bytes:.30}");
        }
    }

    #[test]
    fn takes_the_path_out_of_a_url() {
        for (target, path) in
            [("/a?b", "/a"), ("http://h:1/a", "/a"), ("http://h", "/"), ("*", "*"), ("/a#b", "/a"), ("", "")]
        {
            assert_eq!(path_of(target), path);
        }
    }
}
