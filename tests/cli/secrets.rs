//! Where secrets must not be: argument lists, environments, files of the client, logs.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::dbgate::{feed, said, text};
use crate::support::gate::{BROKER_PASSWORD, SHOP, cluster};
use crate::support::served::Served;

/// Every argument list of this machine that this account may read.
fn argument_lists() -> String {
    of_processes("cmdline").join("\n")
}

/// The environments of the processes that know this home: the program and what it starts.
fn environments(home: &str) -> String {
    let known = of_processes("environ").into_iter().filter(|environment| environment.contains(home));
    known.collect::<Vec<_>>().join("\n")
}

fn of_processes(file: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.ok()?.path().join(file)).ok();
    entries.filter_map(read).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

/// Everything in the files under a folder.
fn files_under(folder: &Path) -> String {
    let output = Command::new("grep").args(["-r", "-a", "", &folder.display().to_string()]).output();
    text(&output.expect("grep runs"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_where_others_can_read_it() {
    let served = Served::start("secrets", SHOP).await;
    let output = feed(served.command(&["conninfo", "demo"]), "").await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let conninfo = text(&output).trim().to_owned();
    let passfile = conninfo.split("passfile=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a passfile");
    let line = std::fs::read_to_string(passfile).expect("readable by its owner");
    let credential = line.trim_end().rsplit(':').next().expect("a password").to_owned();
    assert!(credential.len() >= 32 && !said(&output).contains(&credential), "{}", said(&output));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(passfile).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);

    // A native client that is at work with it, and one that `dbgate psql` has started.
    let mut direct = Command::new("psql");
    let home = served.program.home().display().to_string();
    direct.args(["-X", "-At", &conninfo]).env_clear().env("PATH", "/usr/bin:/bin").env("DBGATE_HOME", &home);
    let mut started = served.command(&["psql", "demo", "--", "-X", "-At"]);
    for command in [&mut direct, &mut started] {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql starts");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
        let mut input = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut input, b"select 'open';\n").expect("it reads");
        assert_eq!(lines.next().expect("an answer").expect("text"), "open");
        let passwords: Vec<String> = files_under(served.program.home())
            .lines()
            .filter(|line| line.contains("/pass:"))
            .filter_map(|line| line.rsplit(':').next().map(str::to_owned))
            .collect();
        assert!(passwords.contains(&credential), "{passwords:?}");
        let (arguments, environments) = (argument_lists(), environments(&home));
        assert!(arguments.contains("passfile=") && environments.contains(&home), "the client is seen");
        let seen = arguments + &environments;
        for secret in passwords.iter().map(String::as_str).chain([cluster().password().expose(), BROKER_PASSWORD]) {
            assert!(!seen.contains(secret), "a password in an argument list or an environment");
        }
        drop(input);
        assert!(child.wait().expect("ended").success());
    }
    let output = feed(served.command(&["exec", "demo", "-c", "select 1"]), "").await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let kept = files_under(served.program.home());
    for secret in [cluster().password().expose(), BROKER_PASSWORD] {
        assert!(!kept.contains(secret) && !served.log().contains(secret), "a password of the target");
    }
    assert!(!served.log().contains(&credential) && !served.log().contains(&served.token), "{}", served.log());
    served.end().await;
}
