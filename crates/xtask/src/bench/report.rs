//! What was measured, and whether it is within the limits (cargo xtask bench).

use anyhow::{Context as _, ensure};

use super::spec::{Bound, Row};
use super::stats::{Pairs, median};

/// A figure, by the name that SPECIFICATION.md gives it.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) metric: &'static str,
    /// Of `ours` and `peer`: s, ms, us, MB, KB.
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) peer: Option<f64>,
    /// Ours as a multiple of the peer's.
    pub(crate) ratio: Option<f64>,
}

impl Figure {
    /// The medians of two programs that were measured alternately.
    pub(crate) fn of_pairs(
        metric: &'static str,
        unit: &'static str,
        pairs: &Pairs,
    ) -> anyhow::Result<Figure> {
        Ok(Figure {
            metric,
            unit,
            ours: median(&pairs.ours)?,
            peer: Some(median(&pairs.peer)?),
            ratio: Some(pairs.ratio()?),
        })
    }

    /// Two numbers that need no rounds.
    pub(crate) fn of_two(metric: &'static str, unit: &'static str, ours: f64, peer: f64) -> Figure {
        let (ratio, peer) = (Some(ours / peer), Some(peer));
        Figure {
            metric,
            unit,
            ours,
            peer,
            ratio,
        }
    }

    /// A number that nothing is compared with.
    pub(crate) fn alone(metric: &'static str, unit: &'static str, ours: f64) -> Figure {
        Figure {
            metric,
            unit,
            ours,
            peer: None,
            ratio: None,
        }
    }

    /// Whether it is within `bound`.
    fn keeps(&self, bound: &Bound) -> anyhow::Result<bool> {
        let value = if bound.unit == "x" {
            self.ratio
                .with_context(|| format!("{} has no peer to be a multiple of", self.metric))?
        } else {
            ensure!(
                bound.unit == self.unit,
                "{} is measured in {}, and its limit given in {}",
                self.metric,
                self.unit,
                bound.unit
            );
            self.ours
        };
        // Not the other way round: what is not a number keeps no limit.
        Ok(value <= bound.number)
    }
}

const HEAD: [&str; 7] = [
    "metric", "ours", "peer", "ratio", "limit", "ambition", "ok?",
];

/// Prints all figures; returns the names of those that break their limits.
pub(crate) fn print(figures: &[Figure], rows: &[Row]) -> anyhow::Result<Vec<&'static str>> {
    let mut broken = Vec::new();
    let mut table = vec![HEAD.map(str::to_owned)];
    for figure in figures {
        let row = rows.iter().find(|row| row.metric == figure.metric);
        let row = row.with_context(|| format!("SPECIFICATION.md has no {}", figure.metric))?;
        let keeps = |bound: &Option<Bound>| bound.as_ref().map(|b| figure.keeps(b)).transpose();
        let verdict = match (keeps(&row.limit)?, keeps(&row.ambition)?) {
            (Some(false), _) => "NO",
            (_, Some(true)) => "yes, and the ambition",
            (Some(true), _) => "yes",
            (None, _) => "",
        };
        if verdict == "NO" {
            broken.push(figure.metric);
        }
        let amount = |value: f64| format!("{} {}", short(value), figure.unit);
        table.push([
            figure.metric.to_owned(),
            amount(figure.ours),
            figure.peer.map(amount).unwrap_or_default(),
            figure.ratio.map(|r| format!("{r:.3}")).unwrap_or_default(),
            show(row.limit.as_ref()),
            show(row.ambition.as_ref()),
            verdict.to_owned(),
        ]);
    }
    print!("{}", aligned(&table));
    Ok(broken)
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn show(bound: Option<&Bound>) -> String {
    bound.map_or("-".into(), |bound| {
        format!("{} {}", bound.number, bound.unit)
    })
}

/// The name at the left, numbers at the right.
fn aligned<const N: usize>(table: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in table {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            if column == 0 || column + 1 == N {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(metric: &str, number: f64, unit: &str) -> Row {
        let limit = Some(Bound {
            number,
            unit: unit.into(),
        });
        Row {
            metric: metric.into(),
            limit,
            ambition: None,
        }
    }

    #[test]
    fn limits_are_of_the_ratio_or_of_the_figure() {
        let start = Figure::of_two("start", "ms", 30.0, 20.0);
        let broken = |row| print(std::slice::from_ref(&start), &[row]).unwrap();
        assert_eq!(broken(row("start", 1.5, "x")), [""; 0]);
        assert_eq!(broken(row("start", 1.4, "x")), ["start"]);
        assert_eq!(broken(row("start", 30.0, "ms")), [""; 0]);
        assert_eq!(broken(row("start", 15.0, "ms")), ["start"]);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let start = [Figure::of_two("start", "ms", 30.0, 20.0)];
        assert!(print(&start, &[row("start", 1.0, "KB")]).is_err());
        assert!(print(&start, &[row("boot", 1.0, "x")]).is_err());
        let nothing = Figure::of_two("start", "ms", 0.0, 0.0);
        let broken = print(&[nothing], &[row("start", 1.0, "x")]).unwrap();
        assert_eq!(broken, ["start"]);
    }

    #[test]
    fn columns_line_up() {
        let table = [["a", "1", "yes"], ["long", "100", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&table), "a       1  yes\nlong  100\n");
    }
}
