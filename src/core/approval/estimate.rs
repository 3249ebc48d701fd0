//! What the planner expects of a statement, read from `EXPLAIN (FORMAT JSON)`.

use serde_json::Value;

use super::Estimate;

/// The rows that the statement would change. `ModifyTable` itself says 0: what it changes comes
/// from the plan below it.
pub fn read(explained: &str) -> Option<Estimate> {
    let plans: Value = serde_json::from_str(explained).ok()?;
    let plan = plans.get(0)?.get("Plan")?;
    let cost = plan.get("Total Cost")?.as_f64()?;
    let rows = match plan.get("Node Type")?.as_str()? {
        "ModifyTable" => {
            let below = plan.get("Plans").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            // Plans of sub-selects and CTEs hang here as well; they change nothing by themselves.
            let changed =
                below.iter().filter(|one| one.get("Parent Relationship").and_then(Value::as_str) == Some("Outer"));
            changed.map(planned_rows).try_fold(0_u64, |sum, rows| sum.checked_add(rows?))?
        }
        _ => planned_rows(plan)?,
    };
    Some(Estimate { rows, cost })
}

fn planned_rows(plan: &Value) -> Option<u64> {
    plan.get("Plan Rows")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_plan_below_the_change() {
        let delete = r#"[{"Plan":{"Node Type":"ModifyTable","Operation":"Delete","Total Cost":12.5,"Plan Rows":0,
            "Plans":[{"Node Type":"Seq Scan","Parent Relationship":"InitPlan","Plan Rows":9},
                     {"Node Type":"Seq Scan","Parent Relationship":"Outer","Plan Rows":2220}]}}]"#;
        assert_eq!(read(delete), Some(Estimate { rows: 2220, cost: 12.5 }));
        let select = r#"[{"Plan":{"Node Type":"Result","Total Cost":0.01,"Plan Rows":1}}]"#;
        assert_eq!(read(select), Some(Estimate { rows: 1, cost: 0.01 }));
        for wrong in ["", "[]", "{}", r#"[{"Plan":{"Node Type":"ModifyTable"}}]"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
