//! The walk: ten steps through the main job, each with the command that a user would type, what
//! it said, and what a superuser sees from outside.
//!
//! Every command is the real program as a process of its own; a step that ends otherwise than it
//! should ends the walk. What is shown is never composed here.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::demo::data;
use crate::demo::screen::{Screen, thousands};
use crate::demo::stage::{PERSON, REVIEWER, Stage, roles_left, session_roles};

/// Exit codes as a script sees them: the contract is checked from outside, not against the enum.
const OK: i32 = 0;
const FAILED: i32 = 1;
const DENIED: i32 = 5;
const PENDING: i32 = 6;
const INCOMPLETE: i32 = 8;

/// No single command of the walk takes longer on the slowest machine it was tried on.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long a role may outlive its grant.
const ROLE_LIMIT: Duration = Duration::from_secs(2);

/// The walk, on a stage that is set.
pub struct Walk<'a> {
    stage: &'a Stage,
    screen: Screen,
    program: PathBuf,
    step: usize,
}

/// What a command said and how it ended.
struct Outcome {
    code: Option<i32>,
    /// Standard output.
    answer: String,
    /// Standard error.
    remarks: String,
}

impl<'a> Walk<'a> {
    /// Walks with this very program.
    ///
    /// # Errors
    /// When the operating system does not tell which program this is.
    pub fn new(stage: &'a Stage, screen: Screen) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        Ok(Self { stage, screen, program, step: 0 })
    }

    /// All steps in order.
    ///
    /// # Errors
    /// At the first step that ends otherwise than it should.
    pub async fn whole(mut self) -> anyhow::Result<()> {
        self.sign_in().await?;
        self.masked_rows().await?;
        self.denied_drop().await?;
        self.unbounded_delete().await?;
        self.innocent_delete().await?;
        self.honest_update().await?;
        self.second_person().await?;
        self.cap_holds().await?;
        self.transcript().await?;
        self.role_ends().await
    }

    fn begin(&mut self, name: &str, why: &str) {
        self.step += 1;
        self.screen.step(self.step, name, why);
    }

    async fn sign_in(&mut self) -> anyhow::Result<()> {
        self.begin(
            "Sign in",
            "Nobody has a database password. You sign in as yourself, with a code that any browser can approve.",
        );
        self.screen.command("dbgate login --no-open");
        let (said, outcome) = self.login(&self.stage.home(), PERSON).await?;
        // In the order in which it was said: the invitation, then who it is.
        self.screen.output(&format!("{said}{}\n{}", outcome.remarks.trim_end(), outcome.answer));
        outcome.expect(OK)?;
        self.screen.seen("Ana Ferreira approved the code on the demo's own issuer. She is in the group `engineers`.");
        Ok(())
    }

    /// Signs somebody in at their own workstation; the invitation, and how it ended.
    async fn login(&self, home: &Path, person: &str) -> anyhow::Result<(String, Outcome)> {
        let mut child = self.command_at(home, &["login", "--no-open"]).stdin(Stdio::null()).spawn()?;
        let mut invitation = BufReader::new(child.stderr.take().context("stderr is a pipe")?);
        let mut said = String::new();
        let code = loop {
            let mut row = String::new();
            ensure!(invitation.read_line(&mut row).await? > 0, "`dbgate login` showed no code:\n{said}");
            said.push_str(&row);
            if let Some(code) = user_code(&row) {
                break code;
            }
        };
        // On a screen, the person would now press the button on the issuer's page.
        self.stage.issuer.approve(&code, person)?;
        Ok((said, finish(child, Some(invitation)).await?))
    }

    async fn masked_rows(&mut self) -> anyhow::Result<()> {
        self.begin(
            "Read, with what is sensitive masked",
            "Each session runs as a database role made for it, which holds no right on the masked columns at all. \
             A way around the mask would end in `permission denied`, not in the data.",
        );
        let sql = "select id, name, email, ssn, city from customers order by id limit 3";
        let outcome = self.exec(&[], sql).await?;
        outcome.expect(OK)?;
        let row = self.stage.outside.query_one("select email, ssn from customers where id = 1", &[]).await?;
        let (email, ssn): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        ensure!(!outcome.said().contains(&email) && !outcome.said().contains(&ssn), "the mask did not hold");
        self.screen.seen("The mask was applied inside the database. The whole values never left it.");
        Ok(())
    }

