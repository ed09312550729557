// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for frames of several sources at once.

use std::{os::fd::AsFd, time::Duration};

use nix::poll::{PollFd, PollFlags, ppoll};

use super::FrameSource;
use crate::bell::Bell;

/// Returns when frames have come to one of `sources`, when `bell` was rung, or after `limit`; at once where a source is
/// polled busily.
pub fn wait(sources: &mut [&mut dyn FrameSource], bell: Option<&Bell>, limit: Duration) {
    let mut descriptors = Vec::with_capacity(sources.len() + 1);
    for source in sources.iter() {
        let Some(descriptor) = source.descriptor() else { return };
        descriptors.push(PollFd::new(descriptor, PollFlags::POLLIN));
    }
    descriptors.extend(bell.map(|bell| PollFd::new(bell.as_fd(), PollFlags::POLLIN)));
    // A signal ends it early, which is as good as a frame.
    ppoll(&mut descriptors, Some(limit.into()), None).ok();
    let trouble = |descriptor: &PollFd<'_>| {
        descriptor.revents().is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
    };
    let troubled: Vec<bool> = descriptors.iter().map(trouble).collect();
    for (source, _) in sources.iter_mut().zip(troubled).filter(|(_, troubled)| *troubled) {
        source.trouble();
    }
    if let Some(bell) = bell {
        bell.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::BorrowedFd, os::unix::net::UnixStream};

    use super::*;
    use crate::{
        flow::Moment,
        meter::{FrameSink, SourceDrops, SourceError, SourceStatus},
    };

    const LONG: Duration = Duration::from_secs(60);

    /// A source with nothing but its descriptor, or busily polled.
    struct Bare {
        stream: Option<UnixStream>,
        troubled: bool,
    }

    impl Bare {
        fn pair() -> (Self, UnixStream) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (Self { stream: Some(ours), troubled: false }, theirs)
        }
    }

    impl FrameSource for Bare {
        fn interface(&self) -> u32 {
            1
        }

        fn receive(&mut self, _: Moment, _: usize, _: &mut dyn FrameSink) -> Result<usize, SourceError> {
            Ok(0)
        }

        fn waiting(&self) -> usize {
            0
        }

        fn drops(&mut self) -> SourceDrops {
            SourceDrops::default()
        }

        fn status(&self) -> SourceStatus {
            SourceStatus::default()
        }

        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            self.stream.as_ref().map(AsFd::as_fd)
        }

        fn trouble(&mut self) {
            self.troubled = true;
        }
    }

    #[test]
    fn whoever_comes_first_ends_it() {
        let (bell, (mut first, _kept), (mut second, mut sender)) =
            (Bell::new().unwrap(), Bare::pair(), Bare::pair());
        bell.ring();
        wait(&mut [&mut first, &mut second], Some(&bell), LONG);
        wait(&mut [&mut first, &mut second], Some(&bell), Duration::from_millis(1));
        sender.write_all(&[1]).unwrap();
        wait(&mut [&mut first, &mut second], Some(&bell), LONG);
        assert!(!first.troubled && !second.troubled);
    }

    #[test]
    fn a_source_in_trouble_is_told() {
        let ((mut first, _kept), (mut second, gone)) = (Bare::pair(), Bare::pair());
        drop(gone);
        wait(&mut [&mut first, &mut second], None, LONG);
        assert!(!first.troubled && second.troubled);
    }

    #[test]
    fn beside_a_source_that_is_polled_busily_nobody_rests() {
        let (mut first, _kept) = Bare::pair();
        wait(&mut [&mut first, &mut Bare { stream: None, troubled: false }], None, LONG);
    }
}
