// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One decoder for all versions and all exporters.

use std::collections::VecDeque;

use super::fixed::{decode_v1, decode_v5, decode_v7, push};
use super::netflow_v5::Header;
use super::octets::Octets;
use super::record::Reader;
use super::session::{Limits, Session, SessionId, Sessions, Source};
use super::template::{Definition, FIRST_ID, Fault, TemplateSet};
use super::times::{Boot, complete};
use super::{Defect, Defects, Malformed, Rate};
use crate::collect::{Received, RecordKind};
use crate::element::{ElementId, Value};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// systemInitTimeMilliseconds.
const INIT: ElementId = ElementId::iana(160);
const SET_HEADER: usize = 4;
/// What is kept of exporters that have gone: so many samplers.
const MAX_TOLD: usize = 64;

/// What a message said about itself, and how much of it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its session, but for the source.
    pub version: u16,
    /// Observation domain, source id, or engine.
    pub domain: u32,
    /// Sequence number; version 1 has none.
    pub sequence: Option<u32>,
    /// Export time, Unix time in nanoseconds.
    pub exported_ns: u64,
    /// Data records read, those of options included.
    pub records: u32,
    /// Whether `records` are all that the message holds.
    pub complete: bool,
    /// Whether a set contradicts the message's length: whoever sent it cannot be trusted to frame the next.
    pub broken: bool,
}

/// Knows the templates of all exporters. Does nothing by itself: it is given messages.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    sessions: Sessions,
    defects: Defects,
    received: Received,
    /// Sampling of connections and files that have ended, the latest last.
    told: VecDeque<(SessionId, u64, Rate)>,
}

