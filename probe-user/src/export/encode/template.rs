// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What describes records: templates and options templates, as sets that are ready to send.
//!
//! ```text
//! set                      id 2, length 2, contents, (v9) padding to 4
//! template                 id 2, fields 2, (element 2, length 2, [enterprise 4])…
//! options template, IPFIX  id 2, fields 2, scope fields 2, (element …)…    RFC 7011 section 3.4.2.2
//! options template, v9     id 2, scope octets 2, other octets 2, (type 2, length 2)…    RFC 3954 section 6.1
//! ```

/// Octets of a set's header.
pub(super) const SET_HEADER: usize = 4;

const ENTERPRISE_BIT: u16 = 1 << 15;

/// Which of the two formats with templates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    V9,
    Ipfix,
}

impl Dialect {
    pub(super) fn template_set(self) -> u16 {
        match self {
            Self::V9 => 0,
            Self::Ipfix => 2,
        }
    }

    pub(super) fn options_template_set(self) -> u16 {
        self.template_set() + 1
    }

    /// Sets end at a multiple of this. In IPFIX padding is allowed and pointless.
    pub(super) const fn alignment(self) -> usize {
        match self {
            Self::V9 => 4,
            Self::Ipfix => 1,
        }
    }
}

/// One field of a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spec {
    pub(super) id: u16,
    pub(super) len: u16,
    /// Private enterprise number; 0: IANA's.
    pub(super) enterprise: u32,
}

impl Spec {
    pub(super) const fn new(id: u16, len: u16) -> Self {
        Self { id, len, enterprise: 0 }
    }

    fn write(self, out: &mut Vec<u8>) {
        let bit = if self.enterprise == 0 { 0 } else { ENTERPRISE_BIT };
        out.extend((self.id | bit).to_be_bytes());
        out.extend(self.len.to_be_bytes());
        if self.enterprise != 0 {
            out.extend(self.enterprise.to_be_bytes());
        }
    }
}

fn count(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// Contents as a set of its own.
pub(super) fn set(dialect: Dialect, id: u16, contents: &[u8]) -> Vec<u8> {
    let len = (SET_HEADER + contents.len()).next_multiple_of(dialect.alignment());
    let mut set = Vec::with_capacity(len);
    set.extend(id.to_be_bytes());
    set.extend(count(len));
    set.extend(contents);
    set.resize(len, 0);
    set
}

/// A template in a set of its own.
pub(super) fn template(dialect: Dialect, id: u16, fields: &[Spec]) -> Vec<u8> {
    let mut contents = Vec::new();
    contents.extend(id.to_be_bytes());
    contents.extend(count(fields.len()));
    fields.iter().for_each(|field| field.write(&mut contents));
    set(dialect, dialect.template_set(), &contents)
}

/// An options template in a set of its own: nfcapd reads only one of a set.
pub(super) fn options_template(dialect: Dialect, id: u16, scope: Spec, fields: &[Spec]) -> Vec<u8> {
    let mut contents = Vec::new();
    contents.extend(id.to_be_bytes());
    match dialect {
        Dialect::V9 => {
            contents.extend(count(4));
            contents.extend(count(4 * fields.len()));
        }
        Dialect::Ipfix => {
            contents.extend(count(1 + fields.len()));
            contents.extend(count(1));
        }
    }
    scope.write(&mut contents);
    fields.iter().for_each(|field| field.write(&mut contents));
    set(dialect, dialect.options_template_set(), &contents)
}
