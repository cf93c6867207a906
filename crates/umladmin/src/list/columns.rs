//! The columns of `umladmin list`: what each is called, and what it says to people and to programs (umladmin).

use cli::{Failure, similar};
use client::when::span;
use client::words;

use crate::seen::{Seen, network};

/// A column.
pub struct Column {
    /// Its name; in capitals, its heading.
    pub name: &'static str,
    /// Whether it is shown if no columns are chosen.
    is_usual: bool,
    /// For people; None if there is nothing to show.
    shown: fn(&Seen) -> Option<String>,
    /// For programs, in bytes and seconds; None to give them what people see.
    value: Option<fn(&Seen) -> Option<String>>,
}

/// All columns, in the order in which the usual ones are shown.
pub const COLUMNS: &[Column] = &[
    usual("vm", |seen| Some(seen.vm.clone())),
    usual("state", |seen| Some(words::for_people(seen.state)))
        .with_value(|seen| Some(seen.state.into())),
    usual("pid", |seen| seen.monitor_pid.map(|pid| pid.to_string())),
    usual("memory", memory).with_value(|seen| Some((u64::from(seen.mem_mb?) << 20).to_string())),
    usual("cpu", |seen| Some(format!("{:.1} s", cpu_seconds(seen)?)))
        .with_value(|seen| Some(format!("{:.3}", cpu_seconds(seen)?))),
    usual("up", |seen| Some(span(seen.uptime?.into())))
        .with_value(|seen| Some(seen.uptime?.to_string())),
    usual("start", |seen| match seen.is_faulty {
        true => Some("faulty".into()),
        false => seen.start.clone(),
    }),
    usual("network", |seen| {
        (!seen.nics.is_empty()).then(|| network(&seen.nics))
    }),
    further("user", |seen| seen.vmuser.clone()),
    further("used", |seen| Some(client::when::size(seen.mem_used?)))
        .with_value(|seen| Some(seen.mem_used?.to_string())),
    further("current", |seen| Some(format!("{} MB", seen.mem_now_mb?)))
        .with_value(|seen| Some((u64::from(seen.mem_now_mb?) << 20).to_string())),
    further("available", |seen| {
        Some(client::when::size(seen.mem_available?))
    })
    .with_value(|seen| Some(seen.mem_available?.to_string())),
    further("processors", |seen| seen.processors.clone()),
    further("read", |seen| Some(client::when::size(seen.disk_read?)))
        .with_value(|seen| Some(seen.disk_read?.to_string())),
    further("written", |seen| {
        Some(client::when::size(seen.disk_written?))
    })
    .with_value(|seen| Some(seen.disk_written?.to_string())),
    further("end", |seen| Some(words::for_people(seen.last_end?)))
        .with_value(|seen| Some(seen.last_end?.into())),
    further("error", |seen| seen.error.clone()),
];

const fn usual(name: &'static str, shown: fn(&Seen) -> Option<String>) -> Column {
    Column {
        name,
        is_usual: true,
        shown,
        value: None,
    }
}

const fn further(name: &'static str, shown: fn(&Seen) -> Option<String>) -> Column {
    Column {
        is_usual: false,
        ..usual(name, shown)
    }
}

impl Column {
    const fn with_value(self, value: fn(&Seen) -> Option<String>) -> Column {
        Column {
            value: Some(value),
            ..self
        }
    }

    pub(super) fn heading(&self) -> String {
        self.name.to_uppercase()
    }

    pub(super) fn shown(&self, seen: &Seen) -> String {
        (self.shown)(seen).unwrap_or_else(|| "-".into())
    }

    pub(super) fn value(&self, seen: &Seen) -> String {
        self.value.unwrap_or(self.shown)(seen).unwrap_or_default()
    }
}

/// The columns of these names, separated by commas; the usual ones if none are given.
pub(super) fn chosen(names: Option<&str>) -> Result<Vec<&'static Column>, Failure> {
    let Some(names) = names else {
        return Ok(COLUMNS.iter().filter(|column| column.is_usual).collect());
    };
    let named = |name: &str| {
        let found = COLUMNS.iter().find(|column| column.name == name);
        found.ok_or_else(|| unknown(name))
    };
    names.split(',').map(named).collect()
}

fn unknown(name: &str) -> Failure {
    let known = || COLUMNS.iter().map(|column| column.name);
    let instead = similar(name, known()).map_or_else(
        || format!("use {}", known().collect::<Vec<_>>().join(",")),
        |known| format!("did you mean {known}?"),
    );
    Failure::usage(format_args!(
        "-columns: there is no column '{name}'; {instead}"
    ))
}

fn memory(seen: &Seen) -> Option<String> {
    let used = seen.mem_used;
    let used = used.map_or(String::new(), |bytes| format!(" ({} used)", bytes >> 20));
    let all = seen.mem_mb?;
    let now = seen.mem_now_mb.filter(|now| *now != all);
    let now = now.map_or(String::new(), |now| format!("{now} of "));
    Some(format!("{now}{all} MB{used}"))
}

fn cpu_seconds(seen: &Seen) -> Option<f64> {
    Some(seen.cpu_ns? as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_by_name() {
        let names = |chosen: &[&Column]| -> Vec<&str> { chosen.iter().map(|c| c.name).collect() };
        assert_eq!(names(&chosen(None).unwrap()).len(), 8);
        let two = chosen(Some("state,vm")).unwrap();
        assert_eq!(names(&two), ["state", "vm"]);
        let Err(failure) = chosen(Some("vm,stat")) else {
            panic!()
        };
        assert_eq!(
            failure.message,
            "-columns: there is no column 'stat'; did you mean state?"
        );
        assert!(chosen(Some("")).is_err());
    }

    #[test]
    fn programs_read_plain_numbers() {
        let seen = Seen {
            mem_mb: Some(64),
            cpu_ns: Some(1_250_000_000),
            uptime: Some(61),
            ..Seen::default()
        };
        let columns = chosen(Some("memory,cpu,up,used")).unwrap();
        let both = columns.iter().map(|c| (c.shown(&seen), c.value(&seen)));
        let both: Vec<_> = both.collect();
        let expected = [
            ("64 MB", "67108864"),
            ("1.2 s", "1.250"),
            ("1 min 1 s", "61"),
            ("-", ""),
        ];
        assert_eq!(
            both,
            expected.map(|(shown, value)| (shown.to_owned(), value.to_owned()))
        );
    }
}
