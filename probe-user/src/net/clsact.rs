// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clsact qdisc of an interface, and the BPF programs that are filters of it: how tc programs are attached on
//! kernels without tcx (before 6.6). Unlike a BPF link, such a filter outlives the process that made it.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcHeader, TcMessage},
};
use probe_common::Direction;

use super::netlink;

/// Octets of struct tcmsg (include/uapi/linux/rtnetlink.h).
const TCMSG: usize = 20;
/// Attributes (include/uapi/linux/rtnetlink.h, include/uapi/linux/pkt_cls.h).
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// The low bits of an attribute's type; the others are flags (NLA_TYPE_MASK).
const TYPE_MASK: u16 = 0x3fff;

/// The qdisc that stands before and after an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IngressQdisc {
    /// There is none.
    None,
    /// `clsact`: filters for both ways.
    Clsact,
    /// `ingress`: what comes in alone. The kernel takes a filter for what goes out all the same, and has it see what
    /// comes in (`ingress_tcf_block` in net/sched/sch_ingress.c).
    IngressOnly,
}

/// A BPF filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filter {
    /// The program's name.
    pub(crate) name: String,
    /// Lower ones see packets earlier.
    pub(crate) priority: u16,
    /// Tells it from others of its priority.
    pub(crate) handle: u32,
}

/// The filters of one way through an interface.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Filters {
    /// Those that are BPF programs with a name.
    pub(crate) named: Vec<Filter>,
    /// How many there are of any kind.
    pub(crate) all: usize,
}

/// Which such qdisc an interface has.
///
/// # Errors
/// When netlink fails.
pub(crate) fn qdisc(index: u32) -> io::Result<IngressQdisc> {
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    for answer in netlink::dump_octets(request)? {
        let Some((message, attributes)) = split(&answer) else { continue };
        // The kernel lists those of all interfaces.
        if message.index == index && TcHandle::from(message.parent) == TcHandle::CLSACT {
            return Ok(match attribute(attributes, TCA_KIND) {
                Some(b"clsact\0") => IngressQdisc::Clsact,
                _ => IngressQdisc::IngressOnly,
            });
        }
    }
    Ok(IngressQdisc::None)
}

/// Gives an interface a clsact qdisc.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn add_qdisc(index: u32) -> io::Result<()> {
    let request = RouteNetlinkMessage::NewQueueDiscipline(qdisc_message(index)?);
    netlink::change(request, NLM_F_CREATE | NLM_F_EXCL)
}

/// Takes the clsact qdisc from an interface, and all filters with it.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn remove_qdisc(index: u32) -> io::Result<()> {
    netlink::change(RouteNetlinkMessage::DelQueueDiscipline(qdisc_message(index)?), 0)
}

/// The filters of one way through an interface; none if it has no clsact qdisc.
///
/// # Errors
/// When netlink fails.
pub(crate) fn filters(index: u32, direction: Direction) -> io::Result<Filters> {
    let request = RouteNetlinkMessage::GetTrafficFilter(filter_message(index, direction, 0, 0)?);
    let mut filters = Filters::default();
    for answer in netlink::dump_octets(request)? {
        filters.all += 1;
        let Some((message, attributes)) = split(&answer) else { continue };
        let name = attribute(attributes, TCA_OPTIONS).and_then(|options| attribute(options, TCA_BPF_NAME));
        if let (Some(name), Some(b"bpf\0")) = (name, attribute(attributes, TCA_KIND)) {
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            let priority = u16::try_from(message.info >> 16).unwrap_or(0);
            filters.named.push(Filter { name, priority, handle: message.handle });
        }
    }
    Ok(filters)
}

/// Removes a filter.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn remove_filter(index: u32, direction: Direction, filter: &Filter) -> io::Result<()> {
    let message = filter_message(index, direction, filter.priority, filter.handle)?;
    netlink::change(RouteNetlinkMessage::DelTrafficFilter(message), 0)
}

fn qdisc_message(index: u32) -> io::Result<TcMessage> {
    let header = TcHeader {
        index: signed(index)?,
        handle: TcHandle { major: TcHandle::CLSACT.major, minor: 0 },
        parent: TcHandle::CLSACT,
        ..TcHeader::default()
    };
    Ok(TcMessage::from_parts(header, vec![TcAttribute::Kind("clsact".to_owned())]))
}

fn filter_message(index: u32, direction: Direction, priority: u16, handle: u32) -> io::Result<TcMessage> {
    let minor = match direction {
        Direction::Ingress => TcHandle::MIN_INGRESS,
        Direction::Egress => TcHandle::MIN_EGRESS,
    };
    // A filter of a priority is found with its protocol (ETH_P_ALL, in network byte order).
    let protocol = if priority == 0 { 0 } else { 3u16.to_be() };
    let header = TcHeader {
        index: signed(index)?,
        handle: handle.into(),
        parent: TcHandle { major: TcHandle::CLSACT.major, minor },
        info: u32::from(priority) << 16 | u32::from(protocol),
        ..TcHeader::default()
    };
    Ok(TcMessage::from_parts(header, Vec::new()))
}

fn signed(index: u32) -> io::Result<i32> {
    i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// What is looked at of a struct tcmsg.
struct Header {
    index: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

fn split(message: &[u8]) -> Option<(Header, &[u8])> {
    let (header, attributes) = message.split_at_checked(TCMSG)?;
    let word = |at: usize| header[at..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
    Some((Header { index: word(4), handle: word(8), parent: word(12), info: word(16) }, attributes))
}

/// The value of the first attribute of a type (struct nlattr: length with header, type; aligned to 4 octets).
fn attribute(mut octets: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some([l0, l1, t0, t1]) = octets.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let value = octets.get(4..length)?;
        if u16::from_ne_bytes([*t0, *t1]) & TYPE_MASK == wanted {
            return Some(value);
        }
        octets = octets.get((length + 3) & !3..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_broken_ones_end_the_search() {
        let mut octets = Vec::new();
        for (kind, value) in [(TCA_KIND, &b"bpf\0"[..]), (TCA_OPTIONS | 0x8000, b"abcde"), (9, b"")] {
            octets.extend(u16::try_from(value.len() + 4).unwrap_or(0).to_ne_bytes());
            octets.extend(kind.to_ne_bytes());
            octets.extend(value);
            octets.resize(octets.len().next_multiple_of(4), 0);
        }
        assert_eq!(attribute(&octets, TCA_KIND), Some(&b"bpf\0"[..]));
        assert_eq!(attribute(&octets, TCA_OPTIONS), Some(&b"abcde"[..]));
        assert_eq!(attribute(&octets, 9), Some(&b""[..]));
        assert_eq!(attribute(&octets, 10), None);
        assert_eq!(attribute(&octets[..6], TCA_KIND), None, "cut off");
        assert_eq!(attribute(&[0; 64], TCA_KIND), None, "shorter than its own header");
    }
}
