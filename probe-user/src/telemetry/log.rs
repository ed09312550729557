// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The log on standard error.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};

use crate::{
    cli::{LogFormat, LogLevel, LogOptions},
    error::ProbeError,
};

/// Starts the log of the process.
///
/// # Errors
/// If it was started before.
pub fn start(options: &LogOptions) -> Result<(), ProbeError> {
    tracing::subscriber::set_global_default(subscriber(options, io::stderr().is_terminal(), io::stderr))
        .map_err(|error| ProbeError::run("cannot start the log").because(error))
}

fn subscriber<W>(options: &LogOptions, colours: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A closed standard error must not end the probe: the subscriber would report it there, and panic.
    let log = tracing_subscriber::fmt()
        .with_max_level(filter(options.log_level))
        .with_writer(writer)
        .with_target(false)
        .log_internal_errors(false);
    match options.log_format {
        LogFormat::Text => Box::new(log.with_ansi(colours).finish()),
        LogFormat::Json => {
            Box::new(log.json().flatten_event(true).with_current_span(false).with_span_list(false).finish())
        }
        LogFormat::Journald => Box::new(log.with_ansi(false).event_format(Journald).finish()),
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// `<priority>message`, as sd-daemon(3) describes: the journal adds the time and takes the priority off.
struct Journald;

impl<S, N> FormatEvent<S, N> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the log of two events looks like, at level info.
    fn logged(log_format: LogFormat) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let options = LogOptions { log_level: LogLevel::Info, log_format };
        let log = subscriber(&options, false, move || writer.clone());
        tracing::subscriber::with_default(log, || {
            tracing::warn!(interface = "eth1", "metered in generic mode");
            tracing::debug!("not shown");
        });
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_has_time_level_and_fields() {
        let line = logged(LogFormat::Text);
        assert!(line.ends_with("Z  WARN metered in generic mode interface=\"eth1\"\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let object: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!(object["level"], "WARN");
        assert_eq!(object["message"], "metered in generic mode");
        assert_eq!(object["interface"], "eth1");
        assert!(object["timestamp"].is_string());
    }

    #[test]
    fn journald_has_the_priority_and_no_time() {
        assert_eq!(logged(LogFormat::Journald), "<4>metered in generic mode interface=\"eth1\"\n");
    }
}
