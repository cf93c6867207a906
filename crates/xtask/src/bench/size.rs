//! How large the programs are on disk (cargo xtask bench).

use std::fs;

use anyhow::Context as _;

use super::report::Figure;
use super::subject::{Subject, program};

pub(super) const SUBJECT: Subject = Subject {
    name: "size",
    metrics: &[
        "size-umlmon",
        "size-umldir",
        "size-umlwatch",
        "size-umladmin",
        "size-umlweb",
    ],
    packages: &[],
    measure,
};

fn measure() -> anyhow::Result<Vec<Figure>> {
    let figure = |metric: &'static str| {
        let path = program(metric.trim_start_matches("size-"));
        let size = fs::metadata(&path).with_context(|| format!("there is no {}", path.display()));
        #[allow(clippy::cast_precision_loss)] // some millions
        Ok(Figure::alone(metric, "MB", size?.len() as f64 / 1e6))
    };
    SUBJECT.metrics.iter().copied().map(figure).collect()
}
