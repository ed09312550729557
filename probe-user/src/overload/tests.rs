// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ladder's rules one by one, and under any sequence of levels.

use std::{sync::mpsc::channel, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::flow::{ExpiryOptions, Spread, Timestamp};

const MS: u64 = 1_000_000;
const DWELL: u64 = 500;
const CALM: u64 = 5000;
const NONE: Pressure = Pressure { ring: 0.0, table: 0.0, queue: 0.0 };

fn options(top: Rung) -> LadderOptions {
    LadderOptions::new(Duration::from_millis(DWELL), top)
}

fn ladder() -> Ladder {
    Ladder::new(options(Rung::TOP))
}

fn at(ms: u64) -> Timestamp {
    Timestamp((1_000_000 + ms) * MS)
}

fn table(level: f64) -> Pressure {
    Pressure { table: level, ..NONE }
}

fn ring(level: f64) -> Pressure {
    Pressure { ring: level, ..NONE }
}

fn queue(level: f64) -> Pressure {
    Pressure { queue: level, ..NONE }
}

/// Numbers of the rungs after each step.
fn rungs(ladder: &mut Ladder, steps: &[(u64, Pressure)]) -> Vec<u8> {
    let after = |&(ms, pressure): &(u64, Pressure)| {
        ladder.step(at(ms), pressure);
        ladder.rung().number()
    };
    steps.iter().map(after).collect()
}

#[test]
fn a_high_mark_must_be_passed_for_the_dwell() {
    for level in [table(0.9), ring(0.5), queue(0.8)] {
        let steps = [(0, level), (499, level), (500, level), (999, level), (1000, level)];
        assert_eq!(rungs(&mut ladder(), &steps), [0, 0, 1, 1, 2], "{level:?}");
        let peak = [(0, level), (400, NONE), (500, level), (999, level), (1000, level)];
        assert_eq!(rungs(&mut ladder(), &peak), [0, 0, 0, 0, 1], "{level:?}");
    }
}

#[test]
fn a_ring_nearly_full_moves_at_once_but_no_faster_than_the_dwell() {
    let full = ring(0.8);
    assert_eq!(
        rungs(&mut ladder(), &[(0, full), (1, full), (499, full), (500, full), (1000, full)]),
        [1, 1, 1, 2, 3]
    );
}

#[test]
fn calm_brings_it_down_one_rung_at_a_time() {
    let mut ladder = ladder();
    assert_eq!(rungs(&mut ladder, &[(0, ring(0.9)), (500, ring(0.9))]), [1, 2]);
    let calm = Pressure { ring: 0.19, table: 0.69, queue: 0.29 };
    let steps = [(600, calm), (5599, calm), (5600, calm), (10_599, calm), (10_600, calm), (30_000, calm)];
    assert_eq!(rungs(&mut ladder, &steps), [2, 2, 1, 1, 0, 0]);
}

#[test]
fn between_the_marks_nothing_moves() {
    let mut ladder = ladder();
    rungs(&mut ladder, &[(0, ring(1.0))]);
    for level in [table(0.7), table(0.89), ring(0.2), ring(0.49), queue(0.3), queue(0.79)] {
        let steps: Vec<_> = (1..40).map(|second| (second * 1000, level)).collect();
        assert!(rungs(&mut ladder, &steps).iter().all(|&rung| rung == 1), "{level:?}");
    }
}

#[test]
fn a_moment_between_the_marks_begins_the_calm_anew() {
    let mut ladder = ladder();
    let steps =
        [(0, ring(1.0)), (1000, NONE), (5900, table(0.8)), (6100, NONE), (11_000, NONE), (11_100, NONE)];
    assert_eq!(rungs(&mut ladder, &steps), [1, 1, 1, 1, 1, 0]);
}

/// Seconds without pressure until it moves down.
fn wait_for_calm(ladder: &mut Ladder, now: &mut u64) -> u64 {
    let since = *now;
    loop {
        *now += DWELL;
        if ladder.step(at(*now), NONE).is_some() {
            return (*now - since) / 1000;
        }
    }
}

fn climb(ladder: &mut Ladder, now: &mut u64) {
    *now += DWELL;
    assert!(ladder.step(at(*now), ring(1.0)).is_some());
}

#[test]
fn the_calm_grows_while_moves_down_are_undone_and_shrinks_again() {
    let (mut ladder, mut now) = (ladder(), 0);
    let calms: Vec<u64> = (0..7)
        .map(|_| {
            climb(&mut ladder, &mut now);
            wait_for_calm(&mut ladder, &mut now)
        })
        .collect();
    assert_eq!(calms, [5, 10, 20, 40, 80, 80, 80]);
    for _ in 0..6 {
        climb(&mut ladder, &mut now);
    }
    let calms: Vec<u64> = (0..6).map(|_| wait_for_calm(&mut ladder, &mut now)).collect();
    assert_eq!(calms, [80, 80, 40, 20, 10, 5]);
    // Much later it is another overload, not the same one.
    now += 1_000_000;
    climb(&mut ladder, &mut now);
    assert_eq!(wait_for_calm(&mut ladder, &mut now), 5);
}

#[test]
fn it_stops_at_the_top_it_was_given() {
    for (top, interval) in [(Rung::EARLY_EXPORT, 1), (Rung::TOP, 1024)] {
        let mut ladder = Ladder::new(options(top));
        let steps: Vec<_> = (0..30).map(|step| (step * DWELL, ring(1.0))).collect();
        assert_eq!(rungs(&mut ladder, &steps).last(), Some(&top.number()));
        assert_eq!(ladder.step(at(30 * DWELL), ring(1.0)), None, "there is nothing above");
        assert_eq!(ladder.rung().sampling_interval(), interval);
    }
}

#[test]
fn each_rung_does_what_those_below_it_do_and_more() {
    let mut rung = Rung::NORMAL;
    let mut seen = Vec::new();
    for _ in 0..=Rung::TOP.number() {
        seen.push((
            rung.idle(Duration::from_secs(60)).as_secs(),
            rung.exports_early(),
            rung.sampling_interval(),
        ));
        rung = rung.up();
    }
    assert_eq!(seen[..5], [(60, false, 1), (15, false, 1), (15, true, 1), (15, true, 2), (15, true, 4)]);
    assert_eq!(seen.last(), Some(&(15, true, 1024)));
    assert_eq!(rung, Rung::TOP);
    assert_eq!(Rung::NORMAL.down(), Rung::NORMAL);
}

#[test]
fn the_idle_timeout_is_shortened_to_a_second_at_least_and_never_lengthened() {
    for (configured, shortened) in [(60_000, 15_000), (15_000, 3750), (2000, 1000), (1000, 1000), (300, 300)]
    {
        let idle = Rung::SHORT_IDLE.idle(Duration::from_millis(configured));
        assert_eq!(idle, Duration::from_millis(shortened));
    }
}

#[test]
fn a_change_says_what_why_how_much_and_what_to_do() {
    let mut ladder = ladder();
    let pressure = Pressure { ring: 0.12, table: 0.934, queue: 0.031 };
    ladder.step(at(0), pressure);
    let up = ladder.step(at(DWELL), pressure).unwrap();
    assert_eq!(
        up.to_string(),
        "overload: rung 1 after 0: the idle timeout is shortened, because the flow table is 93 % full \
         (spill ring 12 %, flow table 93 %, queue 3 %); if this lasts, raise --max-flows or shorten \
         --idle-timeout, if this is no attack"
    );
    ladder.step(at(DWELL), NONE);
    let down = ladder.step(at(DWELL + CALM), NONE).unwrap();
    assert_eq!(
        down.to_string(),
        "overload: rung 0 after 1: nothing is held back, because the pressure is gone \
         (spill ring 0 %, flow table 0 %, queue 0 %)"
    );
}

#[test]
fn the_governor_judges_the_highest_levels_since_the_last_time() {
    let (changes, told) = channel();
    let mut governor = Governor::new(ladder(), changes);
    governor.gauge().note(&ring(0.85));
    governor.gauge().note(&table(0.3));
    governor.gauge().note(&ring(0.1));
    assert!(governor.is_urgent());
    let change = governor.judge(at(0)).unwrap();
    assert_eq!(change.pressure, Pressure { ring: 0.85, table: 0.3, queue: 0.0 });
    assert!(!governor.is_urgent(), "the next answer is made of new levels");
    assert_eq!(governor.judge(at(DWELL)), None);
    assert_eq!(governor.judge(at(DWELL + CALM)).unwrap().to, Rung::NORMAL);
    let status = OverloadStatus { rung: Rung::NORMAL, ups: 1, downs: 1 };
    assert_eq!(governor.status(), status);
    assert_eq!(told.try_iter().count(), 2);
}

#[test]
fn early_exports_end_below_the_low_mark_and_never_overfill_the_queue() {
    let (changes, _told) = channel();
    let mut governor = Governor::new(ladder(), changes);
    let configured = ExpiryOptions {
        idle: Duration::from_secs(20),
        active: Duration::from_secs(60),
        tcp_end: true,
        spread: Spread::default(),
    };
    assert_eq!(governor.gauge().early_exports(1000, 1000, 1000), 0);
    for step in 0..2 {
        governor.gauge().note(&ring(1.0));
        governor.judge(at(step * DWELL));
    }
    assert_eq!(
        governor.gauge().expiry(configured),
        ExpiryOptions { idle: Duration::from_secs(5), ..configured }
    );
    assert_eq!(governor.gauge().early_exports(1000, 1000, 10_000), 125, "a share of the table");
    assert_eq!(governor.gauge().early_exports(750, 1000, 10_000), 85, "to below the low mark");
    assert_eq!(governor.gauge().early_exports(665, 1000, 10_000), 0);
    assert_eq!(governor.gauge().early_exports(1000, 1000, 7), 7, "what the queue has room for");
    assert_eq!(governor.gauge().early_exports(1, 1, 5), 1, "also of the smallest table");
}

fn level() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64, Just(f64::NAN), Just(f64::INFINITY)]
}

