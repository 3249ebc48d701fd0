//! What the startup message asks to be set, as the target would read it.

use crate::core::wire::backend::ErrorFields;
use crate::core::wire::startup::Startup;

/// Settings in the startup message: by themselves, and as `-c name=value` in `options`.
pub fn asked_settings(startup: &Startup) -> Result<Vec<(String, String)>, Box<ErrorFields>> {
    let mut asked = Vec::new();
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            _ if name.starts_with("_pq_.") => {}
            "options" => {
                let refused =
                    || Box::new(ErrorFields::fatal("42501", "startup options other than -c name=value are refused"));
                asked.extend(options(value).ok_or_else(refused)?);
            }
            // The encoding is fixed, its spelling is free: `UTF8`, `utf-8`, `'unicode'`.
            "client_encoding" if is_utf8(value) => asked.push((name.clone(), "UTF8".to_owned())),
            _ => asked.push((name.clone(), value.clone())),
        }
    }
    Ok(asked)
}

fn is_utf8(value: &str) -> bool {
    let letters: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(letters.to_ascii_lowercase().as_str(), "utf8" | "unicode")
}

/// `-c name=value -cname=value --name=value`, with backslash before a blank that belongs to a value.
fn options(text: &str) -> Option<Vec<(String, String)>> {
    let mut words = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let last = words.last_mut()?;
        match letter {
            '\\' => last.extend(letters.next()),
            blank if blank.is_whitespace() => words.push(String::new()),
            other => last.push(other),
        }
    }
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next()?,
            Some(setting) => setting.to_owned(),
            None => return None,
        };
        let (name, value) = setting.split_once('=')?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::{is_utf8, options};

    #[test]
    fn only_other_spellings_of_utf8_are_utf8() {
        assert!(["UTF8", "'utf-8'", "Unicode", "utf_8"].iter().all(|value| is_utf8(value)));
        assert!(!["LATIN1", "UTF16", "SQL_ASCII", ""].iter().any(|value| is_utf8(value)));
    }

    #[test]
    fn startup_options_are_read_as_postgresql_reads_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(options("-c a=1 --b-c=2 -cd=x\\ y"), Some(vec![pair("a", "1"), pair("b_c", "2"), pair("d", "x y")]));
        assert_eq!(options(""), Some(vec![]));
        assert_eq!(options("-F"), None);
        assert_eq!(options("-c"), None);
    }
}
