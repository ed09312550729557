// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which exporter serves which collectors: one for each format, so that none waits for another's encoding.
//!
//! Formats are the versions, RFC 5655 files (a disk may be slow) and what is printed (its reader may be slow). With
//! `balance` and `failover` the collectors get shares of one stream of records, so one exporter knows them all.
//! Every exporter takes every record from the queues, each through a consumer of its own.

use std::sync::Arc;

use super::{
    exporter::{Exporter, ExporterOptions, OpenCollector},
    print::Printer,
    select::CollectorPolicy,
    stats::{CollectorStats, ExportStats},
    values::Transport,
};
use crate::{flow::FlowRecord, queue::Consumer};

/// Collectors, divided among exporters that are yet to be made.
pub struct Division {
    parts: Vec<Part>,
    /// Of each collector, in the order of the options: its part, and its place in it.
    places: Vec<(usize, usize)>,
    printer: Option<Printer>,
}

struct Part {
    format: &'static str,
    collectors: Vec<OpenCollector>,
}

/// What prints, where collectors are served as well.
const PRINT: &str = "print";

/// The reading ends of one queue: one for each exporter.
pub type QueueReaders = Vec<Consumer<FlowRecord>>;

/// An exporter, and the format that it is for; none where it is the only one.
pub type FormatExporter = (Option<&'static str>, Exporter);

impl Division {
    /// Divides `collectors`, and `printer` if there is one. There is always an exporter, also for nobody: records end
    /// with it.
    #[must_use]
    pub fn new(policy: CollectorPolicy, collectors: Vec<OpenCollector>, printer: Option<Printer>) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        let mut places = Vec::new();
        for (url, sink) in collectors {
            let format = match (policy, url.transport) {
                (CollectorPolicy::Balance | CollectorPolicy::Failover, _) => "shares",
                (CollectorPolicy::Replicate, Transport::File) => "file",
                (CollectorPolicy::Replicate, _) => url.version.name(),
            };
            let known = parts.iter().position(|part| part.format == format);
            let part = known.unwrap_or_else(|| {
                parts.push(Part { format, collectors: Vec::new() });
                parts.len() - 1
            });
            places.push((part, parts[part].collectors.len()));
            parts[part].collectors.push((url, sink));
        }
        if parts.is_empty() || printer.is_some() {
            parts.push(Part { format: PRINT, collectors: Vec::new() });
        }
        Self { parts, places, printer }
    }

    /// How many exporters there will be, each with a consumer of every queue.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.parts.len()
    }

    /// Makes the exporters. They share the octets for
    /// messages that `options` allow, by their collectors.
    #[must_use]
    pub fn into_exporters(
        self,
        options: &ExporterOptions,
        queues: Vec<QueueReaders>,
    ) -> (Vec<FormatExporter>, ExportReport) {
        let Self { parts, places, mut printer } = self;
        let (alone, all) = (parts.len() == 1, places.len().max(1));
        let mut queues: Vec<_> = queues.into_iter().map(Vec::into_iter).collect();
        let mut exporters = Vec::new();
        for Part { format, collectors } in parts {
            let consumers = queues.iter_mut().filter_map(Iterator::next).collect();
            let ring_octets = options.ring_octets / all * collectors.len().max(1);
            let printer = if format == PRINT { printer.take() } else { None };
            let options = ExporterOptions { ring_octets, ..options.clone() };
            let exporter = Exporter::new(options, collectors, consumers, printer);
            exporters.push(((!alone).then_some(format), exporter));
        }
        let stats = exporters.iter().map(|(_, exporter)| exporter.stats()).collect();
        (exporters, ExportReport { stats, places })
    }
}

/// What all exporters counted.
#[derive(Clone)]
pub struct ExportReport {
    stats: Vec<Arc<ExportStats>>,
    places: Vec<(usize, usize)>,
}

impl ExportReport {
    /// Records that wait in the queues for the exporter that is furthest behind.
    #[must_use]
    pub fn queue_length(&self) -> u64 {
        self.stats.iter().map(|stats| stats.queue_length.get()).max().unwrap_or(0)
    }

    /// Of the collectors, in the order of the options.
    pub fn collectors(&self) -> impl Iterator<Item = &CollectorStats> {
        self.places.iter().filter_map(|(part, place)| self.stats.get(*part)?.collectors.get(*place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::{CollectorUrl, PrintFormat, open},
        queue,
    };

    fn collectors(urls: &[&str]) -> Vec<OpenCollector> {
        let url = |text: &&str| {
            let url: CollectorUrl = text.parse().unwrap();
            let sink = open(&url).unwrap();
            (url, sink)
        };
        urls.iter().map(url).collect()
    }

    fn printer() -> Printer {
        Printer::new(PrintFormat::Json, Box::new(std::io::sink()))
    }

    /// Names of the exporters, and who is first and last among their collectors, in the order of the options.
    fn divided(
        policy: CollectorPolicy,
        urls: &[&str],
        printer: Option<Printer>,
    ) -> Vec<Option<&'static str>> {
        let division = Division::new(policy, collectors(urls), printer);
        let (_, consumers) = queue::broadcast(8, division.exporters());
        let (exporters, report) = division.into_exporters(&ExporterOptions::default(), vec![consumers]);
        let told: Vec<&str> = report.collectors().map(|collector| collector.url.as_str()).collect();
        let given: Vec<String> = collectors(urls).iter().map(|(url, _)| url.to_string()).collect();
        assert_eq!(told, given, "in the order of the options");
        exporters.into_iter().map(|(format, _)| format).collect()
    }

    const MIXED: [&str; 4] =
        ["v5://127.0.0.1:1", "ipfix://127.0.0.1:2", "v5://127.0.0.1:3", "ipfix+tcp://127.0.0.1:4"];

    #[test]
    fn each_format_has_an_exporter() {
        assert_eq!(divided(CollectorPolicy::Replicate, &MIXED, None), [Some("v5"), Some("ipfix")]);
        assert_eq!(divided(CollectorPolicy::Replicate, &MIXED[..1], None), [None]);
    }

    #[test]
    fn what_is_printed_is_a_format() {
        let formats = divided(CollectorPolicy::Replicate, &MIXED, Some(printer()));
        assert_eq!(formats, [Some("v5"), Some("ipfix"), Some("print")]);
        assert_eq!(divided(CollectorPolicy::Replicate, &[], Some(printer())), [None]);
    }

    #[test]
    fn shares_of_one_stream_have_one_exporter() {
        assert_eq!(divided(CollectorPolicy::Balance, &MIXED, None), [None]);
        let formats = divided(CollectorPolicy::Failover, &MIXED, Some(printer()));
        assert_eq!(formats, [Some("shares"), Some("print")]);
    }

    #[test]
    fn records_end_somewhere_also_where_nobody_wants_them() {
        assert_eq!(divided(CollectorPolicy::Replicate, &[], None), [None]);
    }
}
