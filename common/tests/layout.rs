// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What crosses the kernel border, octet by octet. A change here must come with a new ABI version, or an
//! old object would be loaded by a new probe.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write;
use std::mem::{align_of, offset_of, size_of};

use probe_common::{
    ABI_VERSION, Control, Counters, Detail, DetailSet, Direction, FlowKey, HashSeed, InterfaceEntry,
    KEY_BASE_MASK, KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK, KernelSettings, Note, Outcome, OwnExportKey,
    PacketSampling, RingCursor, SamplerState, Set, Slot, Tick, map_name,
};

macro_rules! layout {
    ($text:ident, $($type:ident { $($field:ident),* })*) => {
        $(
            write!($text, "{} size {} align {}:", stringify!($type), size_of::<$type>(), align_of::<$type>())
                .unwrap();
            $(write!($text, " {}@{}", stringify!($field), offset_of!($type, $field)).unwrap();)*
            $text.push('\n');
        )*
    };
}

const EXPECTED: &str = "\
ABI version 3
FlowKey size 48 align 8:
Slot size 64 align 8: packets@48 octets@52 first@56 last@60
Tick size 4 align 4:
Set size 128 align 8: slots@0
Control size 64 align 8: epoch@0 own_exports@4 jiffy_ns@8 jiffies_began_ns@16 flow_sampling@24 flow_threshold@28 zero@32
RingCursor size 128 align 8: head@0 seen_tail@8 tail@64
Counters size 192 align 8: received_packets@0 received_octets@8 metered_packets@16 metered_octets@24 \
spilled_records@32 lost_records@40 lost_packets@48 lost_octets@56 steered_packets@64 outcomes@72 notes@144
HashSeed size 64 align 8: addends@0 multiplier@48
KernelSettings size 120 align 8: abi_version@0 cpus@4 set_bits@8 ring_mask@12 publish_by_atomic@16 set_shift@20 key_mask@24 seed@32 sampling@96 range_bits@104 steer@108 once@112
InterfaceEntry size 16 align 4: first_socket@0 sockets@4 ingress@8 egress@12
PacketSampling size 8 align 4: mode@0 parameter@4
SamplerState size 64 align 4: passed@0
Detail size 24 align 8: source_mac@0 destination_mac@6 flow_label@12 min_length@16 max_length@18 min_ttl@20 \
max_ttl@21 fragment_flags@22 known@23
DetailSet size 64 align 8: details@0
OwnExportKey size 40 align 8: addresses@0 ports@32 protocol@36
outcomes: not_ip truncated malformed too_deep own_export sampled_out llc already_metered socket_full
notes: later_fragment deep_headers joined_fragment
maps: .bss CACHE SPILL DETAIL SPILL_DETAIL SAMPLER CURSOR COUNTERS OWN_EXPORT INTERFACES XSKS BARRIER CLOCK
";

#[test]
fn a_changed_layout_needs_a_new_abi_version() {
    let mut text = format!("ABI version {ABI_VERSION}\n");
    layout! { text,
        FlowKey {}
        Slot { packets, octets, first, last }
        Tick {}
        Set { slots }
        Control { epoch, own_exports, jiffy_ns, jiffies_began_ns, flow_sampling, flow_threshold, zero }
        RingCursor { head, seen_tail, tail }
        Counters {
            received_packets, received_octets, metered_packets, metered_octets, spilled_records, lost_records,
            lost_packets, lost_octets, steered_packets, outcomes, notes
        }
        HashSeed { addends, multiplier }
        KernelSettings {
            abi_version, cpus, set_bits, ring_mask, publish_by_atomic, set_shift, key_mask, seed, sampling,
            range_bits, steer, once
        }
        InterfaceEntry { first_socket, sockets, ingress, egress }
        PacketSampling { mode, parameter }
        SamplerState { passed }
        Detail {
            source_mac, destination_mac, flow_label, min_length, max_length, min_ttl, max_ttl, fragment_flags, known
        }
        DetailSet { details }
        OwnExportKey { addresses, ports, protocol }
    }
    writeln!(text, "outcomes: {}", Outcome::ALL.map(Outcome::name).join(" ")).unwrap();
    writeln!(text, "notes: {}", Note::ALL.map(Note::name).join(" ")).unwrap();
    let maps = [
        map_name::CONTROL,
        map_name::CACHE,
        map_name::SPILL,
        map_name::DETAIL,
        map_name::SPILL_DETAIL,
        map_name::SAMPLER,
        map_name::CURSOR,
        map_name::COUNTERS,
        map_name::OWN_EXPORT,
        map_name::INTERFACES,
        map_name::XSKS,
        map_name::BARRIER,
        map_name::CLOCK,
    ];
    writeln!(text, "maps: {}", maps.join(" ")).unwrap();
    assert_eq!(text, EXPECTED, "the kernel border changed: raise ABI_VERSION, then write down the new table");
}

/// The order of the counters is that of the values.
#[test]
fn outcomes_and_notes_index_their_counters() {
    for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome as usize, index);
    }
    for (index, note) in Note::ALL.into_iter().enumerate() {
        assert_eq!(note as usize, index);
    }
}

/// The picture in `flow_key.rs`, bit by bit.
#[test]
fn the_words_of_a_key_and_of_a_slot_hold_what_they_say() {
    let mut key = FlowKey::ipv4([192, 0, 2, 1], [198, 51, 100, 2], 6, 0xb8);
    key.set_ports(0x1234, 0x5678);
    key.set_ingress_interface(0x1abc_def0);
    key.set_vlans(0xf123, 0xf456);
    let words = key.words();
    assert_eq!(words[0], 0);
    assert_eq!(words[1].to_ne_bytes(), [0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    assert_eq!(words[2], 0);
    assert_eq!(words[3].to_ne_bytes(), [0, 0, 0xff, 0xff, 198, 51, 100, 2]);
    assert_eq!(words[4], 0x5678_1234_1abc_def0);
    assert_eq!(
        (key.interface(), key.ingress_interface(), key.egress_interface()),
        (0x1abc_def0, 0x1abc_def0, 0)
    );
    let mut out = key;
    out.set_interface(0x1abc_def0, Direction::Egress);
    assert_eq!(out.words()[4], 0x5678_1234_9abc_def0, "bit 31 says egress");
    assert_eq!(
        (out.interface(), out.ingress_interface(), out.egress_interface()),
        (0x1abc_def0, 0, 0x1abc_def0)
    );
    assert!(!out.matches(&key, 0), "each direction is a flow of its own");
    assert_eq!(words[5], 0x0000_b806_0456_0123, "VLAN ids keep 12 bits; bit 15 says IPv6");
    assert_eq!(FlowKey::ipv6([1, 2], [3, 4], 17, 1).words()[5], 0x0000_0111_0000_8000);

    let slot = Slot::new(&key, 60, 0xf012, Tick::from_ns(0), 1);
    assert_eq!(slot.key(), key, "flags and epoch are not part of the key");
    assert_eq!((slot.tcp_flags(), slot.epoch()), (0x012, 1));
    assert!(slot.is_for(&key, KEY_BASE_MASK | KEY_VLAN_MASK | KEY_CUSTOMER_VLAN_MASK));
    let mut other = key;
    other.set_vlans(0x124, 0x456);
    assert!(slot.is_for(&other, KEY_BASE_MASK));
    assert!(!slot.is_for(&other, KEY_BASE_MASK | KEY_VLAN_MASK));
}