    async fn denied_drop(&mut self) -> anyhow::Result<()> {
        self.begin(
            "A DROP is denied",
            "Policy is asked before anything runs. The refusal says which rule, and what to do.",
        );
        self.exec(&[], "drop table customers").await?.expect(DENIED)?;
        self.unchanged(DENIED).await
    }

    async fn unbounded_delete(&mut self) -> anyhow::Result<()> {
        self.begin(
            "A DELETE without WHERE is stopped",
            "With write access, too: no condition that can leave a row out means every row.",
        );
        self.exec(&["--access", "write"], "delete from orders").await?.expect(DENIED)?;
        self.unchanged(DENIED).await
    }

    async fn innocent_delete(&mut self) -> anyhow::Result<()> {
        self.begin(
            "A DELETE that looks innocent is rolled back",
            "Its text is fine; its effect is not. The gateway lets PostgreSQL run it, counts what it did table by \
             table, cascades included, and only then decides whether it is committed.",
        );
        let outcome = self.exec(&["--access", "write"], "delete from customers where status = 'dormant'").await?;
        // The rule `impact-limit` can be lifted by the group `dba`, which has now been asked.
        outcome.expect(PENDING)?;
        let dormant = "select count(*) from customers where status = 'dormant'";
        let dormant: i64 = self.stage.outside.query_one(dormant, &[]).await?.try_get(0)?;
        ensure!(
            outcome.said().contains(&dormant.to_string()) || outcome.said().contains(&thousands(dormant)),
            "the refusal does not say how many customers it would have taken ({dormant})"
        );
        self.unchanged(PENDING).await
    }

    async fn honest_update(&mut self) -> anyhow::Result<()> {
        self.begin("An ordinary change goes through", "Within the limits of the policy nobody has to be asked.");
        let sql = "update orders set status = 'shipped' where id = 59000";
        self.exec(&["--access", "write"], sql).await?.expect(OK)?;
        let status = "select status from orders where id = 59000";
        let status: String = self.stage.outside.query_one(status, &[]).await?.try_get(0)?;
        ensure!(status == "shipped", "the change was not committed");
        self.screen.seen("Committed. Order 59000 is now `shipped`.");
        Ok(())
    }

    async fn second_person(&mut self) -> anyhow::Result<()> {
        self.begin(
            "A second person lets it happen, once",
            "An agent that works for Ana meant to clean up. Bea of the group `dba` sees who asks for whom, the \
             statement and the counts. She approves what she saw and a tenth more, and the stored text runs once.",
        );
        let flags = ["--access", "write", "--agent", "clean-up-bot"];
        let sql = "delete from customers where status = 'dormant' and id <= 2000";
        let id = self.asked(&flags, sql).await?;
        self.login(&self.stage.reviewers_home(), REVIEWER).await?.1.expect(OK)?;
        self.reviewer(&["request", "show", &id]).await?.expect(OK)?;
        self.reviewer(&["approve", &id, "-m", "they asked to be forgotten"]).await?.expect(OK)?;
        let before = data::counts(&self.stage.outside).await?;
        let first = self.resume(&id).await?;
        first.expect(OK)?;
        let again = self.resume(&id).await?;
        again.expect(OK)?;
        ensure!(first.answer == again.answer, "the second answer is not that of the first");
        let after = data::counts(&self.stage.outside).await?;
        ensure!(before != after, "nothing was removed");
        let told: Vec<String> = after.iter().map(|(table, rows)| format!("{} {table}", thousands(*rows))).collect();
        self.screen
            .seen(&format!("Committed once; the second time it only said what came of it. Left: {}.", told.join(", ")));
        Ok(())
    }

    async fn cap_holds(&mut self) -> anyhow::Result<()> {
        self.begin(
            "An approval is for so many rows and no more",
            "Between Bea's yes and the run 5,000 more rows come to match. What was approved is not what would happen.",
        );
        let sql = "update orders set quantity = quantity + 1 where status = 'returned'";
        let id = self.asked(&["--access", "write"], sql).await?;
        self.reviewer(&["approve", &id]).await?.expect(OK)?;
        let more = "update orders set status = 'returned' where id in \
                    (select id from orders where status = 'delivered' order by id limit 5000)";
        self.stage.outside.batch_execute(more).await?;
        let total = "select sum(quantity) from orders";
        let before: i64 = self.stage.outside.query_one(total, &[]).await?.try_get(0)?;
        self.resume(&id).await?.expect(INCOMPLETE)?;
        let after: i64 = self.stage.outside.query_one(total, &[]).await?.try_get(0)?;
        ensure!(before == after, "rows were changed beyond what was approved");
        self.screen.seen("Rolled back, and the approval is used up. No order was changed.");
        Ok(())
    }

