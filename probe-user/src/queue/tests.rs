// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ring against a plain model, between real threads, and in every interleaving (loom).

#[cfg(not(loom))]
mod plain {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::{broadcast, ring};

    #[test]
    fn capacity_is_rounded_up_to_a_power_of_two() {
        for (asked, given) in [(0, 1), (1, 1), (5, 8), (64, 64)] {
            assert_eq!(ring::<u8>(asked).0.capacity(), given);
            assert_eq!(ring::<u8>(asked).1.capacity(), given);
        }
    }

    const CONSUMERS: usize = 3;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        /// By this consumer, so many at most.
        Pop(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0usize..20).prop_map(Step::Push),
            (0..CONSUMERS, 0usize..20).prop_map(|(consumer, limit)| Step::Pop(consumer, limit))
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_bounded_deque_for_each_consumer(
            capacity in 1usize..18,
            consumers in 1..=CONSUMERS,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let (mut producer, mut readers) = broadcast::<u64>(capacity, consumers);
            let mut models = vec![VecDeque::new(); consumers];
            let longest = |models: &[VecDeque<u64>]| models.iter().map(VecDeque::len).max().unwrap();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Push(count) => {
                        let items: Vec<u64> = (next..).take(count).collect();
                        let taken = producer.push_slice(&items);
                        prop_assert_eq!(taken, count.min(producer.capacity() - longest(&models)));
                        models.iter_mut().for_each(|model| model.extend(&items[..taken]));
                        next += taken as u64;
                    }
                    Step::Pop(consumer, limit) => {
                        let (reader, model) = (&mut readers[consumer % consumers], &mut models[consumer % consumers]);
                        let mut out = Vec::new();
                        let count = reader.pop_into(&mut out, limit);
                        let expected: Vec<u64> = model.drain(..limit.min(model.len())).collect();
                        prop_assert_eq!(count, expected.len());
                        prop_assert_eq!(out, expected);
                    }
                }
                prop_assert_eq!(producer.len(), longest(&models));
                for (reader, model) in readers.iter().zip(&models) {
                    prop_assert_eq!(reader.len(), model.len());
                    prop_assert_eq!(reader.is_empty(), model.is_empty());
                }
            }
        }
    }

    #[test]
    fn without_a_consumer_nothing_is_kept() {
        let (mut producer, readers) = broadcast::<u64>(2, 0);
        assert!(readers.is_empty());
        for _ in 0..3 {
            assert_eq!((producer.push_slice(&[1, 2]), producer.len()), (2, 0));
        }
    }

    /// From one thread to so many others.
    fn pass(consumers: usize) {
        const ITEMS: u64 = 300_000;
        let (mut producer, readers) = broadcast::<[u64; 11]>(256, consumers);
        let read = |mut reader: crate::queue::Consumer<[u64; 11]>| {
            let (mut out, mut expected) = (Vec::new(), 0);
            while expected < ITEMS {
                out.clear();
                if reader.pop_into(&mut out, 100) == 0 {
                    std::thread::yield_now();
                }
                for item in &out {
                    assert_eq!(*item, [expected; 11]);
                    expected += 1;
                }
            }
            assert!(reader.is_empty());
        };
        let threads: Vec<_> =
            readers.into_iter().map(|reader| std::thread::spawn(move || read(reader))).collect();
        let mut next = 0;
        while next < ITEMS {
            let batch: Vec<_> = (next..ITEMS.min(next + 64)).map(|n| [n; 11]).collect();
            let taken = producer.push_slice(&batch);
            next += taken as u64;
            if taken == 0 {
                std::thread::yield_now();
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(producer.is_empty());
    }

    #[test]
    fn every_thread_gets_everything_in_order() {
        [1, 3].into_iter().for_each(pass);
    }
}

#[cfg(loom)]
mod interleavings {
    use super::super::{broadcast, ring};

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

    /// Two consumers at different speeds: a cell that one has not read is not written.
    #[test]
    fn each_of_two_consumers_gets_everything() {
        let item = |number: u32| [number, !number];
        loom::model(move || {
            let (mut producer, readers) = broadcast::<[u32; 2]>(1, 2);
            assert_eq!(producer.push_slice(&[item(0)]), 1);
            // Each tries twice, without waiting: loom tries all that may happen meanwhile.
            let read = |mut reader: crate::queue::Consumer<[u32; 2]>| {
                let mut out = Vec::new();
                reader.pop_into(&mut out, 1);
                reader.pop_into(&mut out, 1);
                (out, reader)
            };
            let threads: Vec<_> =
                readers.into_iter().map(|reader| loom::thread::spawn(move || read(reader))).collect();
            let mut pushed = 1;
            for _ in 0..2 {
                pushed += u32::try_from(producer.push_slice(&[item(pushed)])).unwrap();
            }
            for thread in threads {
                let (mut out, mut reader) = thread.join().unwrap();
                reader.pop_into(&mut out, 8);
                assert_eq!(out, (0..pushed).map(item).collect::<Vec<_>>());
            }
            assert!(producer.is_empty());
        });
    }
}
