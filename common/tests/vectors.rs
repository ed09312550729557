// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every file of `vectors/`, read by the parser.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use probe_common::parse::{DeepBytes, ParsedPacket, SliceBytes, parse};
use probe_common::{Note, Outcome};
use probe_lab::vectors;

#[test]
fn every_vector_is_parsed_as_it_says() {
    let vectors = vectors::all().unwrap();
    assert!(vectors.len() >= 35, "only {} vectors", vectors.len());
    for vector in vectors {
        let parsed = parse(&SliceBytes::new(&vector.frame));
        assert_eq!(parsed, vector.expected, "{}: {}", vector.name, vector.sentence);
        // Who follows more headers reads the same where these suffice, and more where they do not.
        let deep = parse(&DeepBytes(SliceBytes::new(&vector.frame)));
        match vector.expected {
            Err(Outcome::TooDeep) => assert!(deep.is_ok(), "{}", vector.name),
            Ok(ParsedPacket { note: Some(Note::DeepHeaders), .. }) => {
                let deep = deep.unwrap();
                assert_eq!(
                    (deep.note, (deep.key.source_port(), deep.key.destination_port())),
                    (None, (40000, 80)),
                    "{}",
                    vector.name
                );
            }
            _ => assert_eq!(deep, vector.expected, "{}", vector.name),
        }
    }
}

/// A capture that kept the first octets only must not say anything else than the whole frame, except
/// that it may know less.
#[test]
fn a_vector_cut_anywhere_never_yields_another_key() {
    for vector in vectors::all().unwrap() {
        for length in 0..vector.frame.len().min(256) {
            let cut = SliceBytes::cut(&vector.frame[..length], vector.frame.len());
            let Ok(cut) = parse(&cut) else { continue };
            let whole = vector.expected.unwrap_or_else(|outcome| {
                panic!("{} cut at {length} was read, but whole it is {}", vector.name, outcome.name())
            });
            assert_eq!((cut.key, cut.octets), (whole.key, whole.octets), "{} cut at {length}", vector.name);
            assert_eq!(cut.tcp_flags & !whole.tcp_flags, 0, "{} cut at {length}", vector.name);
        }
    }
}

#[test]
fn a_vector_that_cannot_be_understood_is_named_by_line() {
    for (text, message) in [
        ("", "empty file"),
        ("A packet.\n0g\nsource: 1.2.3.4\n", "'0g'"),
        ("A packet.\n00\nsauce: 1.2.3.4\n", "no field 'sauce'"),
        ("A packet.\n00\noutcome: lost\n", "no outcome 'lost'"),
        ("A packet.\n00\nfragment: 1 2\n", "a fragment is"),
        ("A packet.\n00\nfragment: 1 2 3\n", "neither 'more' nor 'last'"),
        ("A packet.\n00\nsource: 1.2.3.4\ndestination: 1.2.3.5\n", "an Ethernet header"),
        (
            "A packet.\n00 01 02 03 04 05 06 07 08 09 0a 0b\nsource: 1.2.3.4\ndestination: 1.2.3.5\n",
            "'headers'",
        ),
        ("A packet.\n00\nvlan: 65536\n", "65536 is too large"),
        ("A packet.\n00\nsource: 1.2.3.4\ndestination: ::1\n", "of one IP version"),
    ] {
        let error = vectors::read("case", text).unwrap_err();
        assert!(format!("{error:#}").contains(message), "{error:#}");
    }
}
