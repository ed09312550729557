// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX files (RFC 5655): messages one after the other, nothing between them.

use std::io::{self, ErrorKind, Read};

const VERSION: u16 = 10;
const HEADER_LEN: usize = 16;

/// Why a file cannot be read on. Octets of the file count from 0.
#[derive(Debug, thiserror::Error)]
pub enum IpfixFileError {
    /// No message begins here.
    #[error(
        "at octet {offset} stands {found:#06x} where an IPFIX message begins with {VERSION:#06x}: this is no \
         IPFIX file (RFC 5655), or it is damaged there; the messages before were read"
    )]
    NotAMessage {
        /// Where.
        offset: u64,
        /// The two octets there.
        found: u16,
    },
    /// A length that no message has.
    #[error(
        "the message at octet {offset} says that it has {length} octets, but its header alone has \
         {HEADER_LEN}: the file is damaged there; the messages before were read"
    )]
    Length {
        /// Where the message begins.
        offset: u64,
        /// What it says.
        length: u16,
    },
    /// The end of the file within a message.
    #[error(
        "the file ends within the message at octet {offset}, of which {found} octets are there: its writer was \
         stopped, or the copy is not complete; the messages before were read"
    )]
    Truncated {
        /// Where the message begins.
        offset: u64,
        /// Octets of it that are there.
        found: usize,
    },
    /// The file cannot be read.
    #[error("reading at octet {offset} failed: {cause}; check the disk")]
    Read {
        /// Where.
        offset: u64,
        /// The kernel's answer.
        cause: io::Error,
    },
}

/// Reads messages off a file. Memory: one message, at most 64 KiB.
#[derive(Debug)]
pub struct IpfixFileReader<R> {
    from: R,
    offset: u64,
    message: Vec<u8>,
    failed: bool,
}

impl<R: Read> IpfixFileReader<R> {
    /// Reads from here; a buffered reader is worth it.
    pub fn new(from: R) -> Self {
        Self { from, offset: 0, message: Vec::new(), failed: false }
    }

    /// Where the next message begins, in octets from the beginning.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next message, header included; `None` at the end of the file, and after an error: without a
    /// length nobody knows where the next one begins.
    ///
    /// # Errors
    /// Octets that are no message, and the end of the file within one.
    pub fn next_message(&mut self) -> Option<Result<&[u8], IpfixFileError>> {
        if self.failed {
            return None;
        }
        match self.read_message() {
            Ok(true) => Some(Ok(&self.message)),
            Ok(false) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }

    fn read_message(&mut self) -> Result<bool, IpfixFileError> {
        let offset = self.offset;
        self.message.clear();
        self.read_up_to(4)?;
        let &[first, second, high, low] = &self.message[..] else {
            let found = self.message.len();
            // Two octets tell garbage from a message cut short.
            return match self.message[..] {
                [] => Ok(false),
                [first, second, ..] if u16::from_be_bytes([first, second]) != VERSION => {
                    Err(IpfixFileError::NotAMessage { offset, found: u16::from_be_bytes([first, second]) })
                }
                _ => Err(IpfixFileError::Truncated { offset, found }),
            };
        };
        let version = u16::from_be_bytes([first, second]);
        if version != VERSION {
            return Err(IpfixFileError::NotAMessage { offset, found: version });
        }
        let length = u16::from_be_bytes([high, low]);
        if usize::from(length) < HEADER_LEN {
            return Err(IpfixFileError::Length { offset, length });
        }
        self.read_up_to(length.into())?;
        if self.message.len() < usize::from(length) {
            return Err(IpfixFileError::Truncated { offset, found: self.message.len() });
        }
        self.offset += u64::from(length);
        Ok(true)
    }

    /// Fills the message to a length, if so much is there.
    fn read_up_to(&mut self, length: usize) -> Result<(), IpfixFileError> {
        let mut filled = self.message.len();
        self.message.resize(length, 0);
        while filled < length {
            match self.from.read(&mut self.message[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(IpfixFileError::Read { offset: self.offset, cause }),
            }
        }
        self.message.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut octets = vec![7; length];
        octets[..2].copy_from_slice(&[0, 10]);
        octets[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        octets
    }

    /// Lengths of the messages, and the error at the end.
    fn read(octets: &[u8]) -> (Vec<usize>, Option<String>) {
        let mut reader = IpfixFileReader::new(octets);
        let mut lengths = Vec::new();
        while let Some(message) = reader.next_message() {
            match message {
                Ok(message) => lengths.push(message.len()),
                Err(error) => {
                    assert!(reader.next_message().is_none(), "nothing is read after an error");
                    return (lengths, Some(error.to_string()));
                }
            }
        }
        assert_eq!(reader.offset(), octets.len() as u64);
        (lengths, None)
    }

    #[test]
    fn messages_are_read_one_after_the_other() {
        assert_eq!(read(&[]), (vec![], None));
        let file = [message(16), message(65_535), message(100)].concat();
        assert_eq!(read(&file), (vec![16, 65_535, 100], None));
    }

    #[test]
    fn the_end_of_a_file_may_be_missing_at_any_octet() {
        let file = [message(20), message(40)].concat();
        for cut in 1..file.len() {
            let (lengths, error) = read(&file[..cut]);
            assert_eq!(lengths, if cut < 20 { vec![] } else { vec![20] });
            let (offset, found) = if cut < 20 { (0, cut) } else { (20, cut - 20) };
            match error {
                None => assert_eq!(cut, 20),
                Some(error) => assert!(
                    error.contains(&format!("within the message at octet {offset}, of which {found} octets")),
                    "{error}"
                ),
            }
        }
    }

    #[test]
    fn garbage_is_named_with_its_place() {
        let (lengths, error) = read(b"{\"packetDeltaCount\":1}");
        assert_eq!((lengths, error.unwrap().contains("at octet 0 stands 0x7b22")), (vec![], true));
        let (lengths, error) = read(&[&message(24)[..], b"\0\x09xx"].concat());
        assert_eq!((lengths, error.unwrap().contains("at octet 24 stands 0x0009")), (vec![24], true));
        let (lengths, error) = read(&[&message(24)[..], b"zz"].concat());
        assert_eq!((lengths, error.unwrap().contains("at octet 24 stands 0x7a7a")), (vec![24], true));
        let (lengths, error) = read(&[&message(24)[..], &[0, 10, 0, 15]].concat());
        assert_eq!((lengths, error.unwrap().contains("says that it has 15 octets")), (vec![24], true));
    }
}
