// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is remembered of an exporter: its templates, and what its options told.
//!
//! Templates are valid within a session: an exporter's address and port or its connection, a version and a
//! domain (RFC 7011 section 8, RFC 3954 section 7). All of it is bounded, because anybody can send
//! templates: what was used longest ago is forgotten first.

use std::mem::size_of;
use std::net::SocketAddr;
use std::sync::Arc;

use super::sampling::Samplers;
use super::template::{Field, Template};
use crate::collect::RecordKind;
use crate::collect::lru::Lru;

/// Where a message came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source {
    /// Address and port of the exporter; `None` for a file.
    pub exporter: Option<SocketAddr>,
    /// 0 for datagrams. Connections and files have numbers of their own: templates are valid as long as
    /// these last, and can be withdrawn (RFC 7011 section 8.1).
    pub stream: u64,
}

/// A stream of messages in which template numbers mean one thing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId {
    /// Exporter.
    pub source: Source,
    /// 1, 5, 7, 9 or 10.
    pub version: u16,
    /// Observation domain, source id, or engine.
    pub domain: u32,
}

/// What may be remembered at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Sessions.
    pub sessions: usize,
    /// Templates of a session.
    pub templates: usize,
    /// Fields of a template.
    pub fields: usize,
    /// Octets of all of them.
    pub octets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions: 4096, templates: 1024, fields: 1024, octets: 64 << 20 }
    }
}

/// The bookkeeping of a template and its places in the maps, about.
const TEMPLATE_OVERHEAD: usize = 256;
/// The same for a session, its samplers included.
const SESSION_OVERHEAD: usize = 512;

/// Templates of a session.
#[derive(Default, Debug)]
pub(super) struct Templates {
    table: Lru<u16, Arc<Template>>,
    octets: usize,
}

/// What became of a template that was put in.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Put {
    /// Another one had the number.
    pub(super) changed: bool,
    /// Templates forgotten to make room.
    pub(super) evicted: bool,
}

impl Templates {
    pub(super) fn get(&mut self, id: u16) -> Option<Arc<Template>> {
        self.table.get(id).map(|template| Arc::clone(template))
    }

    pub(super) fn put(&mut self, id: u16, template: Template, most: usize) -> Put {
        // Sent again, as exporters do all the time.
        if self.table.get(id).is_some_and(|known| **known == template) {
            return Put::default();
        }
        let changed = self.remove(id);
        let evicted = self.table.len() >= most && self.forget_oldest();
        self.octets += octets(&template);
        self.table.insert(id, Arc::new(template));
        Put { changed, evicted }
    }

    pub(super) fn remove(&mut self, id: u16) -> bool {
        let removed = self.table.remove(id);
        self.octets -= removed.as_deref().map_or(0, octets);
        removed.is_some()
    }

    /// Forgets all templates of a kind.
    pub(super) fn remove_all(&mut self, kind: RecordKind) {
        let ids: Vec<u16> = self.table.iter().filter(|(_, of)| of.kind == kind).map(|(id, _)| *id).collect();
        for id in ids {
            self.remove(id);
        }
    }

    pub(super) fn forget_oldest(&mut self) -> bool {
        let oldest = self.table.pop_oldest();
        self.octets -= oldest.as_ref().map_or(0, |(_, template)| octets(template));
        oldest.is_some()
    }
}

fn octets(template: &Template) -> usize {
    TEMPLATE_OVERHEAD + template.fields.capacity() * size_of::<Field>()
}

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Session {
    pub(super) templates: Templates,
    pub(super) samplers: Samplers,
    /// When the exporter started, Unix time in nanoseconds, if its options told.
    pub(super) init_ns: Option<u64>,
}

impl Session {
    fn octets(&self) -> usize {
        SESSION_OVERHEAD + self.templates.octets + self.samplers.octets()
    }
}

/// All sessions.
#[derive(Default, Debug)]
pub(super) struct Sessions {
    table: Lru<SessionId, Session>,
    /// Of all sessions.
    octets: usize,
}

impl Sessions {
    /// Does something with a session, which is made if there is none; then makes room again. Gives also how
    /// many sessions and templates were forgotten for that.
    pub(super) fn with<T>(
        &mut self,
        id: SessionId,
        limits: &Limits,
        work: impl FnOnce(&mut Session) -> T,
    ) -> (T, Forgotten) {
        let mut forgotten = Forgotten::default();
        if self.table.get(id).is_none() {
            if self.table.len() >= limits.sessions {
                forgotten.sessions += u64::from(self.forget_oldest());
            }
            self.octets += SESSION_OVERHEAD;
            self.table.insert(id, Session::default());
        }
        let mut made = Session::default();
        // It is there: it was found or put in above.
        let session = self.table.get(id).unwrap_or(&mut made);
        let before = session.octets();
        let result = work(session);
        self.octets = self.octets + session.octets() - before;
        while self.octets > limits.octets && self.table.len() > 1 {
            forgotten.sessions += u64::from(self.forget_oldest());
        }
        while self.octets > limits.octets
            && let Some(session) = self.table.get(id)
        {
            let before = session.octets();
            if !session.templates.forget_oldest() {
                break;
            }
            self.octets -= before - session.octets();
            forgotten.templates += 1;
        }
        (result, forgotten)
    }

    fn forget_oldest(&mut self) -> bool {
        let oldest = self.table.pop_oldest();
        self.octets -= oldest.as_ref().map_or(0, |(_, session)| session.octets());
        oldest.is_some()
    }

    /// Forgets the sessions of a connection or a file.
    pub(super) fn forget_stream(&mut self, stream: u64) {
        let ids: Vec<_> =
            self.table.iter().filter(|(id, _)| id.source.stream == stream).map(|(id, _)| *id).collect();
        for id in ids {
            self.octets -= self.table.remove(id).map_or(0, |session| session.octets());
        }
    }

    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SessionId, &Session)> {
        self.table.iter()
    }
}

/// What was forgotten to make room.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Forgotten {
    pub(super) sessions: u64,
    pub(super) templates: u64,
}
