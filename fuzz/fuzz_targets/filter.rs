// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any text as a collector's URL or filter: no panic, and what is understood survives its canonical form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_user::export::{CollectorUrl, Filter};

fuzz_target!(|text: &str| {
    if let Ok(filter) = text.parse::<Filter>() {
        assert_eq!(filter.to_string().parse::<Filter>().as_ref(), Ok(&filter));
    }
    if let Ok(url) = text.parse::<CollectorUrl>() {
        assert_eq!(url.to_string().parse::<CollectorUrl>().as_ref(), Ok(&url));
    }
});
