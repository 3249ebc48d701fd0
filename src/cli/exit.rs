//! Exit codes: part of the contract with scripts and agents, never renumbered.

use std::process::ExitCode;

/// How a command ended. The number is what the shell sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every statement ran. Output may be masked, or truncated (JSON says so).
    Ok = 0,
    /// A local failure: file not found, I/O, a bug. For `audit verify`: tampered.
    Failed = 1,
    /// Gateway, broker or target unreachable or lost before any write was sent.
    Connection = 2,
    /// PostgreSQL returned an error; its transaction is rolled back, what was committed before it stands.
    Sql = 3,
    /// No sign-in, or an expired one, and no way to ask.
    AuthRequired = 4,
    /// Policy refuses; the same statement will be refused again.
    Denied = 5,
    /// Approval requested; resume with the id.
    Pending = 6,
    /// Approval rejected, expired or withdrawn.
    Rejected = 7,
    /// Result truncated and that was asked to be a failure, row expectation not met, or something found.
    Incomplete = 8,
    /// Could not be recorded, so not run.
    Unrecorded = 9,
    /// Link lost after a write was sent.
    OutcomeUnknown = 10,
    /// Bad flags or arguments (sysexits EX_USAGE).
    Usage = 64,
    /// Rate limit or quota (EX_TEMPFAIL).
    Busy = 75,
    /// Unreadable configuration, or wrong permissions on a secret file (EX_CONFIG).
    Config = 78,
    /// The time limit elapsed, as timeout(1).
    Timeout = 124,
    /// Interrupted.
    Interrupted = 130,
    /// The reader of standard output has gone (128 + SIGPIPE).
    ClosedPipe = 141,
    /// Told to end (128 + SIGTERM).
    Terminated = 143,
}

impl Exit {
    /// Every code with its name and meaning, for help, man page and `dbgate schema`.
    pub const TABLE: [(Self, &'static str, &'static str); 18] = [
        (Self::Ok, "ok", "every statement ran; output may be masked, or truncated (JSON says so)"),
        (Self::Failed, "failed", "local failure: file not found, I/O; audit verify: tampered"),
        (Self::Connection, "connection", "broker, gateway or target unreachable, before any write was sent"),
        (
            Self::Sql,
            "sql_error",
            "PostgreSQL returned an error; its transaction is rolled back, what was committed before it stands",
        ),
        (Self::AuthRequired, "auth_required", "no or expired sign-in and no way to prompt"),
        (Self::Denied, "denied", "policy refuses; the same statement will be refused again"),
        (Self::Pending, "pending", "approval requested; resume with the id"),
        (Self::Rejected, "rejected", "approval rejected, expired or withdrawn"),
        (Self::Incomplete, "incomplete", "result truncated, row expectation not met, or findings (doctor, diff, test)"),
        (Self::Unrecorded, "unrecorded", "could not be recorded, so not run"),
        (Self::OutcomeUnknown, "outcome_unknown", "link lost after a write was sent"),
        (Self::Usage, "usage", "bad flags or arguments"),
        (Self::Busy, "busy", "rate limit or quota; try later"),
        (Self::Config, "config", "unreadable or invalid configuration, bad permissions on a secret file"),
        (Self::Timeout, "timeout", "time limit elapsed; statement cancelled"),
        (Self::Interrupted, "interrupted", "interrupted by Ctrl-C"),
        (Self::ClosedPipe, "closed_pipe", "whoever read standard output has gone"),
        (Self::Terminated, "terminated", "ended by SIGTERM"),
    ];

    /// The number the shell sees.
    pub fn code(self) -> u8 {
        #[expect(clippy::as_conversions, reason = "repr(u8): the discriminant is the code")]
        {
            self as u8
        }
    }

    /// The `status` of a JSON document.
    pub fn status(self) -> &'static str {
        match self {
            Self::Ok | Self::Incomplete => "ok",
            Self::Sql => "sql_error",
            Self::Denied => "denied",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::AuthRequired => "auth_required",
            Self::Timeout => "timeout",
            Self::Interrupted | Self::Terminated => "cancelled",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Failed
            | Self::Connection
            | Self::Unrecorded
            | Self::Usage
            | Self::Busy
            | Self::Config
            | Self::ClosedPipe => "unavailable",
        }
    }

    /// The word of the table, used as `error.code` in JSON where nothing more exact is known.
    pub fn word(self) -> &'static str {
        Self::TABLE.iter().find(|(exit, _, _)| *exit == self).map_or("failed", |(_, word, _)| word)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command failed, told as `spec` does: what failed, facts, the command to run next.
#[derive(Clone, Debug)]
pub struct Failure {
    pub exit: Exit,
    /// First line, in the user's words.
    pub message: String,
    /// The command or step that helps, as in `Run: dbgate login`.
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(out, "\n{hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_readme_tells_the_same() {
        let readme = include_str!("../../README.md");
        for (exit, word, meaning) in Exit::TABLE {
            let rows = readme.lines().filter(|line| line.starts_with(&format!("| {} | {word} |", exit.code())));
            let told = rows.map(|row| row.replace('`', "")).collect::<Vec<_>>();
            assert_eq!(told, [format!("| {} | {word} | {meaning} |", exit.code())]);
        }
    }

    #[test]
    fn every_code_stands_in_the_table_once() {
        let mut codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _, _)| exit.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Exit::TABLE.len());
    }
}
