//! Somebody at a terminal: prompts, errors, Ctrl-C, a slip of the finger.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::support::desk::Desk;
use crate::support::gate::{SHOP, cluster, reconfigure, superuser};
use crate::support::recorder::keeps_cancels;
use crate::support::scene::{Scene, UPDATE};
use crate::support::until::until;

/// The program at a pseudo-terminal, which `script` makes.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    unread: String,
}

impl Terminal {
    fn open(command: &Command) -> Self {
        Self::open_in(command, 80)
    }

    /// In a terminal of so many columns.
    fn open_in(command: &Command, columns: usize) -> Self {
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
        let line = words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        // `exec`: a shell in between would take Ctrl-C for its own end.
        script
            .args(["-qec", &format!("stty rows 24 cols {columns}; exec {line}"), "/dev/null"])
            .env_clear()
            .env("TERM", "xterm");
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script runs");
        let (keys, mut output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (tell, screen) = channel();
        // Ends with the terminal.
        std::thread::spawn(move || {
            let mut block = [0u8; 4096];
            while let Ok(count) = output.read(&mut block) {
                let read = block.get(..count).unwrap_or_default();
                if count == 0 || tell.send(read.to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, screen, unread: String::new() }
    }

    /// Everything up to what is waited for; what comes behind it stays to be waited for.
    fn wait_for(&mut self, needle: &str) -> String {
        loop {
            if let Some(start) = self.unread.find(needle) {
                let rest = self.unread.split_off(start + needle.len());
                return std::mem::replace(&mut self.unread, rest);
            }
            match self.screen.recv_timeout(Duration::from_secs(20)) {
                Ok(block) => self.unread.push_str(&String::from_utf8_lossy(&block)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("`{needle}` never showed: {}", self.unread)
                }
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal is open");
    }

    /// Types a line and waits for what it brings.
    fn types(&mut self, line: &str, needle: &str) -> String {
        self.press(&format!("{line}\r"));
        self.wait_for(needle)
    }

    /// Types a line that brings nothing or little, and waits for the next prompt: what is typed before it
    /// is lost.
    fn enters(&mut self, line: &str) -> String {
        self.press(&format!("{line}\r"));
        let typed = self.wait_for("\u{1b}[?2004l");
        typed + &self.wait_for("=> ")
    }

    /// Whether something shows before this time is over.
    fn shows_within(&mut self, time: Duration, needle: &str) -> bool {
        let until = Instant::now() + time;
        while let Ok(block) = self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.unread.push_str(&String::from_utf8_lossy(&block));
        }
        self.unread.contains(needle)
    }

    /// How it ended. The keyboard stays until then: taking it away is a hangup.
    fn ended(mut self) -> Option<i32> {
        let mut ended = None;
        let it_ends = until("it ends", async || {
            ended = self.child.try_wait().expect("a child").map(|status| status.code());
            ended.is_some()
        });
        tokio::runtime::Handle::current().block_on(it_ends);
        ended.flatten()
    }
}

/// A test that fails leaves nothing running, which would hold on to the output of the whole run.
impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the target counts so many.
fn until_counted(desk: &Desk, sql: &str, expected: i64) {
    tokio::runtime::Handle::current().block_on(until(sql, async || desk.gate.count(sql).await == expected));
}

const ASLEEP: &str = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active' \
                      and datname = current_database()";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_a_terminal_reads_like_psql_and_forgives_slips() {
    let desk = Desk::begin(SHOP).await;
    let command = desk.command(&["connect", "demo", "--access", "write"]);
    tokio::task::block_in_place(|| {
        let mut terminal = Terminal::open(&command);
        let banner = terminal.wait_for("demo/shop");
        assert!(banner.contains("Recorded:") && banner.contains("Masked: customers.email"), "{banner}");
        terminal.wait_for("=> ");
        let rows =
            terminal.types("select id, email, ssn from customers order by id limit 2;", "(2 rows, 2 columns masked)");
        assert!(!rows.contains("user1@") && !rows.contains("123-45"), "{rows}");
        // Nothing runs before the semicolon.
        terminal.types("select 40 +", "-> ");
        terminal.types("2 as answer;", "(1 row)");
        terminal.types("selec 1;", "syntax error at or near \"selec\"");
        terminal.types("begin;", "*=> ");
        terminal.types("select nope;", "!=> ");
        terminal.types("rollback;", "ROLLBACK");
        terminal.types("\\d customers", "Indexes");
        terminal.types("\\foo", "invalid command \\foo");
        terminal.types("\\gate why", "takes no `why`");
        terminal.press("select pg_sleep(60);\r");
        until_counted(&desk, ASLEEP, 1);
        terminal.press("\u{3}");
        terminal.wait_for("canceling statement due to user request");
        let running = tokio::runtime::Handle::current().block_on(desk.gate.count(ASLEEP));
        assert_eq!(running, 0);
        terminal.types("begin;", "*=> ");
        terminal.press("\u{4}");
        terminal.wait_for("A transaction is open and would be rolled back");
        terminal.wait_for("*=> ");
        terminal.types("select 1;", "(1 row)");
        terminal.types("\\q", "A transaction is open and would be rolled back");
        terminal.wait_for("*=> ");
        terminal.types("update orders set amount = 4321 where id = 1;", "UPDATE 1");
        terminal.types("commit;", "COMMIT");
        // Ctrl-D means the end only where a prompt reads it.
        terminal.wait_for("=> ");
        terminal.press("\u{4}");
        terminal.wait_for("Verify it: dbgate audit verify");
        assert_eq!(terminal.ended(), Some(0));
    });
    assert_eq!(desk.gate.count("select count(*) from orders where amount = 4321").await, 1);
    desk.end().await;
}

/// A Ctrl-C that comes as the statement ends must not meet the next one.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_prompt_comes_when_no_cancel_is_under_way_any_more() {
    let (port, may_pass) = keeps_cancels(cluster().port()).await;
    let mut desk = Desk::begin(SHOP).await;
    let through = |text: String| text.replace(&format!("port={}", cluster().port()), &format!("port={port}"));
    desk.gate = desk.gate.restart(|folder| reconfigure(folder, through)).await;
    desk.server = format!("http://{}", desk.gate.running.api_address());
    let command = desk.command(&["connect", "demo", "--access", "write"]);
    let holder = superuser(&desk.gate.database).await;
    holder.batch_execute("select pg_advisory_lock(4711)").await.expect("locked");
    tokio::task::block_in_place(|| {
        let mut terminal = Terminal::open(&command);
        terminal.wait_for("=> ");
        terminal.press("select 'over', pg_advisory_xact_lock_shared(4711);\r");
        let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = 4711";
        until_counted(&desk, waiting, 1);
        terminal.press("\u{3}");
        terminal.wait_for("Cancel request sent");
        let unlocked = holder.batch_execute("select pg_advisory_unlock(4711)");
        tokio::runtime::Handle::current().block_on(unlocked).expect("unlocked");
        terminal.wait_for("(1 row)");
        let early = terminal.shows_within(Duration::from_millis(300), "=> ");
        assert!(!early, "{}", terminal.unread);
        may_pass.add_permits(1);
        terminal.wait_for("=> ");
        terminal.types("select pg_sleep(0.2), 'next';", "(1 row)");
        terminal.wait_for("=> ");
        terminal.types("\\q", "Verify it: dbgate audit verify");
        assert_eq!(terminal.ended(), Some(0));
    });
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_search_has_found_is_edited_before_it_runs() {
    let desk = Desk::begin(SHOP).await;
    let command = desk.command(&["connect", "demo", "--access", "write"]);
    tokio::task::block_in_place(|| {
        let mut terminal = Terminal::open(&command);
        terminal.wait_for("=> ");
        terminal.types("update orders set amount = 1212 where id = 1;", "UPDATE 1");
        terminal.wait_for("=> ");
        terminal.press("\u{12}");
        terminal.wait_for("(reverse-i-search)");
        terminal.press("1212");
        terminal.wait_for("(reverse-i-search)`1212'");
        terminal.press("\r");
        terminal.wait_for("=> ");
        // Had it run, this would stand in a line of its own.
        terminal.press("\u{7f}0;");
        terminal.press("\r");
        terminal.wait_for("UPDATE 1");
        terminal.wait_for("=> ");
        terminal.types("\\q", "Verify it: dbgate audit verify");
        assert_eq!(terminal.ended(), Some(0));
    });
    assert_eq!(desk.gate.count("select count(*) from orders where amount = 1212 and id in (1, 10)").await, 2);
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_takes_one_line_of_a_narrow_terminal_and_ctrl_c_only_ends_the_wait() {
    const COLUMNS: usize = 64;
    let scene = Scene::start("").await;
    let id = scene.ask(UPDATE).await;
    let command = scene.command("ana", &["request", "wait", &id, "--timeout", "30s"]).await;
    tokio::task::block_in_place(|| {
        let mut terminal = Terminal::open_in(&command, COLUMNS);
        terminal.wait_for(&format!("/r/{id}\r\n"));
        let shown = terminal.wait_for("00:02");
        assert!(!shown.contains('\n'), "{shown:?}");
        for line in shown.split('\r') {
            assert!(line.trim_start_matches("\u{1b}[K").chars().count() < COLUMNS, "{line:?}");
        }
        terminal.press("\u{3}");
        let rest = terminal.wait_for("was not withdrawn.");
        assert!(rest.contains("\r\u{1b}[KStopped waiting"), "{rest:?}");
        assert_eq!(terminal.ended(), Some(130));
    });
    let shown = scene.run("ana", &["request", "show", &id]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("PENDING"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_kept_put_in_again_and_asked_for_again_and_again() {
    let desk = Desk::begin(SHOP).await;
    let command = desk.command(&["connect", "demo", "--access", "write"]);
    tokio::task::block_in_place(|| {
        let mut terminal = Terminal::open(&command);
        terminal.wait_for("=> ");
        terminal.enters("select 41 as n, 'O''Neil' as who, null as none \\gset my_");
        let rows = terminal.types("select :my_n + 1 as more, :'my_who' as said, ':my_n' as kept;", "(1 row)");
        assert!(rows.contains("  42 | O'Neil | :my_n"), "{rows}");
        terminal.types("\\echo 'it  is' :my_n, :my_none", "it  is 41, :my_none\r\n");
        terminal.enters("\\set t orders");
        terminal.types("select count(*) from :\"t\" where id < 4;", "    3\r\n(1 row)");
        terminal.types("\\g", "    3\r\n(1 row)");
        terminal.types("select 1 where false \\gset", "no rows returned for \\gset");
        terminal.types("select 1 from orders \\gset", "more than one row returned for \\gset");
        terminal.types("select nope \\gset", "column \"nope\" does not exist");
        // So many times; what is masked stays masked each time.
        let shown = terminal.enters("select email from customers where id = 1 \\watch 0.1 c=2");
        assert_eq!(shown.matches(" (every 0.1s)").count(), 2, "{shown}");
        assert_eq!(shown.matches("(1 row, 1 column masked)").count(), 2, "{shown}");
        // Ctrl-C ends the pause, the statement that runs, and with it the repetition.
        terminal.types("select 'tick' || 'tock' as t \\watch 3600", "ticktock");
        terminal.wait_for("(1 row)");
        terminal.press("\u{3}");
        terminal.wait_for("=> ");
        terminal.types("select pg_sleep(60) \\watch", " (every 2s)");
        until_counted(&desk, ASLEEP, 1);
        terminal.press("\u{3}");
        terminal.wait_for("canceling statement due to user request");
        terminal.wait_for("=> ");
        let refused = terminal.enters("delete from orders \\watch 0.1");
        assert_eq!(refused.matches("DENIED").count(), 1, "{refused}");
        // What begins with a blank is not kept, whatever stood before it.
        terminal.enters("select 1 as kept \\gset");
        terminal.types(" select 'a secret' as s;", "(1 row)");
        terminal.types("\\q", "Verify it: dbgate audit verify");
        assert_eq!(terminal.ended(), Some(0));
    });
    let history = std::fs::read_to_string(desk.program.home().join("state/history/demo")).expect("kept");
    assert!(history.contains("select 1 as kept") && !history.contains("a secret"), "{history}");
    desk.end().await;
}
