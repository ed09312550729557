// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A writer for what a component prints, that the test reads meanwhile.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

/// Keeps all that is written; copies share it.
#[derive(Clone, Default, Debug)]
pub struct SharedOutput(Arc<Mutex<Vec<u8>>>);

impl SharedOutput {
    /// What was written so far.
    ///
    /// # Panics
    /// When it is no UTF-8.
    #[must_use]
    pub fn text(&self) -> String {
        let octets = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(octets).unwrap_or_else(|error| panic!("what was printed is no text: {error}"))
    }
}

impl Write for SharedOutput {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
