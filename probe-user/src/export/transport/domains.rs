// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The observation domains of one session: which of them have had their templates, and where their sequences
//! begin.
//!
//! Encoders count data records from the start of the probe. A session counts from its own start (RFC 7011
//! section 3.1), so each message is changed on its way: what was sent before the session is subtracted. Messages
//! that the ring lost in between stay visible as a gap.

/// Length of the message header, and where its fields are (RFC 7011 section 3.1).
const HEADER: usize = 16;
const LENGTH: usize = 2;
const SEQUENCE: usize = 8;
const DOMAIN: usize = 12;

#[derive(Clone, Copy, Debug)]
struct Domain {
    id: u32,
    /// Sequence of its first message with records.
    first: Option<u32>,
}

/// See the module. There are as many domains as a stream has, so few that they are searched one by one.
#[derive(Default, Debug)]
pub(super) struct Domains {
    known: Vec<Domain>,
    last: usize,
}

fn word(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Takes the first message off, which ends where its length says.
fn split_first(octets: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let length = octets.get(LENGTH..LENGTH + 2)?.try_into().ok().map(u16::from_be_bytes)?;
    let length = usize::from(length);
    (length >= HEADER && length <= octets.len()).then(|| octets.split_at_mut(length))
}

impl Domains {
    /// A new session begins.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.last = 0;
    }

    fn find(&mut self, id: u32) -> Option<&mut Domain> {
        if self.known.get(self.last).is_none_or(|domain| domain.id != id) {
            self.last = self.known.iter().position(|domain| domain.id == id)?;
        }
        self.known.get_mut(self.last)
    }

    /// Whether the templates of the message's domain have been sent in this session.
    pub(super) fn knows(&mut self, message: &[u8]) -> bool {
        // What is no IPFIX message cannot be helped by templates.
        word(message, DOMAIN).is_none_or(|id| self.find(id).is_some())
    }

    /// Gives `each` the messages of `preamble` whose domains are new to the session. They carry the sequence 0:
    /// no record of their domain was sent before.
    pub(super) fn introduce(&mut self, preamble: &mut [u8], mut each: impl FnMut(&[u8])) {
        let before = self.known.len();
        let mut rest = preamble;
        while let Some((message, after)) = split_first(rest) {
            rest = after;
            let Some(id) = word(message, DOMAIN) else { break };
            match self.known.iter().position(|domain| domain.id == id) {
                // Sent when it was introduced.
                Some(index) if index < before => continue,
                Some(_) => {}
                None => self.known.push(Domain { id, first: None }),
            }
            message[SEQUENCE..SEQUENCE + 4].fill(0);
            each(message);
        }
    }

    /// The message's domain has no templates: it is not asked for them again.
    pub(super) fn accept(&mut self, message: &[u8]) {
        if let Some(id) = word(message, DOMAIN)
            && self.find(id).is_none()
        {
            self.known.push(Domain { id, first: None });
        }
    }

    /// Turns the sequence of a message into that of the session.
    pub(super) fn renumber(&mut self, message: &mut [u8]) {
        let (Some(id), Some(sequence)) = (word(message, DOMAIN), word(message, SEQUENCE)) else { return };
        let Some(domain) = self.find(id) else { return };
        let first = *domain.first.get_or_insert(sequence);
        message[SEQUENCE..SEQUENCE + 4].copy_from_slice(&sequence.wrapping_sub(first).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(domain: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(HEADER + body.len()).unwrap();
        [&[0, 10], &length.to_be_bytes()[..], &[0; 4], &sequence.to_be_bytes(), &domain.to_be_bytes(), body]
            .concat()
    }

    fn introduce(domains: &mut Domains, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        domains.introduce(&mut messages.concat(), |message| sent.push(message.to_vec()));
        sent
    }

    #[test]
    fn a_session_counts_from_its_own_start_and_shows_gaps() {
        let mut domains = Domains::default();
        let sent = introduce(&mut domains, &[message(7, 500, b"t"), message(8, 9, b"t")]);
        assert_eq!(sent, [message(7, 0, b"t"), message(8, 0, b"t")]);
        let mut renumber = |domain, sequence| {
            let mut message = message(domain, sequence, b"data");
            domains.renumber(&mut message);
            word(&message, SEQUENCE).unwrap()
        };
        assert_eq!([renumber(7, 490), renumber(7, 500), renumber(7, 530)], [0, 10, 40]);
        assert_eq!([renumber(8, u32::MAX), renumber(8, 4)], [0, 5], "sequences wrap");
        domains.clear();
        assert!(!domains.knows(&message(7, 0, b"")));
    }

    #[test]
    fn a_domain_that_comes_later_is_introduced_alone() {
        let mut domains = Domains::default();
        let (one, two) = (message(1, 0, b"t"), message(2, 0, b"t"));
        // Both templates and options of a domain come.
        assert_eq!(introduce(&mut domains, &[one.clone(), one.clone()]).len(), 2);
        assert!(domains.knows(&one) && !domains.knows(&two));
        assert_eq!(introduce(&mut domains, &[one, two.clone()]), [two]);
    }

    #[test]
    fn what_is_no_message_neither_panics_nor_holds_up() {
        let mut domains = Domains::default();
        for octets in [&b""[..], b"\0\x0a", b"\0\x0a\0\0", &[255; 15]] {
            assert!(introduce(&mut domains, &[octets.to_vec()]).is_empty());
            assert!(domains.knows(octets));
            domains.renumber(&mut octets.to_vec());
        }
        let stranger = message(5, 3, b"");
        domains.accept(&stranger);
        assert!(domains.knows(&stranger));
    }
}
