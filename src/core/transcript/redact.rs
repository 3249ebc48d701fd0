//! Secrets out of statements, before anything is hashed, normalised or stored: rule set `r1`.
//!
//! Works on tokens, so it needs no parser and holds for text that no parser accepts. Client and
//! gateway run the same code: what one side left out, the other left out too, and commitments match.
//! Changing what is redacted changes commitments: a change is a new rule set with a new mark.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::core::encoding;
use crate::core::transcript::content::clip;
use crate::core::transcript::lexer::{self, Kind, Token};

/// What stands in the place of a secret.
pub const MARK: &str = "'[redacted:r1]'";
/// The longest normalised text, in bytes of its JSON form.
pub const LONGEST_NORMALISED: usize = 8 * 1024;
/// How deep text inside text (`DO` bodies, functions) is looked into.
const DEPTH: u8 = 3;

/// Functions whose text arguments are keys, passwords or connection strings.
const SECRET_FUNCTIONS: [&str; 16] = [
    "dblink",
    "dblink_connect",
    "dblink_connect_u",
    "dblink_exec",
    "dblink_open",
    "dblink_send_query",
    "pgp_sym_encrypt",
    "pgp_sym_decrypt",
    "pgp_sym_encrypt_bytea",
    "pgp_sym_decrypt_bytea",
    "pgp_pub_decrypt",
    "crypt",
    "hmac",
    "encrypt",
    "decrypt",
    "encrypt_iv",
];
/// Options of servers and user mappings that carry secrets.
const SECRET_OPTIONS: [&str; 8] =
    ["password", "passwd", "secret", "token", "key", "sslpassword", "secret_access_key", "access_key"];

/// The statement with its secrets replaced by [`MARK`]; borrowed when there are none.
pub fn redact(sql: &str) -> Cow<'_, str> {
    redact_to(sql, DEPTH)
}

/// Whether the text ends outside of every quote and comment.
pub fn is_complete(sql: &str) -> bool {
    !lexer::tokens(sql).iter().any(|token| token.is_open)
}

/// The statement's shape: literals as `$n`, comments gone, white space folded, at most 8 KiB.
pub fn normalise(sql: &str) -> String {
    clip(&shape(sql), LONGEST_NORMALISED).to_owned()
}

/// The same without the limit.
pub fn shape(sql: &str) -> String {
    let tokens = lexer::tokens(sql);
    // Numbers go on after the statement's own parameters, as in pg_stat_statements.
    let own = tokens.iter().filter(|token| token.kind == Kind::Parameter);
    let mut next = own.filter_map(|token| token.of(sql).get(1..)?.parse::<u32>().ok()).max().unwrap_or(0);
    let (mut text, mut gap) = (String::with_capacity(sql.len().min(LONGEST_NORMALISED)), false);
    for token in &tokens {
        if token.is_blank() {
            gap = true;
            continue;
        }
        if gap && !text.is_empty() {
            text.push(' ');
        }
        gap = false;
        if token.is_literal() || token.kind == Kind::Number {
            next = next.saturating_add(1);
            text.push('$');
            text.push_str(&next.to_string());
        } else {
            text.push_str(token.of(sql));
        }
    }
    text
}

/// Names a statement's shape: statements that differ in their literals only have the same one.
/// The first eight bytes of SHA-256 over [`shape`].
pub fn fingerprint(shape: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(shape.as_bytes()).into();
    encoding::hex(digest.first_chunk::<8>().expect("32 bytes begin with 8"))
}

fn redact_to(sql: &str, depth: u8) -> Cow<'_, str> {
    if !may_have_text(sql) {
        return Cow::Borrowed(sql);
    }
    let tokens = lexer::tokens(sql);
    let mut text = String::new();
    let mut kept = 0;
    for statement in statements(&tokens, sql) {
        let (context, mut place) = (Context::of(&statement, sql), Place::default());
        for (index, token) in statement.iter().enumerate() {
            if !token.is_literal() {
                place.pass(&statement, index, token, sql);
                continue;
            }
            let Some(replacement) = context.replacement(&place, index, token, sql, depth) else { continue };
            text.push_str(sql.get(kept..token.start).unwrap_or_default());
            text.push_str(&replacement);
            kept = token.end;
        }
    }
    if kept == 0 {
        return Cow::Borrowed(sql);
    }
    text.push_str(sql.get(kept..).unwrap_or_default());
    Cow::Owned(text)
}

