// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a bench is asked and how it answers: a table to read, or one JSON object a line with `--json`.
//!
//! A bench with options of its own flattens [`BenchArgs`] into them (`#[command(flatten)]`).

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::machine;

/// Options of every bench.
#[derive(clap::Args, Clone, Copy, Default, Debug)]
pub struct BenchArgs {
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
    /// End within 30 seconds
    #[arg(long)]
    pub quick: bool,
}

/// What a figure says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// Nanoseconds for each packet, record or flow.
    Ns,
    /// Packets, records or flows in a second.
    PerSecond,
    /// Octets of memory.
    Octets,
}

impl Metric {
    fn key(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::PerSecond => "per_second",
            Self::Octets => "octets",
        }
    }
}

/// Writes the rows of one bench as they come.
pub struct Report<W: Write = io::Stdout> {
    bench: &'static str,
    machine: String,
    json: bool,
    rows: u64,
    out: W,
    failure: Option<io::Error>,
}

impl Report {
    /// A report to standard output.
    #[must_use]
    pub fn new(bench: &'static str, args: BenchArgs) -> Self {
        Self::to(bench, args, io::stdout())
    }
}

impl<W: Write> Report<W> {
    /// A report to `out`.
    pub fn to(bench: &'static str, args: BenchArgs, out: W) -> Self {
        Self { bench, machine: machine::describe(), json: args.json, rows: 0, out, failure: None }
    }

    /// One figure. `flows` where the number of flows matters; `extra` goes beside it under its own names.
    pub fn row(
        &mut self,
        case: &str,
        flows: Option<u64>,
        metric: Metric,
        value: f64,
        extra: &[(&str, Value)],
    ) {
        if self.failure.is_some() {
            return;
        }
        let written = if self.json {
            self.object(case, flows, metric, value, extra)
        } else {
            self.line(case, flows, metric, value, extra)
        };
        self.rows += 1;
        self.failure = written.err();
    }

    /// Ends the report; the first failure to write, if there was one.
    pub fn finish(mut self) -> io::Result<()> {
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => self.out.flush(),
        }
    }

    fn object(
        &mut self,
        case: &str,
        flows: Option<u64>,
        metric: Metric,
        value: f64,
        extra: &[(&str, Value)],
    ) -> io::Result<()> {
        let mut object = Map::new();
        object.insert("bench".into(), self.bench.into());
        object.insert("case".into(), case.into());
        if let Some(flows) = flows {
            object.insert("flows".into(), flows.into());
        }
        object.insert(metric.key().into(), rounded(value).into());
        for (name, value) in extra {
            object.insert((*name).into(), value.clone());
        }
        object.insert("machine".into(), self.machine.as_str().into());
        writeln!(self.out, "{}", Value::Object(object))?;
        self.out.flush()
    }

    fn line(
        &mut self,
        case: &str,
        flows: Option<u64>,
        metric: Metric,
        value: f64,
        extra: &[(&str, Value)],
    ) -> io::Result<()> {
        if self.rows == 0 {
            writeln!(self.out, "{} on {}", self.bench, self.machine)?;
            writeln!(self.out, "{:<36} {:>12} {:>16}", "case", "flows", "figure")?;
        }
        let flows = flows.map_or_else(|| "-".to_owned(), |flows| flows.to_string());
        let figure = match metric {
            Metric::Ns => format!("{value:.1} ns"),
            Metric::PerSecond => format!("{value:.0} /s"),
            Metric::Octets => format!("{value:.0} octets"),
        };
        write!(self.out, "{case:<36} {flows:>12} {figure:>16}")?;
        for (name, value) in extra {
            match value {
                Value::String(text) => write!(self.out, "  {name} {text}")?,
                other => write!(self.out, "  {name} {other}")?,
            }
        }
        writeln!(self.out)?;
        self.out.flush()
    }
}

/// Three decimals are more than any clock here can tell.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: bool) -> String {
        let mut out = Vec::new();
        let mut report = Report::to("merge", BenchArgs { json, quick: false }, &mut out);
        report.row("random", Some(1024), Metric::Ns, 6.543_21, &[("octets_per_flow", 120.into())]);
        report.row("steady", None, Metric::PerSecond, 15e6, &[]);
        report.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_with_the_keys_others_read() {
        let text = written(true);
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["bench"], "merge");
        assert_eq!(rows[0]["case"], "random");
        assert_eq!(rows[0]["flows"], 1024);
        assert_eq!(rows[0]["ns"], 6.543);
        assert_eq!(rows[0]["octets_per_flow"], 120);
        assert_eq!(rows[1]["per_second"], 15e6);
        assert!(rows[1].get("flows").is_none() && rows[1].get("ns").is_none());
    }

    #[test]
    fn a_table_names_the_machine_once() {
        let text = written(false);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.starts_with("merge on "), "{text}");
        assert!(text.contains("6.5 ns  octets_per_flow 120"), "{text}");
        assert!(text.contains("15000000 /s"), "{text}");
    }
}
