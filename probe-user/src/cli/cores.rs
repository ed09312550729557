// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `--cores`: which CPUs the probe's own threads run on.

use std::{fmt, str::FromStr};

use super::number_list::{format_list, parse_list};

/// Which CPUs the probe's own threads run on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CorePlan {
    /// Chosen at the start.
    Auto,
    /// As told.
    Pinned(PinnedCores),
}

/// CPUs by kind of thread, in the order told: the first harvester takes the first CPU, and so on. The kinds may
/// share a CPU. An empty list leaves the kind to the scheduler.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PinnedCores {
    /// Harvesters: read the kernel's caches, keep the flows.
    pub harvesters: Vec<u16>,
    /// Exporters: encode and send.
    pub exporters: Vec<u16>,
    /// Workers of AF_XDP and AF_PACKET: meter in user space. With fewer CPUs than workers they take turns.
    pub workers: Vec<u16>,
}

const ALLOWED: &str = "allowed are auto, harvester,exporter as two CPU numbers (such as 2,3), or a list of CPUs for \
    each kind of thread (such as harvesters=2-3,exporters=4,workers=5-6)";

impl PinnedCores {
    fn kind(&mut self, name: &str) -> Option<&mut Vec<u16>> {
        match name {
            "harvesters" | "harvester" => Some(&mut self.harvesters),
            "exporters" | "exporter" => Some(&mut self.exporters),
            "workers" | "worker" => Some(&mut self.workers),
            _ => None,
        }
    }
}

impl FromStr for CorePlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut cores = PinnedCores::default();
        if !text.contains('=') {
            let [harvester, exporter] = two_numbers(text).ok_or(ALLOWED)?;
            (cores.harvesters, cores.exporters) = (vec![harvester], vec![exporter]);
            return Ok(Self::Pinned(cores));
        }
        // A part without '=' goes on with the list before it: harvesters=2,3,exporters=4.
        let mut lists: Vec<(&str, String)> = Vec::new();
        for part in text.split(',') {
            match (part.split_once('='), lists.last_mut()) {
                (Some((name, list)), _) => lists.push((name, list.to_owned())),
                (None, Some((_, list))) => list.extend([",", part]),
                (None, None) => return Err(ALLOWED.into()),
            }
        }
        for (name, list) in lists {
            let kind = cores
                .kind(name)
                .ok_or_else(|| format!("there is no kind of thread named '{name}'; {ALLOWED}"))?;
            if !kind.is_empty() {
                return Err(format!("{name} is given twice; {ALLOWED}"));
            }
            *kind = parse_list(&list)
                .ok_or_else(|| format!("'{list}' is no list of CPUs, or has one twice; {ALLOWED}"))?;
        }
        Ok(Self::Pinned(cores))
    }
}

fn two_numbers(text: &str) -> Option<[u16; 2]> {
    let (harvester, exporter) = text.split_once(',')?;
    // The same CPU for both is allowed, so this is not read as one list.
    let single = |text: &str| match parse_list(text)?[..] {
        [number] => Some(number),
        _ => None,
    };
    Some([single(harvester)?, single(exporter)?])
}

impl fmt::Display for CorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = match self {
            Self::Auto => return f.write_str("auto"),
            Self::Pinned(cores) => cores,
        };
        if let ([harvester], [exporter], []) =
            (&cores.harvesters[..], &cores.exporters[..], &cores.workers[..])
        {
            return write!(f, "{harvester},{exporter}");
        }
        let kinds =
            [("harvesters", &cores.harvesters), ("exporters", &cores.exporters), ("workers", &cores.workers)];
        let lists = kinds.iter().filter(|(_, list)| !list.is_empty());
        let lists: Vec<_> = lists.map(|(name, list)| format!("{name}={}", format_list(list))).collect();
        f.write_str(&lists.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(harvesters: &[u16], exporters: &[u16], workers: &[u16]) -> CorePlan {
        CorePlan::Pinned(PinnedCores {
            harvesters: harvesters.to_vec(),
            exporters: exporters.to_vec(),
            workers: workers.to_vec(),
        })
    }

    #[test]
    fn reads_plans_and_shows_them_in_the_same_form() {
        for (text, plan) in [
            ("auto", CorePlan::Auto),
            ("2,3", pinned(&[2], &[3], &[])),
            ("1,1", pinned(&[1], &[1], &[])),
            ("harvesters=2-3,exporters=4,workers=5-6", pinned(&[2, 3], &[4], &[5, 6])),
            ("harvesters=2,7,workers=5", pinned(&[2, 7], &[], &[5])),
            ("workers=0-1", pinned(&[], &[], &[0, 1])),
        ] {
            assert_eq!(text.parse(), Ok(plan.clone()), "{text}");
            assert_eq!(plan.to_string(), text);
        }
        assert_eq!("exporter=1,harvester=0".parse(), Ok(pinned(&[0], &[1], &[])));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, said) in [
            ("", "such as 2,3"),
            ("1", "such as 2,3"),
            ("1,2,3", "such as 2,3"),
            ("1-2,3", "such as 2,3"),
            ("4,harvesters=1", "harvesters=2-3,exporters=4"),
            ("readers=1", "no kind of thread named 'readers'"),
            ("workers=1,workers=2", "workers is given twice"),
            ("workers=1,1", "'1,1' is no list of CPUs, or has one twice"),
            ("workers=", "'' is no list of CPUs"),
            ("workers=99999", "'99999' is no list of CPUs"),
        ] {
            let error = text.parse::<CorePlan>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
