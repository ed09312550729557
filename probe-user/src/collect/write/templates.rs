// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The templates that each exporter has sent, as they came: what a new file needs to be read alone.

use super::ipfix_message::{Declaration, Head, Message, TemplateKind, write_declarations};
use crate::collect::decode::Source;
use std::collections::{BTreeMap, HashMap};

/// Exporters (address and port, or connection, and domain) whose templates are kept, as many as the decoder
/// knows. The one not heard of for longest goes first.
const MAX_SENDERS: usize = 4096;
/// Octets of templates of one of them; what comes beyond is not repeated in later files.
const MAX_OCTETS: usize = 256 << 10;
/// Octets of all of them.
const MAX_ALL_OCTETS: usize = 64 << 20;
/// What a template takes beside its own octets, about: small ones are many.
const OVERHEAD: usize = 64;

/// Whose templates they are.
pub(super) type Sender = (Source, u32);

/// One of a sender's templates.
pub(super) type TemplateKey = (TemplateKind, u16);

#[derive(Default, Debug)]
struct Known {
    /// By kind and id, though both kinds share one space of ids.
    templates: BTreeMap<TemplateKey, Box<[u8]>>,
    octets: usize,
    /// When it was last used, in messages.
    used: u64,
}

impl Known {
    fn forget(&mut self, kind: TemplateKind, id: u16) -> Option<Box<[u8]>> {
        let old = self.templates.remove(&(kind, id))?;
        self.octets -= old.len() + OVERHEAD;
        Some(old)
    }

    /// Keeps a template if there is room; the one that had its number has been forgotten.
    fn keep(&mut self, key: TemplateKey, octets: &[u8]) {
        let needed = octets.len() + OVERHEAD;
        if self.octets + needed <= MAX_OCTETS {
            self.octets += needed;
            self.templates.insert(key, octets.into());
        }
    }
}

/// See the module.
#[derive(Default, Debug)]
pub(super) struct TemplateStore {
    senders: HashMap<Sender, Known>,
    /// Of all senders.
    octets: usize,
    messages: u64,
}

impl TemplateStore {
    /// Takes the templates of a message, and returns those that mean something else than before: a reader of
    /// a file must be told that the old ones are gone (RFC 7011 §8.1), which nobody does over UDP.
    pub(super) fn learn(&mut self, from: Source, message: &Message<'_>) -> Vec<TemplateKey> {
        self.messages += 1;
        let sender = (from, message.head.domain);
        if message.declarations.is_empty() {
            if let Some(known) = self.senders.get_mut(&sender) {
                known.used = self.messages;
            }
            return Vec::new();
        }
        if self.senders.len() == MAX_SENDERS && !self.senders.contains_key(&sender) {
            self.forget_oldest();
        }
        let known = self.senders.entry(sender).or_default();
        known.used = self.messages;
        let before = known.octets;
        let mut changed = Vec::new();
        for declaration in &message.declarations {
            match *declaration {
                Declaration::Template(kind, id, octets) => {
                    for other in TemplateKind::ALL {
                        let old = known.forget(other, id);
                        if old.is_some_and(|old| other != kind || *old != *octets) {
                            changed.push((other, id));
                        }
                    }
                    known.keep((kind, id), octets);
                }
                Declaration::Withdrawal(kind, Some(id)) => drop(known.forget(kind, id)),
                Declaration::Withdrawal(kind, None) => {
                    let ids: Vec<u16> =
                        known.templates.keys().filter(|key| key.0 == kind).map(|key| key.1).collect();
                    for id in ids {
                        known.forget(kind, id);
                    }
                }
            }
        }
        self.octets = self.octets + known.octets - before;
        // This sender's own are never that many.
        while self.octets > MAX_ALL_OCTETS {
            self.forget_oldest();
        }
        changed
    }

    fn forget_oldest(&mut self) {
        let oldest = self.senders.iter().min_by_key(|(_, known)| known.used).map(|(sender, _)| *sender);
        if let Some(known) = oldest.and_then(|oldest| self.senders.remove(&oldest)) {
            self.octets -= known.octets;
        }
    }

    /// Forgets a connection or file that has ended, and returns what it had declared.
    pub(super) fn forget(&mut self, stream: u64) -> Vec<(Sender, Vec<TemplateKey>)> {
        let ended: Vec<Sender> =
            self.senders.keys().filter(|(source, _)| source.stream == stream).copied().collect();
        let forget = |sender: Sender| {
            let known = self.senders.remove(&sender).unwrap_or_default();
            self.octets -= known.octets;
            (sender, known.templates.into_keys().collect())
        };
        ended.into_iter().map(forget).collect()
    }

    /// Appends messages with all templates of a sender.
    pub(super) fn write_all(&self, from: Source, head: Head, out: &mut Vec<u8>) {
        if let Some(known) = self.senders.get(&(from, head.domain)) {
            let templates = known.templates.iter().map(|((kind, _), octets)| (*kind, &**octets));
            write_declarations(head, templates, out);
        }
    }
}

