//! `dbgate login`: signs in with a code that is entered on any device.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::exit::{Exit, Failure};
use crate::cli::workstation::Workstation;
use crate::client::broker::BrokerError;
use crate::client::config::Config;
use crate::client::issuer::Invitation;
use crate::client::login::{self, NewLogin};
use crate::core::api::{ErrorCode, WhoAmI};
use crate::core::text::escape;
use crate::sys::http;

/// Whether a browser may be opened on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browser {
    /// Where there is a display.
    Open,
    /// Only say where to go.
    Leave,
}

/// Signs in to the broker and remembers it. `server` and `ca_file` are the flags of that name.
pub async fn run(server: Option<&str>, ca_file: Option<&Path>, browser: Browser) -> Result<(), Failure> {
    // Dropping the sign-in at any point is safe: nothing is kept before it is whole.
    tokio::select! {
        outcome = sign_in(server, ca_file, browser) => outcome,
        _ = tokio::signal::ctrl_c() => {
            eprintln!();
            Err(Failure::new(Exit::Interrupted, "Sign-in cancelled; nobody was signed in."))
        }
    }
}

async fn sign_in(server: Option<&str>, ca_file: Option<&Path>, browser: Browser) -> Result<(), Failure> {
    let desk = Workstation::open(server, ca_file)?;
    let discovery = desk.broker.discovery().await?;
    let login = login::login(&discovery, &desk.server, &desk.store, |invitation| invite(invitation, browser)).await?;
    let who = match desk.broker.whoami(&login.token).await {
        Ok(who) => who,
        Err(error) => {
            eprintln!("failed");
            if is_refused(&error) {
                // The issuer knows the person and the broker does not: such a token is of no use.
                desk.store.remove()?;
            }
            return Err(error.into());
        }
    };
    Config::remember(&desk.paths, &desk.server)?;
    eprintln!("done");
    println!("{}", summary(&who, &login));
    println!("Next: dbgate ls");
    Ok(())
}

fn is_refused(error: &BrokerError) -> bool {
    match error {
        BrokerError::NotSignedIn => true,
        BrokerError::Api(body) => body.code == ErrorCode::AuthRequired,
        BrokerError::Unreachable { .. } | BrokerError::Malformed(_) => false,
    }
}

/// Says where to go. All of it comes from the issuer, so all of it is escaped.
fn invite(invitation: &Invitation, browser: Browser) {
    let minutes = invitation.valid.as_secs().div_ceil(60);
    let complete = invitation.complete_page.as_deref().unwrap_or(&invitation.page);
    let (page, code) = (escape(&invitation.page), escape(&invitation.code));
    if browser == Browser::Open && has_display() && open(complete) {
        eprintln!("Opening {}", escape(complete));
        eprintln!("If no browser opens, go to {page} on any device and enter  {code}   (valid {minutes} min)");
    } else {
        eprintln!("Open {} on any device,", escape(complete));
        eprintln!("or go to {page} and enter  {code}   (valid {minutes} min)");
    }
    eprint!("Waiting for sign-in … ");
    let _ = std::io::stderr().flush();
}

/// Where the token rests is said here, once, and nowhere else unasked.
fn summary(who: &WhoAmI, login: &NewLogin) -> String {
    let groups = who.groups.iter().map(|group| escape(group).into_owned()).collect::<Vec<_>>().join(", ");
    let groups = if groups.is_empty() { "no groups".to_owned() } else { format!("groups: {groups}") };
    let end = if login.renews { "renews itself".to_owned() } else { format!("ends {}", login.expires.rfc3339()) };
    format!("Signed in as {} ({groups}). Token in {}, {end}.", escape(&who.subject), login.place)
}

/// A browser that opens on a machine at the other end of SSH, or in a pipeline, helps nobody.
fn has_display() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_remote = is_set("SSH_CONNECTION") || is_set("SSH_TTY") || is_set("CI");
    let is_desktop = cfg!(any(target_os = "macos", windows)) || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY");
    is_desktop && !is_remote
}

/// Hands the address to the desktop as one argument, without a shell. Only a web address is opened.
fn open(page: &str) -> bool {
    if http::checked(page).is_err() {
        return false;
    }
    let mut command = if cfg!(target_os = "macos") {
        Command::new("open")
    } else if cfg!(windows) {
        let mut command = Command::new("rundll32");
        command.arg("url.dll,FileProtocolHandler");
        command
    } else {
        Command::new("xdg-open")
    };
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // The opener may be the browser itself: it is not waited for.
    command.spawn().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::secret::Secret;
    use crate::core::time::Moment;
    use crate::sys::secrets::Place;

    #[test]
    fn the_summary_says_who_and_where_the_token_is_and_never_the_token() {
        let who = WhoAmI {
            subject: "ana@example.com".into(),
            issuer: "https://idp.example.com".into(),
            kind: "human".into(),
            groups: vec!["eng".into(), "on\u{1b}call".into()],
            expires_at: String::new(),
        };
        let mut login = NewLogin {
            token: Secret::new("hunter2"),
            place: Place::Keyring,
            expires: Moment::from_seconds(0),
            renews: true,
        };
        assert_eq!(
            summary(&who, &login),
            "Signed in as ana@example.com (groups: eng, on\\u{1b}call). Token in system keyring, renews itself."
        );
        login.renews = false;
        assert!(summary(&who, &login).ends_with("ends 1970-01-01T00:00:00Z."));
    }

    #[test]
    fn nothing_but_a_web_address_is_opened() {
        for refused in ["file:///etc/passwd", "javascript:alert(1)", "-e calc", "http://idp.example.com"] {
            assert!(!open(refused), "{refused}");
        }
    }
}