impl Decoder {
    /// A decoder that has heard of nobody.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let received = Received {
            exporter: None,
            version: 0,
            domain: 0,
            template: 0,
            exported_ns: 0,
            kind: RecordKind::Flow,
            elements: Vec::new(),
        };
        Self {
            limits,
            sessions: Sessions::default(),
            defects: Defects::default(),
            received,
            told: VecDeque::new(),
        }
    }

    /// Reads a message and hands its records to `sink`, one after the other.
    ///
    /// # Errors
    /// When nothing of it could be read.
    pub fn decode(
        &mut self,
        source: Source,
        message: &[u8],
        mut sink: impl FnMut(&Received),
    ) -> Result<Message, Malformed> {
        let version = message.first_chunk().copied().map(u16::from_be_bytes).ok_or(Malformed::Truncated)?;
        self.received.exporter = source.exporter;
        self.received.version = version;
        match version {
            1 => {
                let (header, records) = decode_v1(message)?;
                let pushed = records.map(|record| (record, None));
                Ok(self.fixed(&header, 0, None, pushed, &mut sink))
            }
            5 => {
                let (header, records) = decode_v5(message)?;
                let domain = u32::from(header.engine_type) << 8 | u32::from(header.engine_id);
                let pushed = records.map(|record| (record, None));
                let read = self.fixed(&header, domain, Some(header.sequence), pushed, &mut sink);
                if header.sampling & 0x3fff > 1 {
                    let id = SessionId { source, version, domain };
                    self.with_session(id, |session, _, _| session.samplers.note_v5(header.sampling));
                }
                Ok(read)
            }
            7 => {
                let (header, records) = decode_v7(message)?;
                let pushed = records.map(|(record, router)| (record, Some(router)));
                Ok(self.fixed(&header, 0, Some(header.sequence), pushed, &mut sink))
            }
            9 => self.v9(source, message, &mut sink),
            10 => self.ipfix(source, message, &mut sink),
            _ => Err(Malformed::Version(version)),
        }
    }

    fn fixed(
        &mut self,
        header: &Header,
        domain: u32,
        sequence: Option<u32>,
        records: impl Iterator<Item = (super::netflow_v5::Record, Option<std::net::Ipv4Addr>)>,
        sink: &mut impl FnMut(&Received),
    ) -> Message {
        let received = &mut self.received;
        received.domain = domain;
        received.template = 0;
        received.kind = RecordKind::Flow;
        received.exported_ns = header.unix_ms * MILLISECOND;
        for (record, router) in records {
            received.elements.clear();
            push(&record, &mut received.elements);
            // The router that a switch bypassed speaks as the exporter (element 130).
            if let Some(router) = router.filter(|router| !router.is_unspecified()) {
                received.elements.push((ElementId::iana(130), Value::Ipv4(router)));
            }
            sink(received);
        }
        Message {
            version: received.version,
            domain,
            sequence,
            exported_ns: received.exported_ns,
            records: header.count.into(),
            complete: true,
            broken: false,
        }
    }

    /// RFC 3954 section 5.1. What the header counts is not looked at: exporters count records, or sets.
    fn v9(
        &mut self,
        source: Source,
        message: &[u8],
        sink: &mut impl FnMut(&Received),
    ) -> Result<Message, Malformed> {
        let (head, sets) = message.split_first_chunk::<20>().ok_or(Malformed::Truncated)?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (uptime_ms, seconds, sequence, domain) = (word(4), word(8), word(12), word(16));
        let id = SessionId { source, version: 9, domain };
        let exported_ns = u64::from(seconds) * SECOND;
        Ok(self.sets(id, sequence, exported_ns, Some(uptime_ms), sets, sink))
    }

    /// RFC 7011 section 3.1.
    fn ipfix(
        &mut self,
        source: Source,
        message: &[u8],
        sink: &mut impl FnMut(&Received),
    ) -> Result<Message, Malformed> {
        let (head, rest) = message.split_first_chunk::<16>().ok_or(Malformed::Truncated)?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let sets = length.checked_sub(head.len()).and_then(|len| rest.get(..len)).ok_or(Malformed::Length)?;
        if sets.len() < rest.len() {
            self.defects.note(Defect::Trailing);
        }
        let (seconds, sequence, domain) = (word(4), word(8), word(12));
        let id = SessionId { source, version: 10, domain };
        Ok(self.sets(id, sequence, u64::from(seconds) * SECOND, None, sets, sink))
    }

    /// Reads the sets of NetFlow v9 (which tells its uptime) or IPFIX.
    fn sets(
        &mut self,
        id: SessionId,
        sequence: u32,
        exported_ns: u64,
        uptime_ms: Option<u32>,
        sets: &[u8],
        sink: &mut impl FnMut(&Received),
    ) -> Message {
        let limits = self.limits;
        let mut message = Message {
            version: id.version,
            domain: id.domain,
            sequence: Some(sequence),
            exported_ns,
            records: 0,
            complete: true,
            broken: false,
        };
        self.received.domain = id.domain;
        self.received.exported_ns = exported_ns;
        self.with_session(id, |session, received, defects| {
            let mut walk = Walk { id, limits: &limits, uptime_ms, session, received, defects };
            let mut octets = Octets(sets);
            while octets.len() > 0 {
                // Exporters of NetFlow v9 fill up whole datagrams with zeros.
                if id.version == 9 && octets.0.iter().all(|octet| *octet == 0) {
                    break;
                }
                let length =
                    |octets: &Octets<'_>| Some(u16::from_be_bytes([*octets.0.get(2)?, *octets.0.get(3)?]));
                let set = length(&octets)
                    .filter(|length| usize::from(*length) >= SET_HEADER)
                    .and_then(|length| octets.take(length.into()));
                let Some((number, body)) = set.and_then(|set| set.split_first_chunk()) else {
                    walk.defects.note(Defect::SetLength);
                    message.complete = false;
                    message.broken = true;
                    break;
                };
                let number = u16::from_be_bytes(*number);
                // Behind the number stands the length, which is used up.
                walk.set(number, Octets(body.get(2..).unwrap_or_default()), &mut message, sink);
            }
        });
        message
    }

    fn with_session<T>(
        &mut self,
        id: SessionId,
        work: impl FnOnce(&mut Session, &mut Received, &mut Defects) -> T,
    ) -> T {
        let (received, defects) = (&mut self.received, &mut self.defects);
        let (result, forgotten) =
            self.sessions.with(id, &self.limits, |session| work(session, received, defects));
        for _ in 0..forgotten.sessions {
            self.defects.note(Defect::SessionEvicted);
        }
        for _ in 0..forgotten.templates {
            self.defects.note(Defect::TemplateEvicted);
        }
        result
    }

    /// Forgets the templates of a connection or a file that has ended. What it told about sampling is kept.
    pub fn forget(&mut self, stream: u64) {
        let Self { sessions, told, .. } = self;
        for (id, session) in sessions.iter().filter(|(id, _)| id.source.stream == stream) {
            for (sampler, rate) in session.samplers.iter() {
                // An exporter that connects again and again, each time from another port, is told of once.
                told.retain(|(old, of, was)| !(same_exporter(old, id) && *of == sampler && *was == rate));
                if told.len() == MAX_TOLD {
                    told.pop_front();
                }
                told.push_back((*id, sampler, rate));
            }
        }
        self.sessions.forget_stream(stream);
    }

    /// What was not decoded of messages that were.
    #[must_use]
    pub fn defects(&self) -> &Defects {
        &self.defects
    }

    /// What exporters told about their sampling, with the number of the sampler (0 where it has none); last
    /// those whose connection or file has ended.
    pub fn samplings(&self) -> impl Iterator<Item = (SessionId, u64, Rate)> + '_ {
        let present = self.sessions.iter().flat_map(|(id, session)| {
            session.samplers.iter().map(move |(selector, rate)| (*id, selector, rate))
        });
        present.chain(self.told.iter().rev().copied())
    }

    /// Octets that templates and sessions take, about; at most [`Limits::octets`].
    #[must_use]
    pub fn octets(&self) -> usize {
        self.sessions.octets()
    }
}

