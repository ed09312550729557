// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ring against a plain model, between two real threads, and in every interleaving (loom).

use super::ring;

#[cfg(not(loom))]
mod plain {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::ring;

    #[test]
    fn capacity_is_rounded_up_to_a_power_of_two() {
        for (asked, given) in [(0, 1), (1, 1), (5, 8), (64, 64)] {
            assert_eq!(ring::<u8>(asked).0.capacity(), given);
            assert_eq!(ring::<u8>(asked).1.capacity(), given);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Pop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![(0usize..20).prop_map(Step::Push), (0usize..20).prop_map(Step::Pop)]
    }

    proptest! {
        #[test]
        fn behaves_as_a_bounded_deque(capacity in 1usize..18, steps in prop::collection::vec(step(), 0..200)) {
            let (mut producer, mut consumer) = ring::<u64>(capacity);
            let mut model = VecDeque::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Push(count) => {
                        let items: Vec<u64> = (next..).take(count).collect();
                        let taken = producer.push_slice(&items);
                        prop_assert_eq!(taken, count.min(producer.capacity() - model.len()));
                        model.extend(&items[..taken]);
                        next += taken as u64;
                    }
                    Step::Pop(limit) => {
                        let mut out = Vec::new();
                        let count = consumer.pop_into(&mut out, limit);
                        let expected: Vec<u64> = model.drain(..limit.min(model.len())).collect();
                        prop_assert_eq!(count, expected.len());
                        prop_assert_eq!(out, expected);
                    }
                }
                prop_assert_eq!(producer.len(), model.len());
                prop_assert_eq!(consumer.len(), model.len());
                prop_assert_eq!(consumer.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn two_threads_pass_everything_in_order() {
        const ITEMS: u64 = 1_000_000;
        let (mut producer, mut consumer) = ring::<[u64; 11]>(256);
        let writer = std::thread::spawn(move || {
            let mut next = 0;
            while next < ITEMS {
                let batch: Vec<_> = (next..ITEMS.min(next + 64)).map(|n| [n; 11]).collect();
                let taken = producer.push_slice(&batch);
                next += taken as u64;
                if taken == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let (mut out, mut expected) = (Vec::new(), 0);
        while expected < ITEMS {
            out.clear();
            if consumer.pop_into(&mut out, 100) == 0 {
                std::thread::yield_now();
            }
            for item in &out {
                assert_eq!(*item, [expected; 11]);
                expected += 1;
            }
        }
        writer.join().unwrap();
        assert!(consumer.is_empty());
    }
}

#[cfg(loom)]
mod interleavings {
    use super::ring;

    /// Pushes 0..`items` in batches while the other thread pops: nothing lost, doubled, torn or reordered.
    fn pass(capacity: usize, items: u32, batch: usize, limit: usize) {
        loom::model(move || {
            let (mut producer, mut consumer) = ring::<[u32; 2]>(capacity);
            let writer = loom::thread::spawn(move || {
                let all: Vec<_> = (0..items).map(|n| [n, !n]).collect();
                let mut rest = &all[..];
                while !rest.is_empty() {
                    let taken = producer.push_slice(&rest[..batch.min(rest.len())]);
                    rest = &rest[taken..];
                    if taken == 0 {
                        loom::thread::yield_now();
                    }
                }
            });
            let mut out = Vec::new();
            while out.len() < items as usize {
                assert!(consumer.len() <= consumer.capacity());
                if consumer.pop_into(&mut out, limit) == 0 {
                    loom::thread::yield_now();
                }
            }
            writer.join().unwrap();
            let expected: Vec<_> = (0..items).map(|n| [n, !n]).collect();
            assert_eq!(out, expected);
            assert!(consumer.is_empty());
        });
    }

    #[test]
    fn one_cell() {
        pass(1, 3, 1, 1);
    }

    #[test]
    fn batches_across_the_wrap() {
        pass(2, 5, 2, 2);
    }

    #[test]
    fn batches_larger_than_the_ring() {
        pass(2, 4, 4, 4);
    }

    #[test]
    fn a_full_ring_takes_nothing_and_loses_nothing() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::<u32>(2);
            assert_eq!(producer.push_slice(&[1, 2, 3]), 2);
            let reader = loom::thread::spawn(move || {
                let mut out = Vec::new();
                consumer.pop_into(&mut out, 1);
                (out, consumer)
            });
            let taken = producer.push_slice(&[3, 4]);
            assert!(taken <= 1);
            let (mut out, mut consumer) = reader.join().unwrap();
            consumer.pop_into(&mut out, 8);
            assert_eq!(out, [1, 2, 3][..2 + taken]);
        });
    }
}
