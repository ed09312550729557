// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets that are refused, closed, opened again; interfaces that go away under them.

use probe_lab::{Link, clock::wait_until, require_root};
use probe_user::{
    afxdp::{AfXdpOptions, AfXdpSource, ZeroCopy},
    kernel::XdpMode,
    meter::FrameSource,
};

use crate::{
    frames,
    metered::{Kept, Metered, SOON, moment, receive_all, receive_exactly},
    send,
};

#[test]
#[ignore = "needs root: run `make test`"]
fn a_queue_is_free_again_after_its_socket_was_closed() {
    require_root();
    let link = Link::new("xsk", 1).unwrap();
    let sent = frames(60..100);
    let test = || {
        let mut metered = Metered::load(&link, 1);
        metered.attach(XdpMode::Native);
        for _ in 0..10 {
            let mut source = metered.open(0, |_| {});
            send(&link, &sent);
            let mut kept = Kept::default();
            receive_exactly(&mut source, sent.len(), &mut kept);
            assert_eq!(kept.frames, sent);
            metered.program.unset_socket(0).unwrap();
        }
        // With frames in its rings, too.
        let source = metered.open(0, |_| {});
        send(&link, &sent);
        assert!(wait_until(SOON, || source.waiting() == sent.len()));
        drop(source);
        let mut source = metered.open(0, |_| {});
        assert_eq!(receive_all(&mut source, &mut Kept::default()).unwrap(), 0);
    };
    link.metered.namespace.enter(test).unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn refusals_say_what_to_do() {
    require_root();
    let link = Link::new("xsk", 1).unwrap();
    let test = || {
        let (metered, source) = Metered::with_socket(&link, |options| options.zero_copy = ZeroCopy::Auto);
        let binding = source.binding();
        assert_eq!(binding.huge_pages, binding.why_not_huge_pages.is_none());
        println!("{binding:?}");
        // No driver at hand has it; that it is used where there is one could not be tried.
        assert_eq!(source.status().mode, "copy");
        assert_eq!(source.binding().why_not_zero_copy.as_deref(), Some("its driver has no zero-copy"));
        let refused = |options: AfXdpOptions| AfXdpSource::open(options).err().unwrap().to_string();
        let begin = "opening an AF_XDP socket on interface tap0, queue";
        for (options, says) in [
            (metered.options(0), "another AF_XDP socket has this queue"),
            (metered.options(7), "there is no such queue"),
        ] {
            let error = refused(options);
            assert!(error.starts_with(begin) && error.contains(says), "{error}");
        }
        drop(source);
        let required = AfXdpOptions { zero_copy: ZeroCopy::Required, ..metered.options(0) };
        let error = refused(required);
        assert!(error.contains("the driver has no zero-copy"), "{error}");
    };
    link.metered.namespace.enter(test).unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_may_go_down_and_come_up() {
    require_root();
    let link = Link::new("xsk", 1).unwrap();
    let sent = frames(60..100);
    let test = || {
        let (_metered, mut source) = Metered::with_socket(&link, |_| {});
        for _ in 0..3 {
            link.metered.set("down").unwrap();
            assert_eq!(source.receive(moment(), 10, &mut Kept::default()).unwrap(), 0);
            link.metered.set("up").unwrap();
            link.sender.set("up").unwrap();
            send(&link, &sent);
            let mut kept = Kept::default();
            receive_exactly(&mut source, sent.len(), &mut kept);
            assert_eq!(kept.frames, sent);
        }
    };
    link.metered.namespace.enter(test).unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_came_before_the_interface_went_is_handed_over_then_the_source_fails() {
    require_root();
    let link = Link::new("xsk", 1).unwrap();
    let sent = frames(60..200);
    let test = || {
        let (metered, mut source) = Metered::with_socket(&link, |_| {});
        send(&link, &sent);
        assert!(wait_until(SOON, || source.waiting() == sent.len()));
        link.metered.namespace.ip(&["link", "del", &metered.name]).unwrap();
        let mut kept = Kept::default();
        let error = receive_all(&mut source, &mut kept).unwrap_err().to_string();
        assert_eq!(kept.frames, sent);
        assert_eq!(
            error,
            "receiving from an AF_XDP socket on interface tap0, queue 0: the interface is gone"
        );
        // Again and again, and the rest answers.
        assert!(source.receive(moment(), 1, &mut kept).is_err());
        assert_eq!((source.waiting(), source.drops().packets()), (0, 0));
        source.rest(std::time::Duration::from_millis(1));
        assert_eq!(source.frames().total(), source.options().frames as usize);
        drop((source, metered));

        // Its successor has another index.
        let namespace = &link.metered.namespace;
        let successor = Link::between(&link.sender.namespace, "gen1", namespace, "tap0", 1).unwrap();
        let (_metered, mut source) = Metered::with_socket(&successor, |_| {});
        send(&successor, &sent);
        let mut kept = Kept::default();
        receive_exactly(&mut source, sent.len(), &mut kept);
        assert_eq!(kept.frames, sent);
    };
    link.metered.namespace.enter(test).unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_keeps_its_queues_while_they_have_sockets() {
    require_root();
    let link = Link::new("xsk", 2).unwrap();
    let end = &link.metered;
    let fewer = || end.namespace.run("ethtool", &["-L", &end.name, "rx", "1"]);
    let test = || {
        // Nothing is attached: a cable with a program refuses for reasons of its own.
        let mut metered = Metered::load(&link, 2);
        let source = metered.open(1, |_| {});
        assert!(fewer().is_err());
        drop(source);
        assert!(wait_until(SOON, || fewer().is_ok()));
    };
    end.namespace.enter(test).unwrap();
}