proptest! {
    #[test]
    fn whatever_comes_it_moves_one_rung_a_dwell_stays_on_the_ladder_and_comes_down(
        top in prop_oneof![Just(Rung::EARLY_EXPORT), Just(Rung::TOP)],
        steps in prop::collection::vec((0u64..2000, level(), level(), level()), 0..200),
    ) {
        let mut ladder = Ladder::new(options(top));
        let (mut now, mut moved) = (0, None);
        for (wait, ring, table, queue) in steps {
            now += wait;
            let before = ladder.rung();
            let pressure = Pressure { ring, table, queue };
            let change = ladder.step(at(now), pressure);
            let after = ladder.rung();
            prop_assert_eq!(change.is_some(), before != after);
            prop_assert!(after <= top);
            if let Some(change) = change {
                prop_assert_eq!((change.from, change.to), (before, after));
                prop_assert!(after == before.up() || after == before.down());
                prop_assert!(moved.is_none_or(|moved| now - moved >= DWELL));
                prop_assert_eq!(change.is_up(), change.cause.is_some());
                moved = Some(now);
            }
        }
        // When it is calm it is back within a calm for each rung, and stays. The longest halves at each but the first.
        let rung = u64::from(ladder.rung().number());
        let longest = 3 * u64::try_from(ladder.options().longest_calm.as_millis()).unwrap();
        for step in 1..=(longest / DWELL) + rung * (CALM / DWELL + 1) + 2 {
            let change = ladder.step(at(now + step * DWELL), NONE);
            prop_assert!(change.is_none_or(|change| !change.is_up()));
        }
        prop_assert_eq!(ladder.rung(), Rung::NORMAL);
    }
}
