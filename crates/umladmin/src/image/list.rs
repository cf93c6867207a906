//! `umladmin image list` (umladmin).

use cli::{Exit, Failure};
use client::when::size;
use serde_json::{Value, json};

use super::store::{Image, Store};
use crate::report::Report;

pub(super) fn run(store: &Store, as_json: bool) -> Result<Exit, Failure> {
    let report = Report::new();
    let images = store.list();
    let images = images.map_err(|why| Failure::new(Exit::Failed, why))?;
    if images.is_empty() && !as_json {
        report.print("there are no images; umladmin image build busybox makes a small one\n")?;
    } else {
        let heading = ["IMAGE", "SIZE", "USED", "MADE", "SOURCE"];
        let (objects, rows) = (images.iter().map(object), images.iter().map(row));
        report.list(as_json, objects, heading, rows)?;
    }
    Ok(Exit::Done)
}

fn row(image: &Image) -> [String; 5] {
    let or_dash = |text: Option<&str>| {
        let text = text.filter(|text| !text.is_empty()).unwrap_or("-");
        cli::printable(text.as_bytes())
    };
    let manifest = image.manifest.as_ref();
    [
        image.name.clone(),
        size(image.size),
        size(image.allocated),
        or_dash(manifest.map(|manifest| &*manifest.date)),
        or_dash(manifest.map(|manifest| &*manifest.source)),
    ]
}

fn object(image: &Image) -> Value {
    json!({
        "image": image.name,
        "size": image.size,
        "allocated": image.allocated,
        "manifest": image.manifest,
    })
}
