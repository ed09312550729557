// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where every frame of a socket's memory is: in exactly one place, always.

/// How many frames are where.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FrameCounts {
    /// Nobody's: to be put into the fill ring when it has room.
    pub free: usize,
    /// In the fill ring, in the kernel, or in the receive ring.
    pub in_kernel: usize,
    /// Being read.
    pub in_hand: usize,
}

impl FrameCounts {
    /// All frames there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.free + self.in_kernel + self.in_hand
    }
}

/// The ledger of frames. `F` describes a frame; builds with debug assertions follow each one by its address.
///
/// A frame goes round: free → kernel ([`Self::offer`], [`Self::given`]) → in hand ([`Self::taken`]) → free
/// ([`Self::put_back`]).
#[derive(Debug)]
pub(super) struct FrameLedger<F> {
    free: Vec<F>,
    in_kernel: usize,
    in_hand: usize,
    places: Places<F>,
}

impl<F> FrameLedger<F> {
    /// All frames, free. They lie one after the other from address 0; an address anywhere in a frame names it.
    pub(super) fn new(frames: Vec<F>, frame_octets: usize, address: fn(&F) -> usize) -> Self {
        let of = if cfg!(debug_assertions) { vec![Place::Free; frames.len()] } else { Vec::new() };
        Self { free: frames, in_kernel: 0, in_hand: 0, places: Places { of, frame_octets, address } }
    }

    /// At most `room` free frames, for the fill ring. They stay free until [`Self::given`].
    pub(super) fn offer(&self, room: usize) -> &[F] {
        &self.free[self.free.len().saturating_sub(room)..]
    }

    /// The last `count` frames of the last offer are in the fill ring now.
    pub(super) fn given(&mut self, count: usize) {
        let kept = self.free.len().saturating_sub(count);
        for frame in &self.free[kept..] {
            self.places.moves(frame, Place::Free, Place::Kernel);
        }
        self.in_kernel += self.free.len() - kept;
        self.free.truncate(kept);
    }

    /// These came out of the receive ring.
    pub(super) fn taken(&mut self, frames: &[F]) {
        debug_assert!(frames.len() <= self.in_kernel, "more came back than were given");
        for frame in frames {
            self.places.moves(frame, Place::Kernel, Place::Hand);
        }
        self.in_kernel -= frames.len();
        self.in_hand += frames.len();
    }

    /// This one has been read.
    pub(super) fn put_back(&mut self, frame: F) {
        self.places.moves(&frame, Place::Hand, Place::Free);
        self.in_hand -= 1;
        self.free.push(frame);
    }

    /// How many are where.
    pub(super) fn counts(&self) -> FrameCounts {
        FrameCounts { free: self.free.len(), in_kernel: self.in_kernel, in_hand: self.in_hand }
    }
}

/// Where each frame is, in builds with debug assertions; in others nothing.
#[derive(Debug)]
struct Places<F> {
    of: Vec<Place>,
    frame_octets: usize,
    address: fn(&F) -> usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Free,
    Kernel,
    Hand,
}

impl<F> Places<F> {
    #[inline(always)]
    fn moves(&mut self, frame: &F, from: Place, to: Place) {
        if cfg!(debug_assertions) {
            let number = (self.address)(frame) / self.frame_octets;
            assert_eq!(self.of[number], from, "frame {number} is not where it should be");
            self.of[number] = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Fill(usize),
        Take(usize),
        PutBack(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..80_usize).prop_map(Step::Fill),
            (0..80_usize).prop_map(Step::Take),
            (0..80_usize).prop_map(Step::PutBack),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Whatever is filled, received and put back in whatever order and number: no frame is lost or doubled.
        #[test]
        fn no_frame_is_lost_or_doubled(frames in 1..64_usize, steps in steps()) {
            let mut ledger = FrameLedger::new((0..frames).collect(), 1, |&frame| frame);
            let (mut kernel, mut hand) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Fill(room) => {
                        let offer = ledger.offer(room).to_vec();
                        prop_assert_eq!(offer.len(), room.min(ledger.counts().free));
                        ledger.given(offer.len());
                        kernel.extend(offer);
                    }
                    Step::Take(count) => {
                        let came: Vec<usize> = kernel.drain(..count.min(kernel.len())).collect();
                        ledger.taken(&came);
                        hand.extend(came);
                    }
                    Step::PutBack(count) => {
                        for frame in hand.drain(..count.min(hand.len())) {
                            ledger.put_back(frame);
                        }
                    }
                }
                let counts = ledger.counts();
                prop_assert_eq!(counts.total(), frames);
                prop_assert_eq!((counts.in_kernel, counts.in_hand), (kernel.len(), hand.len()));
                let mut all: Vec<usize> =
                    [ledger.offer(usize::MAX), &kernel, &hand].into_iter().flatten().copied().collect();
                all.sort_unstable();
                prop_assert!(all.into_iter().eq(0..frames));
            }
        }
    }

    #[test]
    #[should_panic(expected = "not where it should be")]
    fn a_frame_that_comes_twice_is_noticed() {
        let mut ledger = FrameLedger::new(vec![0_usize, 2048], 2048, |&address| address);
        ledger.given(2);
        ledger.taken(&[2048 + 256]);
        ledger.taken(&[2048]);
    }
}
