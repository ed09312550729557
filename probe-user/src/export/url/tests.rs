// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;

#[test]
fn canonical_form() {
    for (given, canonical) in [
        ("192.0.2.1", "v5://192.0.2.1:2055"),
        ("Flows.Example.net:9995", "v5://flows.example.net:9995"),
        ("v5://10.0.0.1/", "v5://10.0.0.1:2055"),
        ("[2001:DB8::1]", "v5://[2001:db8::1]:2055"),
        ("v5://[::1]:99?pps=auto", "v5://[::1]:99"),
        ("v9://h", "v9://h:2055"),
        ("v1://h", "v1://h:2055"),
        ("v7://h?engine_id=3", "v7://h:2055?engine_id=3"),
        ("ipfix://h", "ipfix://h:4739"),
        ("ipfix+tcp://h?domain=7", "ipfix+tcp://h:4739?domain=7"),
        ("ipfix+tls://h?ca=/etc/a%20b.pem", "ipfix+tls://h:4740?ca=/etc/a+b.pem"),
        ("ipfix+sctp://h", "ipfix+sctp://h:4739"),
        ("ipfix+file:///var/lib/x?rotate=300s", "ipfix+file:///var/lib/x?rotate=5m"),
        ("v9://h?engine_id=3&interfaces=engine-port", "v9://h:2055?interfaces=engine-port&engine_id=3"),
        ("v9://h?sampling=flow:4&dscp=8", "v9://h:2055?sampling=4&dscp=8"),
        (
            "v5://h:1?mtu=1400&engine_type=2&pps=500&engine_id=7&source=192.0.2.9",
            "v5://h:1?source=192.0.2.9&engine_id=7&engine_type=2&pps=500&mtu=1400",
        ),
    ] {
        let parsed: CollectorUrl = given.parse().unwrap();
        assert_eq!(parsed.to_string(), canonical);
        assert_eq!(canonical.parse::<CollectorUrl>().unwrap(), parsed);
    }
}

#[test]
fn errors_name_what_is_possible() {
    for (given, expected) in [
        ("sflow://10.0.0.1", "scheme 'sflow' is not known; known are v1, v5"),
        ("v9+tcp://10.0.0.1", "scheme 'v9+tcp' is not known"),
        ("v5://h?domain=1", "option 'domain' is not known here; v5 knows source, interfaces, engine_id"),
        ("v9://h?engine_id=1", "option 'engine_id' is not known here; v9 knows"),
        ("ipfix+tcp://h?template_refresh=1m", "option 'template_refresh' is not known here"),
        ("h?pps=0", "pps=0 is not possible; expected 'auto' or datagrams a second"),
        ("h?engine_id=256", "expected 0 to 255"),
        ("h?engine_id=1&engine_id=2", "given twice"),
        ("h?mtu=100", "expected 576 to 65535"),
        ("h?dscp=64", "expected 0 to 63"),
        ("h?source=eth0", "expected a local IP address"),
        ("v9://h?template_refresh=0s", "expected a time from 1s to 1d"),
        ("v9://h?options=yes", "expected on or off"),
        ("h?sampling=0", "the records of one flow in N"),
        ("2001:db8::1", "needs brackets"),
        ("[::1", "']' is missing"),
        ("[::1]9", "only ':PORT'"),
        ("[h]:9", "not an IPv6 address"),
        ("", "the host is missing"),
        (":2055", "the host is missing"),
        ("h:0", "1 to 65535"),
        ("h:99999", "1 to 65535"),
        ("a b", "a character that no host name has"),
        ("ipfix+file://var/lib", "the directory must be absolute"),
    ] {
        let error = given.parse::<CollectorUrl>().unwrap_err().to_string();
        assert!(error.contains(expected), "'{given}' gave: {error}");
        assert!(error.starts_with(&format!("collector '{given}'")), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_refused_or_survives_its_canonical_form(text in "((v5|v9|ipfix|ipfix[+]tls|ipfix[+]file)://)?\\PC{0,40}") {
        if let Ok(url) = text.parse::<CollectorUrl>() {
            proptest::prop_assert_eq!(url.to_string().parse::<CollectorUrl>().unwrap(), url);
        }
    }
}
