//! What the planner expects of a statement, read from `EXPLAIN (FORMAT JSON)`.

use serde_json::Value;

use super::Estimate;
use crate::core::text::grouped;

/// How much of a plan people are shown.
const MOST_STEPS: usize = 16;

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
    let mut steps = Vec::new();
    summary(plan, 0, &mut steps);
    Some(Estimate { rows, cost, plan: steps })
}

/// One line a step: what is done to what, and for how many rows. Conditions hold values, so none is told.
fn summary(plan: &Value, depth: usize, steps: &mut Vec<String>) {
    if steps.len() >= MOST_STEPS {
        return;
    }
    let text = |key: &str| plan.get(key).and_then(Value::as_str);
    let step = text("Operation").or(text("Node Type")).unwrap_or("?");
    let index = text("Index Name").map(|name| format!(" using {name}")).unwrap_or_default();
    let relation = text("Relation Name").map(|name| format!(" on {name}")).unwrap_or_default();
    let rows = planned_rows(plan).filter(|_| text("Operation").is_none());
    let rows = rows.map(|rows| format!(" ({} rows)", grouped(rows))).unwrap_or_default();
    steps.push(format!("{}{step}{index}{relation}{rows}", "  ".repeat(depth)));
    let below = plan.get("Plans").and_then(Value::as_array).into_iter().flatten();
    below.for_each(|plan| summary(plan, depth + 1, steps));
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
        let read_rows = |text: &str| read(text).map(|estimate| (estimate.rows, estimate.cost));
        assert_eq!(read_rows(delete), Some((2220, 12.5)));
        let select = r#"[{"Plan":{"Node Type":"Result","Total Cost":0.01,"Plan Rows":1}}]"#;
        assert_eq!(read_rows(select), Some((1, 0.01)));
        for wrong in ["", "[]", "{}", r#"[{"Plan":{"Node Type":"ModifyTable"}}]"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_plan_is_told_step_by_step_and_without_its_conditions() {
        let update = r#"[{"Plan":{"Node Type":"ModifyTable","Operation":"Update","Relation Name":"orders","Total Cost":9,
            "Plan Rows":0,"Plans":[{"Node Type":"Index Scan","Parent Relationship":"Outer","Relation Name":"orders",
            "Index Name":"orders_pkey","Index Cond":"(id = 7)","Plan Rows":1234}]}}]"#;
        let plan = read(update).expect("a plan").plan;
        assert_eq!(plan, ["Update on orders", "  Index Scan using orders_pkey on orders (1,234 rows)"]);
    }
}