/// Whether there may be a string constant; without one there is nothing to replace. What a digit
/// follows is a parameter's `$`, or stands within a name.
fn may_have_text(sql: &str) -> bool {
    let mut letters = sql.bytes().peekable();
    while let Some(letter) = letters.next() {
        if letter == b'\'' || (letter == b'$' && !letters.peek().is_some_and(u8::is_ascii_digit)) {
            return true;
        }
    }
    false
}

/// The tokens that say something, statement by statement.
fn statements(tokens: &[Token], sql: &str) -> Vec<Vec<Token>> {
    let telling: Vec<Token> = tokens.iter().filter(|token| !token.is_blank()).copied().collect();
    telling.split(|token| token.kind == Kind::Symbol && token.of(sql) == ";").map(<[Token]>::to_vec).collect()
}

/// What the first words say of the literals that follow.
struct Context {
    has_secret_options: bool,
    is_subscription: bool,
    sets_secret: bool,
}

impl Context {
    fn of(statement: &[Token], sql: &str) -> Self {
        let words: Vec<String> = statement.iter().take(12).map(|token| name(token, sql)).collect();
        let starts = |word: &str| words.first().is_some_and(|first| first == word);
        let names = |word: &str| words.iter().any(|each| each == word);
        let defines = starts("create") || starts("alter");
        Self {
            has_secret_options: defines && (names("server") || names("mapping") || names("foreign")),
            is_subscription: defines && names("subscription"),
            // ALTER SYSTEM SET, ALTER ROLE … SET, SET: the setting's name decides.
            sets_secret: (starts("set") && names("password"))
                || ((starts("set") || starts("alter")) && words.iter().any(|word| is_secret_setting(word))),
        }
    }

    /// What to put in the place of the literal at `index`; nothing if it may stay.
    fn replacement(&self, place: &Place, index: usize, token: &Token, sql: &str, depth: u8) -> Option<String> {
        let leader = place.leader.map(|token| name(&token, sql)).unwrap_or_default();
        // Inside a literal a stray quote is an apostrophe, not a string that was cut off.
        let is_secret = (token.is_open && depth == DEPTH)
            || leader == "password"
            || (self.is_subscription && leader == "connection")
            || (self.has_secret_options && is_secret_option(&leader))
            || (self.sets_secret && matches!(leader.as_str(), "=" | "to" | ","))
            || place.is_secret(index);
        if is_secret {
            return Some(MARK.to_owned());
        }
        self.inside(token, sql, depth)
    }

    /// Secrets inside a literal: what detectors know, and statements within statements.
    fn inside(&self, token: &Token, sql: &str, depth: u8) -> Option<String> {
        let whole = token.of(sql);
        if looks_like_secret(whole) {
            return Some(MARK.to_owned());
        }
        if token.kind == Kind::DollarText {
            let mark = whole.get(1..)?.find('$')? + 2;
            let body = whole.get(mark..whole.len().checked_sub(mark)?)?;
            let fence = whole.get(..mark)?;
            let inner = if depth > 0 { redact_to(body, depth - 1) } else { Cow::Borrowed(body) };
            return match inner {
                Cow::Owned(text) => Some(format!("{fence}{text}{fence}")),
                Cow::Borrowed(_) => without_userinfo(whole),
            };
        }
        // `EXECUTE 'alter role x password ''y'''`: the constant is a statement with a secret in it.
        let plain =
            whole.get(whole.find('\'')? + 1..whole.len().checked_sub(1)?)?.replace("''", "'").replace("\\'", "'");
        if depth > 0 && matches!(redact_to(&plain, depth - 1), Cow::Owned(_)) {
            return Some(MARK.to_owned());
        }
        without_userinfo(whole)
    }
}

