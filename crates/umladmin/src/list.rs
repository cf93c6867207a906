//! `umladmin list`: the VMs and what state they are in (umladmin).

mod columns;

use std::io;

use cli::{Exit, Failure, Line};
use client::json::ascii;
use client::words::NO_MONITOR;
use config::Config;
use monitors::pods;
use serde_json::Value;

use crate::report::{Colour, Report, shows_colours, table};
use crate::seen::{self, NOT_RESPONDING, OFF, Seen, UNKNOWN};
use crate::{parallel, selection};

pub use columns::{COLUMNS, Column};

pub(crate) fn run(config: &Config, names: &[&str], line: &Line) -> Result<Exit, Failure> {
    let columns = columns(line)?;
    let vms = selection::named_or_all(config, names)?;
    let report = Report::new();
    let mut all = parallel::each(&vms, parallel::CALLS, |vm| seen::look(config, vm));
    if names.is_empty() {
        let pods = pods::all(&config.global);
        all.extend(parallel::each(&pods, parallel::CALLS, seen::look_at_pod));
    }
    let unknown = all
        .extract_if(.., |seen| !seen.is_known)
        .collect::<Vec<_>>();
    let chosen = |seen: &&Seen| is_chosen(line, seen.state);
    let shown: Vec<&Seen> = all.iter().filter(chosen).collect();
    if line.has("json") {
        let objects: Vec<Value> = shown.iter().map(|seen| seen.json()).collect();
        report.print(&ascii(&Value::Array(objects)))?;
    } else if all.is_empty() {
        selection::tell_if_none(config, &vms, &report);
    } else if !shown.is_empty() {
        let columns = columns.iter();
        report.print(&match line.has("csv") {
            true => csv(columns, &shown)?,
            false => for_people(columns, &shown, shows_colours()),
        })?;
    }
    let mut exit = Exit::Done;
    for (vm, error) in all
        .iter()
        .chain(&unknown)
        .filter_map(|seen| Some((&seen.vm, seen.error.as_ref()?)))
    {
        report.error(vm, error);
        exit = Exit::Failed;
    }
    Ok(selection::tell_nameless(config, names, &report, exit))
}

/// The columns that the options choose.
fn columns(line: &Line) -> Result<Vec<&'static Column>, Failure> {
    if line.has("json") && (line.has("csv") || line.has("columns")) {
        return Err(Failure::usage(
            "-json always has all members; -csv and -columns cannot be used with it",
        ));
    }
    let names = line.value("columns").map(|names| names.to_string_lossy());
    columns::chosen(names.as_deref())
}

/// A table. On a terminal, VMs that need attention are red, and those that do not run are dim.
fn for_people<'a>(
    columns: impl Iterator<Item = &'a &'static Column> + Clone,
    shown: &[&Seen],
    coloured: bool,
) -> String {
    let heading: Vec<String> = columns.clone().map(|column| column.heading()).collect();
    let row = |seen: &&Seen| columns.clone().map(|column| column.shown(seen)).collect();
    let text = table(std::iter::once(heading).chain(shown.iter().map(row)));
    if !coloured {
        return text;
    }
    let colours = std::iter::once(Colour::Bold).chain(shown.iter().map(|seen| colour(seen)));
    let lines = text.lines().zip(colours);
    lines
        .map(|(line, colour)| format!("{}\n", colour.paint(line)))
        .collect()
}

/// Comma-separated values with a heading (RFC 4180).
fn csv<'a>(
    columns: impl Iterator<Item = &'a &'static Column> + Clone,
    shown: &[&Seen],
) -> Result<String, Failure> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(columns.clone().map(|column| column.name))
        .map_err(io::Error::from)?;
    for seen in shown {
        rows.write_record(columns.clone().map(|column| column.value(seen)))
            .map_err(io::Error::from)?;
    }
    let bytes = rows.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the options select a VM in this state. Without any of them, all are selected.
fn is_chosen(line: &Line, state: &str) -> bool {
    let class = match state {
        OFF => "off",
        "running" | "suspended" | "starting" | "stopping" | NO_MONITOR => "active",
        "inactive" => "inactive",
        _ => "",
    };
    let filters = ["active", "inactive", "off"];
    line.has(class) || !filters.iter().any(|filter| line.has(filter))
}

fn colour(seen: &Seen) -> Colour {
    match seen.state {
        _ if seen.is_faulty => Colour::Red,
        NOT_RESPONDING | NO_MONITOR | UNKNOWN => Colour::Red,
        OFF | "inactive" => Colour::Dim,
        _ => Colour::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::tests::seen;

    fn line_with(words: &[&'static str]) -> Line {
        let given = |name: &&'static str| cli::Given {
            name,
            value: "".into(),
        };
        Line {
            words: words.iter().map(given).collect(),
            ..Line::default()
        }
    }

    #[test]
    fn filters_add_up() {
        let states = ["off", "inactive", "running", "suspended", "not-responding"];
        let chosen = |filters: &[&'static str]| -> Vec<&str> {
            let line = line_with(filters);
            states
                .into_iter()
                .filter(|state| is_chosen(&line, state))
                .collect()
        };
        assert_eq!(chosen(&[]), states);
        assert_eq!(chosen(&["active"]), ["running", "suspended"]);
        assert_eq!(chosen(&["inactive", "off"]), ["off", "inactive"]);
    }

    #[test]
    fn a_row_is_for_people() {
        let seen = seen("vm1", "not-responding", "anna");
        let columns = columns::chosen(None).unwrap();
        let row: Vec<String> = columns.iter().map(|column| column.shown(&seen)).collect();
        assert_eq!(
            row,
            [
                "vm1",
                "not responding",
                "4711",
                "48 of 64 MB (21 used)",
                "1.5 s",
                "1 h 2 min",
                "boot",
                "-"
            ]
        );
    }

    #[test]
    fn attention_is_drawn_on_a_terminal_only() {
        let [off, mute] = [seen("a", OFF, "anna"), seen("b", NOT_RESPONDING, "anna")];
        let columns = columns::chosen(Some("vm,state")).unwrap();
        let text = |coloured| for_people(columns.iter(), &[&off, &mute], coloured);
        assert_eq!(text(false), "VM  STATE\na   off\nb   not responding\n");
        assert_eq!(
            text(true),
            "\x1b[1mVM  STATE\x1b[m\n\x1b[2ma   off\x1b[m\n\x1b[31mb   not responding\x1b[m\n"
        );
    }

    #[test]
    fn values_are_quoted_where_they_must_be() {
        let mut seen = seen("a", "running", "anna");
        seen.error = Some("a, \"b\"".into());
        let columns = columns::chosen(Some("vm,cpu,error")).unwrap();
        assert_eq!(
            csv(columns.iter(), &[&seen]).unwrap(),
            "vm,cpu,error\na,1.500,\"a, \"\"b\"\"\"\n"
        );
    }
}
