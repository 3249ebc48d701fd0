//! `dbgate ls`: the targets that you may reach.

use serde_json::json;

use crate::cli::exit::Failure;
use crate::cli::whoami::{Form, print_json};
use crate::cli::workstation::Workstation;
use crate::core::api::TargetSummary;
use crate::core::grant::Access;
use crate::core::text::escape;

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
            Ok(())
        }
    }
}

fn table(targets: &[TargetSummary]) -> String {
    let mut rows = vec![["TARGET", "ENV", "DATABASE", "ACCESS"].map(str::to_owned)];
    for target in targets {
        let access = target.access.iter().map(|access| Access::word(*access)).collect::<Vec<_>>().join(" ");
        let cells = [&target.name, &target.environment, &target.database, &access];
        rows.push(cells.map(|cell| escape(cell).into_owned()));
    }
    columns(&rows)
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

    #[test]
    fn columns_line_up_and_foreign_text_stays_in_its_cell() {
        let target = |name: &str, access: &[Access]| TargetSummary {
            name: name.into(),
            environment: "production".into(),
            database: "shop".into(),
            access: access.to_vec(),
        };
        let listed = table(&[target("prod", &[Access::Read, Access::Write]), target("a\nb", &[Access::Read])]);
        assert_eq!(
            listed,
            "TARGET  ENV         DATABASE  ACCESS\n\
             prod    production  shop      read write\n\
             a\\nb    production  shop      read\n"
        );
    }
}
