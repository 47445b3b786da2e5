//! The steps of a container's life, one command each.

use anyhow::Result;

use super::{Field, IMAGE, Setting};
use crate::{results::Row, series::turns};

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(15);
    Ok(turns(&mut field.engines, rounds, |engine, round| {
        let name = format!("step{round}");
        let create = ["create", "--network", "none", "--name", &name, IMAGE, "true"];
        let lines: [(&str, &[&str]); 4] = [
            ("create", &create),
            ("start", &["start", &name]),
            ("wait, for one that has ended", &["wait", &name]),
            ("rm", &["rm", &name]),
        ];
        lines.into_iter().map(|(case, line)| Ok((case.to_owned(), engine.time(line)?))).collect()
    }))
}
