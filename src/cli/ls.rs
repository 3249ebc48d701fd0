//! `dbgate ls`: the targets that you may reach, and what people must agree to there.

use serde_json::json;

use crate::cli::exit::Failure;
use crate::cli::whoami::{Form, print_json};
use crate::cli::workstation::Workstation;
use crate::core::api::{Agreement, ByApproval, TargetSummary};
use crate::core::grant::Access;
use crate::core::text::escape;

const HEADINGS: [&str; 4] = ["TARGET", "ENV", "DATABASE", "ACCESS"];

/// Lists the targets of the broker that `server` or the context names.
pub async fn run(server: Option<&str>, form: Form) -> Result<(), Failure> {
    let desk = Workstation::open(server, None)?;
    let answer = desk.broker.targets(&desk.token().await?).await?;
    match form {
        Form::Json => print_json(&json!({
            "schema": "dbgate.targets/1",
            "server": desk.server.url,
            "targets": answer.targets,
        })),
        Form::Text if answer.targets.is_empty() => {
            eprintln!("No target of {} is open to you.", desk.server.host());
            Ok(())
        }
        Form::Text => {
            print!("{}", table(&answer.targets));
            eprint!("{}", next_steps(&answer.targets));
            Ok(())
        }
    }
}

fn table(targets: &[TargetSummary]) -> String {
    let words = |target: &TargetSummary| {
        let access = target.access.iter().map(|access| Access::word(*access)).collect::<Vec<_>>().join(" ");
        let cells = [&target.name, &target.environment, &target.database, &access];
        cells.map(|cell| escape(cell).into_owned())
    };
    if targets.iter().all(|target| target.by_approval.is_empty()) {
        let rows: Vec<_> = targets.iter().map(words).collect();
        return columns(&[&[HEADINGS.map(str::to_owned)], rows.as_slice()].concat());
    }
    let wider =
        |[name, environment, database, access]: [String; 4], last: String| [name, environment, database, access, last];
    let mut rows = vec![wider(HEADINGS.map(str::to_owned), "BY APPROVAL".to_owned())];
    rows.extend(targets.iter().map(|target| {
        let by_approval: Vec<_> = target.by_approval.iter().map(standing).collect();
        wider(words(target), escape(&by_approval.join(", ")).into_owned())
    }));
    columns(&rows)
}

/// `write (apr_… waits)`
fn standing(one: &ByApproval) -> String {
    let (access, request) = (one.access.word(), one.request.as_deref().unwrap_or_default());
    let until = one.until.as_deref().unwrap_or_default();
    match one.state {
        Agreement::NotAsked => access.to_owned(),
        Agreement::Pending => format!("{access} ({request} waits)"),
        Agreement::Approved => format!("{access} ({request} approved, until {until})"),
        Agreement::Granted => format!("{access} (granted until {until})"),
    }
}

/// What to type for access that people have a say in; of each kind the first.
fn next_steps(targets: &[TargetSummary]) -> String {
    let first = |state: Agreement| {
        let all = targets.iter().flat_map(|target| target.by_approval.iter().map(move |one| (target, one)));
        all.filter(|(_, one)| one.state == state).map(|(target, one)| (escape(&target.name), one.access.word())).next()
    };
    let mut text = String::new();
    if let Some((target, access)) = first(Agreement::NotAsked) {
        text = format!("Ask for it: dbgate request create {target} --access {access} --for 15m --reason \"…\"\n");
    }
    if let Some((target, access)) = first(Agreement::Approved) {
        text.push_str(&format!("Use it: dbgate connect {target} --access {access}\n"));
    }
    text
}

/// Columns wide enough for their longest cell, two spaces apart.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, access: &[Access], by_approval: Vec<ByApproval>) -> TargetSummary {
        let (environment, database) = ("production".into(), "shop".into());
        TargetSummary { name: name.into(), environment, database, access: access.to_vec(), by_approval }
    }

    #[test]
    fn columns_line_up_and_foreign_text_stays_in_its_cell() {
        let both = [Access::Read, Access::Write];
        let targets = [target("prod", &both, Vec::new()), target("a\nb", &[Access::Read], Vec::new())];
        assert_eq!(
            table(&targets),
            "TARGET  ENV         DATABASE  ACCESS\n\
             prod    production  shop      read write\n\
             a\\nb    production  shop      read\n"
        );
        assert_eq!(next_steps(&targets), "");
    }

    #[test]
    fn what_people_must_agree_to_stands_beside_with_how_far_it_is() {
        let by = |access, state, request: Option<&str>, until: Option<&str>| ByApproval {
            access,
            state,
            request: request.map(str::to_owned),
            until: until.map(str::to_owned),
        };
        let waits = by(Access::Write, Agreement::Pending, Some("apr_1"), Some("10:00"));
        let asked = by(Access::Admin, Agreement::NotAsked, None, None);
        let approved = by(Access::Read, Agreement::Approved, Some("apr_2"), Some("10:00"));
        let granted = by(Access::Write, Agreement::Granted, None, Some("11:00"));
        let targets = [
            target("prod", &[Access::Read], vec![waits, asked]),
            target("pay", &[], vec![approved, granted]),
            target("dev", &[Access::Read], Vec::new()),
        ];
        assert_eq!(
            table(&targets),
            "TARGET  ENV         DATABASE  ACCESS  BY APPROVAL\n\
             prod    production  shop      read    write (apr_1 waits), admin\n\
             pay     production  shop              read (apr_2 approved, until 10:00), write (granted until 11:00)\n\
             dev     production  shop      read\n"
        );
        assert_eq!(
            next_steps(&targets),
            "Ask for it: dbgate request create prod --access admin --for 15m --reason \"…\"\n\
             Use it: dbgate connect pay --access read\n"
        );
    }
}
