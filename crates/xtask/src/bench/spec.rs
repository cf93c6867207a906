//! The limits: the table in SPECIFICATION.md, read by the program that compares with it (cargo xtask bench).

use anyhow::{Context as _, ensure};

/// The table is part of the program, so what was built together is compared.
const SPECIFICATION: &str = include_str!("../../../../SPECIFICATION.md");

/// The first cells of the table, by which it is found.
const HEAD: [&str; 5] = ["metric", "ours", "peer", "limit", "ambition"];

/// A row of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) metric: String,
    /// What must not be exceeded; None: the figure is only reported.
    pub(crate) limit: Option<Bound>,
    /// What would be better still.
    pub(crate) ambition: Option<Bound>,
}

/// A number with its unit, as `15 ms`; the unit `x` means: times the peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    pub(crate) number: f64,
    pub(crate) unit: String,
}

/// The rows of SPECIFICATION.md.
pub(crate) fn rows() -> anyhow::Result<Vec<Row>> {
    parse(SPECIFICATION).context("SPECIFICATION.md")
}

fn parse(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut lines = text.lines().skip_while(|line| cells(line) != HEAD);
    ensure!(lines.next().is_some(), "no table | {} |", HEAD.join(" | "));
    let table = lines.skip(1).take_while(|line| line.starts_with('|'));
    table
        .map(|line| {
            let cells = cells(line);
            let [metric, _, _, limit, ambition] = cells.as_slice() else {
                anyhow::bail!("{line:?} does not have {} cells", HEAD.len());
            };
            let bound = |cell| bound(cell).with_context(|| format!("the row of {metric}"));
            Ok(Row {
                metric: (*metric).to_owned(),
                limit: bound(limit)?,
                ambition: bound(ambition)?,
            })
        })
        .collect()
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(str::trim).collect()
}

/// `2 x`, or `-` for none.
fn bound(cell: &str) -> anyhow::Result<Option<Bound>> {
    if cell == "-" {
        return Ok(None);
    }
    let parts = cell.split_once(' ');
    let (number, unit) =
        parts.with_context(|| format!("{cell:?} is not a number and a unit, nor `-`"))?;
    let number: f64 = number
        .parse()
        .with_context(|| format!("{number:?} is not a number"))?;
    ensure!(number > 0.0, "{cell:?} cannot be kept");
    let unit = unit.to_owned();
    Ok(Some(Bound { number, unit }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_found_and_read() {
        let text = "# T\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n| metric | ours | peer | limit | ambition |\n\
            |---|---|---|---|---|\n| start | s | bwrap | 1.5 x | - |\n| death | d | - | 20 ms | 2 ms |\n\nMore.\n| no | row |\n";
        let rows = parse(text).unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.metric.as_str()).collect();
        assert_eq!(names, ["start", "death"]);
        let times = |number| {
            Some(Bound {
                number,
                unit: "x".into(),
            })
        };
        assert_eq!(rows[0].limit, times(1.5));
        assert_eq!(rows[0].ambition, None);
        assert_eq!(rows[1].ambition.as_ref().unwrap().unit, "ms");
    }

    #[test]
    fn a_limit_that_says_nothing_is_refused() {
        let head = "| metric | ours | peer | limit | ambition |\n|---|---|---|---|---|\n";
        for row in [
            "| a | b | c | fast | - |",
            "| a | b | c | x 2 | - |",
            "| a | b | c | -1 x | - |",
            "| a | b | c | 1 x |",
        ] {
            assert!(parse(&format!("{head}{row}\n")).is_err(), "{row}");
        }
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn the_limits_are_those_of_what_is_measured() {
        let rows = rows().unwrap();
        let named: Vec<&str> = rows.iter().map(|row| row.metric.as_str()).collect();
        let subjects = super::super::SUBJECTS.iter().chain(super::super::LONG);
        let measured: Vec<&str> = subjects
            .flat_map(|subject| subject.metrics)
            .copied()
            .collect();
        assert_eq!(named, measured);
    }
}