fn same_exporter(one: &SessionId, other: &SessionId) -> bool {
    let address = |id: &SessionId| id.source.exporter.map(|exporter| exporter.ip());
    one.version == other.version && one.domain == other.domain && address(one) == address(other)
}

/// A message that is being read.
struct Walk<'a> {
    id: SessionId,
    limits: &'a Limits,
    uptime_ms: Option<u32>,
    session: &'a mut Session,
    received: &'a mut Received,
    defects: &'a mut Defects,
}

impl Walk<'_> {
    fn set(
        &mut self,
        number: u16,
        body: Octets<'_>,
        message: &mut Message,
        sink: &mut impl FnMut(&Received),
    ) {
        match (self.id.version, number) {
            (9, 0) => self.templates(TemplateSet::V9(RecordKind::Flow), body),
            (9, 1) => self.templates(TemplateSet::V9(RecordKind::Options), body),
            (10, 2) => self.templates(TemplateSet::Ipfix(RecordKind::Flow), body),
            (10, 3) => self.templates(TemplateSet::Ipfix(RecordKind::Options), body),
            (_, ..FIRST_ID) => self.defects.note(Defect::ReservedSet),
            _ => self.data(number, body, message, sink),
        }
    }

    fn templates(&mut self, set: TemplateSet, mut body: Octets<'_>) {
        loop {
            match set.next(&mut body, self.limits.fields) {
                Ok(None) => return,
                Ok(Some(Definition::Template(id, template))) => {
                    let put = self.session.templates.put(id, template, self.limits.templates);
                    // RFC 7011 section 8: over UDP a template may change at any time, over streams only
                    // after its withdrawal. The new one counts.
                    if put.changed && self.id.source.stream != 0 {
                        self.defects.note(Defect::TemplateChanged);
                    }
                    if put.evicted {
                        self.defects.note(Defect::TemplateEvicted);
                    }
                }
                Ok(Some(Definition::Withdrawal(id))) => self.withdraw(id),
                Err(Fault::TooLarge) => self.defects.note(Defect::TemplateTooLarge),
                Err(Fault::Malformed) => {
                    self.defects.note(Defect::Template);
                    return;
                }
            }
        }
    }

    fn withdraw(&mut self, id: u16) {
        if self.id.source.stream == 0 {
            self.defects.note(Defect::WithdrawalOverUdp);
            return;
        }
        match id {
            2 => self.session.templates.remove_all(RecordKind::Flow),
            3 => self.session.templates.remove_all(RecordKind::Options),
            _ if self.session.templates.remove(id) => {}
            _ => self.defects.note(Defect::WithdrawalUnknown),
        }
    }

    fn data(
        &mut self,
        number: u16,
        mut body: Octets<'_>,
        message: &mut Message,
        sink: &mut impl FnMut(&Received),
    ) {
        let Some(template) = self.session.templates.get(number) else {
            self.defects.note(Defect::NoTemplate);
            message.complete = false;
            return;
        };
        if template.shortest == 0 {
            self.defects.note(Defect::EmptyRecord);
            message.complete = false;
            return;
        }
        self.received.template = number;
        self.received.kind = template.kind;
        let first = message.records;
        // Less than the shortest record is padding (RFC 7011 section 3.3.1). NetFlow v9 fills sets up to a
        // multiple of four octets, which records of one to three octets could be mistaken for.
        while body.len() >= template.shortest
            && !(self.id.version == 9
                && message.records > first
                && body.len() < 4
                && body.0.iter().all(|octet| *octet == 0))
        {
            self.received.elements.clear();
            let mut reader = Reader { templates: &mut self.session.templates, bad_lists: 0 };
            let read = reader.record(&template.fields, &mut body, &mut self.received.elements);
            for _ in 0..reader.bad_lists {
                self.defects.note(Defect::List);
            }
            if read.is_none() {
                self.defects.note(Defect::RecordLength);
                message.complete = false;
                return;
            }
            message.records += 1;
            match template.kind {
                RecordKind::Flow => {
                    let boot = self.uptime_ms.map_or(Boot::Init(self.session.init_ns), Boot::Uptime);
                    complete(&mut self.received.elements, self.received.exported_ns, boot);
                }
                RecordKind::Options => {
                    self.session.samplers.note(&self.received.elements);
                    if let Some(init) = self.received.get(INIT).and_then(Value::time) {
                        self.session.init_ns = Some(init);
                    }
                }
            }
            sink(self.received);
        }
    }
}
