//! The settings by which PostgreSQL reads a text (PostgreSQL, chapters 20.13 and 24.3). The gateway reads
//! texts with these values and no others: a session is begun with them, whatever a server, a database or a
//! role is set to, and ends when one changes.

/// Each with its value.
pub const READING: [(&str, &str); 2] = [("client_encoding", "UTF8"), ("standard_conforming_strings", "on")];

/// Startup parameters, with the settings that were not given.
pub fn begun<'p>(parameters: &[(&'p str, &'p str)]) -> Vec<(&'p str, &'p str)> {
    let is_given = |name: &str| parameters.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let missing = READING.into_iter().filter(|(name, _)| !is_given(name));
    parameters.iter().copied().chain(missing).collect()
}

/// Whether texts are read as here, by what a server says of one of its settings.
pub fn is_kept(name: &str, value: &str) -> bool {
    match name {
        // PostgreSQL keeps this older name of UTF8 as it was written.
        "client_encoding" => matches!(value, "UTF8" | "UNICODE"),
        "standard_conforming_strings" => value == "on",
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_begins_with_all_of_them_and_what_was_asked_for() {
        assert_eq!(
            begun(&[("datestyle", "ISO"), ("Client_Encoding", "unicode")]),
            [("datestyle", "ISO"), ("Client_Encoding", "unicode"), ("standard_conforming_strings", "on")]
        );
        assert_eq!(begun(&[]), READING);
        assert!(READING.iter().all(|(name, value)| is_kept(name, value)));
        assert!(is_kept("client_encoding", "UNICODE") && is_kept("DateStyle", "ISO, MDY"));
        assert!(!is_kept("client_encoding", "LATIN1") && !is_kept("standard_conforming_strings", "off"));
    }
}