/// Appends messages that withdraw templates.
pub(super) fn write_withdrawals(head: Head, templates: &[TemplateKey], out: &mut Vec<u8>) {
    let records: Vec<(TemplateKind, [u8; 4])> = templates
        .iter()
        .map(|(kind, id)| {
            let id = id.to_be_bytes();
            (*kind, [id[0], id[1], 0, 0])
        })
        .collect();
    write_declarations(head, records.iter().map(|(kind, octets)| (*kind, &octets[..])), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::write::ipfix_message::tests::{message, template};

    const HEAD: Head = Head { export_s: 1, sequence: 2, domain: 3 };

    fn source(port: u16) -> Source {
        Source { exporter: Some(([192, 0, 2, 1], port).into()), stream: u64::from(port) }
    }

    fn learn(store: &mut TemplateStore, port: u16, octets: &[u8]) -> Vec<TemplateKey> {
        store.learn(source(port), &Message::read(octets).unwrap())
    }

    fn known(store: &TemplateStore, port: u16) -> Vec<u8> {
        let mut out = Vec::new();
        store.write_all(source(port), HEAD, &mut out);
        out
    }

    fn sent(templates: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let records = templates.iter().map(|octets| (TemplateKind::Flow, &octets[..]));
        write_declarations(HEAD, records, &mut out);
        out
    }

    #[test]
    fn each_exporter_has_its_own_templates() {
        let mut store = TemplateStore::default();
        let (first, second) = (template(256, &[8]), template(256, &[12, 8]));
        assert_eq!(learn(&mut store, 1, &message(3, 0, &[(2, &first)])), []);
        assert_eq!(learn(&mut store, 2, &message(3, 0, &[(2, &second)])), []);
        assert_eq!(learn(&mut store, 1, &message(4, 0, &[(2, &second)])), [], "another domain");
        assert_eq!(known(&store, 1), sent(&[first]));
        assert_eq!(known(&store, 2), sent(&[second]));
        assert!(known(&store, 3).is_empty());
    }

    #[test]
    fn a_template_of_another_meaning_is_told_and_a_repeated_one_is_not() {
        let mut store = TemplateStore::default();
        let (first, other) = (template(256, &[8]), template(257, &[12]));
        learn(&mut store, 1, &message(3, 0, &[(2, &[&first[..], &other].concat())]));
        assert_eq!(learn(&mut store, 1, &message(3, 0, &[(2, &first)])), []);
        let changed = template(256, &[12]);
        assert_eq!(learn(&mut store, 1, &message(3, 0, &[(2, &changed)])), [(TemplateKind::Flow, 256)]);
        assert_eq!(known(&store, 1), sent(&[changed, other]));
        // Ids of both kinds are of one space.
        let options = [1, 0, 0, 1, 0, 1, 0, 8, 0, 4];
        assert_eq!(learn(&mut store, 1, &message(3, 0, &[(3, &options)])), [(TemplateKind::Flow, 256)]);
    }

    #[test]
    fn withdrawn_templates_are_forgotten() {
        let mut store = TemplateStore::default();
        let templates = [template(256, &[8]), template(257, &[8]), template(258, &[8])];
        learn(&mut store, 1, &message(3, 0, &[(2, &templates.concat())]));
        learn(&mut store, 1, &message(3, 0, &[(2, &[1, 1, 0, 0])]));
        assert_eq!(known(&store, 1), sent(&[templates[0].clone(), templates[2].clone()]));
        learn(&mut store, 1, &message(3, 0, &[(2, &[0, 2, 0, 0])]));
        assert!(known(&store, 1).is_empty());
    }

    #[test]
    fn exporters_and_octets_are_bounded() {
        let mut store = TemplateStore::default();
        for port in 0..5000 {
            learn(&mut store, port, &message(3, 0, &[(2, &template(256, &[8]))]));
            // The first one is heard of again and again.
            learn(&mut store, 0, &message(3, 0, &[]));
        }
        assert_eq!(store.senders.len(), MAX_SENDERS);
        assert!(
            !known(&store, 0).is_empty() && !known(&store, 4999).is_empty() && known(&store, 5).is_empty()
        );
        for id in 256..u16::MAX {
            learn(&mut store, 1, &message(3, 0, &[(2, &template(id, &[8; 20]))]));
        }
        assert!(known(&store, 1).len() <= MAX_OCTETS + 200);
    }

    #[test]
    fn many_exporters_of_many_templates_take_bounded_memory() {
        let mut store = TemplateStore::default();
        // As many small templates as a message holds, which takes the bound of one sender.
        let templates: Vec<u8> = (256..7000).flat_map(|id| template(id, &[8])).collect();
        for port in 0..500 {
            learn(&mut store, port, &message(3, 0, &[(2, &templates)]));
            assert!(store.octets <= MAX_ALL_OCTETS);
        }
        assert!(store.senders.len() < 500, "the first ones had to go");
        assert!(known(&store, 0).is_empty() && !known(&store, 499).is_empty());
        assert_eq!(store.octets, store.senders.values().map(|known| known.octets).sum::<usize>());
        for port in 0..500 {
            store.forget(port);
        }
        assert_eq!((store.senders.len(), store.octets), (0, 0));
    }
}