/// What stands around a literal of a statement. It is kept while the statement is gone through once: texts of a
/// thousand rows have thousands of literals.
#[derive(Default)]
struct Place {
    /// The last token in front of it that is no literal: those that follow one another are one constant.
    leader: Option<Token>,
    /// The parentheses that are open, the innermost last.
    open: Vec<Parenthesis>,
}

/// What literals in a pair of parentheses are.
#[derive(Clone, Copy)]
struct Parenthesis {
    /// Where it opens.
    at: usize,
    /// Whether they are secrets.
    is_secret: bool,
    /// Whether one is that stands right behind the parenthesis.
    is_first_secret: bool,
}

impl Place {
    /// Goes past a token that is no literal.
    fn pass(&mut self, statement: &[Token], at: usize, token: &Token, sql: &str) {
        if token.kind == Kind::Symbol {
            match token.of(sql) {
                "(" => self.open(statement, at, sql),
                ")" => drop(self.open.pop()),
                _ => {}
            }
        }
        self.leader = Some(*token);
    }

    /// A call that takes secrets; `set_config` is one if its first argument names a secret setting.
    fn open(&mut self, statement: &[Token], at: usize, sql: &str) {
        let called = at.checked_sub(1).and_then(|before| statement.get(before));
        let called = called.map(|token| name(token, sql)).unwrap_or_default();
        let around = self.open.last().is_some_and(|outer| outer.is_secret);
        let is_call = SECRET_FUNCTIONS.contains(&called.as_str());
        let (is_secret, is_first_secret) = match called.as_str() {
            "set_config" => (names_secret_setting(statement.get(at + 1), sql), around),
            _ => (is_call || around, is_call || around),
        };
        self.open.push(Parenthesis { at, is_secret, is_first_secret });
    }

    /// Whether the literal at `index` is a secret by where it stands.
    fn is_secret(&self, index: usize) -> bool {
        let of = |inner: &Parenthesis| if index == inner.at + 1 { inner.is_first_secret } else { inner.is_secret };
        self.open.last().is_some_and(of)
    }
}

fn names_secret_setting(token: Option<&Token>, sql: &str) -> bool {
    let setting = token.map(|token| token.of(sql).to_ascii_lowercase()).unwrap_or_default();
    setting.contains("password") || setting.contains("_conninfo") || setting.contains("secret")
}

/// A word or quoted name in lower case without quotes; other tokens as they are.
fn name(token: &Token, sql: &str) -> String {
    let text = token.of(sql);
    match token.kind {
        Kind::QuotedName => text.trim_matches('"').to_ascii_lowercase(),
        _ => text.to_ascii_lowercase(),
    }
}

fn is_secret_option(word: &str) -> bool {
    SECRET_OPTIONS.contains(&word)
}

fn is_secret_setting(word: &str) -> bool {
    word.ends_with("_conninfo") || word == "ssl_passphrase_command" || word.contains("password") && word != "password"
}

/// Forms that are secrets wherever they stand: AWS access keys, JSON web tokens, private keys.
fn looks_like_secret(text: &str) -> bool {
    let has_run = |prefix: &str, length: usize, belongs: fn(u8) -> bool| {
        text.match_indices(prefix).any(|(at, _)| {
            let after = text.as_bytes().get(at + prefix.len()..).unwrap_or_default();
            after.iter().take_while(|byte| belongs(**byte)).count() >= length
        })
    };
    let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'=');
    has_run("AKIA", 16, upper)
        || has_run("ASIA", 16, upper)
        || (has_run("eyJ", 20, token) && text.matches('.').count() >= 2)
        || (text.contains("-----BEGIN") && text.contains("PRIVATE KEY"))
}

/// Cuts `user:password@` out of URLs; nothing if there is none.
fn without_userinfo(text: &str) -> Option<String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        result.push_str(head);
        let authority = tail.find(['/', '?', '#', ' ', '\'', '"', '\n', '$']).unwrap_or(tail.len());
        rest = match tail.get(..authority).and_then(|part| part.rfind('@')) {
            Some(end) if tail.get(..end).is_some_and(|user| user.contains(':')) => {
                result.push_str("[redacted:r1]");
                tail.get(end..).unwrap_or_default()
            }
            _ => tail,
        };
    }
    result.push_str(rest);
    (result != text).then_some(result)
}