    /// Runs something that must end as a request; its id.
    async fn asked(&self, flags: &[&str], sql: &str) -> anyhow::Result<String> {
        let outcome = self.exec(flags, sql).await?;
        outcome.expect(PENDING)?;
        let said = outcome.said();
        let id = said.find("apr_").and_then(|at| said.get(at..at + 20)).context("no request is named")?;
        Ok(id.to_owned())
    }

    /// Ana, or her agent, runs what was approved.
    async fn resume(&self, id: &str) -> anyhow::Result<Outcome> {
        self.screen.command(&format!("dbgate exec --resume {id}"));
        let outcome = self.run(&["exec", "--resume", id]).await?;
        self.screen.output(&outcome.said());
        Ok(outcome)
    }

    /// Bea types something at her own workstation.
    async fn reviewer(&self, arguments: &[&str]) -> anyhow::Result<Outcome> {
        let shown: Vec<_> = arguments
            .iter()
            .map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() })
            .collect();
        self.screen.command(&format!("(bea) dbgate {}", shown.join(" ")));
        let child = self.command_at(&self.stage.reviewers_home(), arguments).stdin(Stdio::null()).spawn()?;
        let outcome = finish(child, None).await?;
        self.screen.output(&outcome.said());
        Ok(outcome)
    }

    async fn transcript(&mut self) -> anyhow::Result<()> {
        self.begin(
            "The record proves itself",
            "Client and gateway each kept a linked and signed record of every session, and signed each other's. \
             Checking needs no server, only public keys.",
        );
        let folder = self.stage.home();
        let newest = newest_evidence(&folder)?.context("no evidence file was kept by the client")?;
        let shown = newest.display().to_string();
        self.screen.command(&format!("dbgate audit verify {shown}"));
        let outcome = self.run(&["audit", "verify", &shown]).await?;
        self.screen.output(&outcome.said());
        outcome.expect(OK)?;

        let copy = folder.join("changed.dbgt");
        let mut bytes = std::fs::read(&newest)?;
        let middle = bytes.len() / 2;
        let byte = bytes.get_mut(middle).context("the evidence file is empty")?;
        *byte ^= 1;
        std::fs::write(&copy, &bytes)?;
        self.screen.gap();
        self.screen.say(&format!("The same file with one bit changed, in byte {middle}:"));
        let changed = copy.display().to_string();
        self.screen.command(&format!("dbgate audit verify {changed}"));
        let outcome = self.run(&["audit", "verify", &changed]).await?;
        self.screen.output(&outcome.said());
        outcome.expect(FAILED)?;
        std::fs::remove_file(&copy)?;
        Ok(())
    }

    async fn role_ends(&mut self) -> anyhow::Result<()> {
        self.begin(
            "The role lives as long as the grant",
            "While a session is open its role can be seen in the database. When the grant is revoked the session is \
             ended and the role dropped; until then the role waits for the grant's next session, and nobody can log in \
             as it.",
        );
        self.screen.command("dbgate connect demo");
        let mut child = self.command(&["connect", "demo"]).stdin(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("stdin is a pipe")?;
        input.write_all(b"select count(*) from orders;\n").await?;
        input.flush().await?;
        let began = Instant::now();
        let roles = loop {
            let roles = session_roles(&self.stage.outside).await?;
            if !roles.is_empty() {
                break roles;
            }
            ensure!(child.try_wait()?.is_none(), "the session ended:\n{}", finish(child, None).await?.said());
            ensure!(began.elapsed() < COMMAND_LIMIT, "no role appeared in the database");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        for (role, until) in &roles {
            self.screen.seen(&format!("pg_roles, from outside: {role}, valid until {until} UTC"));
        }
        let began = Instant::now();
        self.revoke().await?;
        while roles_left(&self.stage.outside).await?.iter().any(|left| roles.iter().any(|(role, _)| role == left)) {
            ensure!(began.elapsed() < ROLE_LIMIT, "the role is still there {} s after its grant", ROLE_LIMIT.as_secs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = began.elapsed().as_millis();
        self.screen.seen(&format!("Gone from pg_roles after {took} ms, and its connection with it."));
        drop(input);
        finish(child, None).await?;
        Ok(())
    }

    /// Ana gives back every grant that is in force.
    async fn revoke(&self) -> anyhow::Result<()> {
        for grant in self.stage.grants() {
            self.screen.command(&format!("dbgate revoke {grant}"));
            let outcome = self.run(&["revoke", &grant]).await?;
            self.screen.output(&outcome.said());
            outcome.expect(OK)?;
        }
        Ok(())
    }

    /// Shows how the command ended, and that the rows are all there.
    async fn unchanged(&self, code: i32) -> anyhow::Result<()> {
        let counts = data::counts(&self.stage.outside).await?;
        let told: Vec<String> = counts.iter().map(|(table, rows)| format!("{} {table}", thousands(*rows))).collect();
        let expected = [("orders", 60_000), ("customers", 20_000)];
        for (table, rows) in expected {
            ensure!(
                counts.iter().any(|(name, found)| name == table && *found == rows),
                "rows of `{table}` are missing"
            );
        }
        self.screen.seen(&format!("Exit code {code}. Nothing is missing: {}.", told.join(", ")));
        Ok(())
    }

    /// `dbgate exec demo … -c SQL`, shown and run.
    async fn exec(&self, flags: &[&str], sql: &str) -> anyhow::Result<Outcome> {
        let shown: String = flags.iter().map(|flag| format!(" {flag}")).collect();
        self.screen.command(&format!("dbgate exec demo{shown} -c \"{sql}\""));
        let mut arguments = vec!["exec", "demo"];
        arguments.extend(flags);
        arguments.extend(["-c", sql]);
        let outcome = self.run(&arguments).await?;
        self.screen.output(&outcome.said());
        Ok(outcome)
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Outcome> {
        finish(self.command(arguments).stdin(Stdio::null()).spawn()?, None).await
    }

    /// The program with an environment that holds the demo's settings and nothing else of ours.
    fn command(&self, arguments: &[&str]) -> Command {
        self.command_at(&self.stage.home(), arguments)
    }

    /// The same at a workstation of one's own.
    fn command_at(&self, home: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("HOME", home).env("DBGATE_HOME", home);
        command.env("DBGATE_SERVER", &self.stage.server).env("NO_COLOR", "1").env("PATH", "/usr/bin:/bin");
        command.envs(std::env::vars_os().filter(|(name, _)| ["LANG", "LC_ALL", "TZ"].iter().any(|kept| name == kept)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

impl Outcome {
    fn said(&self) -> String {
        format!("{}{}", self.answer, self.remarks)
    }

    fn expect(&self, code: i32) -> anyhow::Result<()> {
        ensure!(self.code == Some(code), "expected exit code {code}, got {:?}", self.code);
        Ok(())
    }
}

/// Waits for the end, with all that was said.
async fn finish(mut child: Child, reading: Option<BufReader<tokio::process::ChildStderr>>) -> anyhow::Result<Outcome> {
    let (mut answer, mut remarks) = (Vec::new(), Vec::new());
    let stdout = child.stdout.take().context("stdout is a pipe")?;
    let stderr = match reading {
        Some(reading) => reading,
        None => BufReader::new(child.stderr.take().context("stderr is a pipe")?),
    };
    let all = async {
        let (mut stdout, mut stderr) = (stdout, stderr);
        tokio::try_join!(stdout.read_to_end(&mut answer), stderr.read_to_end(&mut remarks))?;
        child.wait().await
    };
    let Ok(status) = tokio::time::timeout(COMMAND_LIMIT, all).await else {
        bail!("a command did not end within {} s", COMMAND_LIMIT.as_secs());
    };
    let status = status?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Outcome { code: status.code(), answer: text(answer), remarks: text(remarks) })
}

/// The code that a person would type: four letters or digits, a dash, four more.
fn user_code(row: &str) -> Option<String> {
    let is_half = |half: &str| half.len() == 4 && half.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let is_code = |word: &&str| word.split_once('-').is_some_and(|(one, other)| is_half(one) && is_half(other));
    row.split(|c: char| c.is_whitespace() || c == '=').find(is_code).map(str::to_owned)
}

/// The `.dbgt` file that was written last, anywhere under the client's folder.
fn newest_evidence(folder: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "dbgt") {
                found.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_in_what_login_says() {
        let row = "or go to http://127.0.0.1:4/device and enter  WDJB-MJHT   (valid 10 min)";
        assert_eq!(user_code(row).as_deref(), Some("WDJB-MJHT"));
        assert_eq!(user_code("Open http://127.0.0.1:4/device?user_code=WDJB-MJHT on"), Some("WDJB-MJHT".to_owned()));
        assert_eq!(user_code("Opening http://127.0.0.1:4/device on any-time"), None);
    }
}
