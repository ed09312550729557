// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Prometheus text format 0.0.4.

use std::fmt::Write;

/// `Content-Type` of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The types of metrics used here.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A number as the format wants it.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<bool> for Number {
    fn from(on: bool) -> Self {
        Self::Whole(on.into())
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// A label's name and value.
pub(super) type Label<'a> = (&'a str, &'a str);

/// Writes metric families, one after the other.
pub(super) struct Encoder {
    text: String,
    family: String,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { text: String::with_capacity(16 * 1024), family: String::new() }
    }

    /// Begins a family. The samples that follow belong to it.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut Self {
        self.family = name.into();
        self.text.extend(["# HELP ", name, " "]);
        escape(&mut self.text, help, false);
        self.text.extend(["\n# TYPE ", name, " ", kind.name(), "\n"]);
        self
    }

    /// One sample of the family.
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: impl Into<Number>) -> &mut Self {
        self.sample_of("", labels, value.into())
    }

    /// The samples of a histogram: upper bounds with the observations of each bucket, and the sum.
    pub(super) fn histogram(&mut self, buckets: &[(f64, u64)], count: u64, sum: f64) {
        let mut below = 0;
        for (bound, observations) in buckets {
            below += observations;
            self.sample_of("_bucket", &[("le", &bound.to_string())], Number::Whole(below));
        }
        self.sample_of("_bucket", &[("le", "+Inf")], Number::Whole(count));
        self.sample_of("_sum", &[], Number::Real(sum));
        self.sample_of("_count", &[], Number::Whole(count));
    }

    fn sample_of(&mut self, suffix: &str, labels: &[Label<'_>], value: Number) -> &mut Self {
        self.text.extend([self.family.as_str(), suffix]);
        for (i, (name, value)) in labels.iter().enumerate() {
            self.text.extend([if i == 0 { "{" } else { "," }, name, "=\""]);
            escape(&mut self.text, value, true);
            self.text.push('"');
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        let written = match value {
            Number::Whole(number) => writeln!(self.text, "{number}"),
            Number::Real(number) if number.is_nan() => writeln!(self.text, "NaN"),
            Number::Real(f64::INFINITY) => writeln!(self.text, "+Inf"),
            Number::Real(f64::NEG_INFINITY) => writeln!(self.text, "-Inf"),
            Number::Real(number) => writeln!(self.text, "{number}"),
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        self
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// Escapes backslash and line feed, and within quotes the quote.
fn escape(text: &mut String, value: &str, quoted: bool) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_would_end_a_label_or_a_line() {
        let mut encoder = Encoder::new();
        encoder.family("a_total", Kind::Counter, "back\\slash \"quoted\"\nline");
        encoder.sample(&[("x", "a\"b\\c\nd"), ("y", "é")], 7_u64);
        assert_eq!(
            encoder.finish(),
            "# HELP a_total back\\\\slash \"quoted\"\\nline\n# TYPE a_total counter\n\
             a_total{x=\"a\\\"b\\\\c\\nd\",y=\"é\"} 7\n"
        );
    }

    #[test]
    fn buckets_of_a_histogram_are_cumulative() {
        let mut encoder = Encoder::new();
        encoder.family("h_seconds", Kind::Histogram, "h").histogram(&[(0.5, 2), (1.0, 3)], 6, 12.25);
        let text = encoder.finish();
        let samples: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            samples,
            [
                "h_seconds_bucket{le=\"0.5\"} 2",
                "h_seconds_bucket{le=\"1\"} 5",
                "h_seconds_bucket{le=\"+Inf\"} 6",
                "h_seconds_sum 12.25",
                "h_seconds_count 6",
            ]
        );
    }

    #[test]
    fn writes_special_numbers_as_the_format_names_them() {
        let mut encoder = Encoder::new();
        encoder.family("g", Kind::Gauge, "g");
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5] {
            encoder.sample(&[], number);
        }
        assert!(encoder.finish().ends_with("g NaN\ng +Inf\ng -Inf\ng 0.5\n"));
    }
}
