//! The picture of `umladmin top` (umladmin).

use client::when::{size, span};
use client::words;
use serde_json::Value;

use super::rates::Rates;
use crate::report::{Colour, table};

/// What the VMs are sorted by; the one that uses most of it is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Cpu,
    Memory,
    Disk,
    Network,
    Name,
}

impl Order {
    /// The key of each, and its word in the last line.
    const KEYS: [(Order, u8, &str); 5] = [
        (Order::Cpu, b'c', "CPU"),
        (Order::Memory, b'm', "memory"),
        (Order::Disk, b'd', "disk"),
        (Order::Network, b'n', "network"),
        (Order::Name, b'v', "VM"),
    ];

    pub(super) fn of_key(key: u8) -> Option<Order> {
        let mut keys = Order::KEYS.iter();
        keys.find(|(_, known, _)| *known == key)
            .map(|(order, ..)| *order)
    }

    fn weight(self, rates: &Rates) -> f64 {
        let sum = |rates: [Option<f64>; 2]| rates.iter().flatten().sum();
        match self {
            Order::Cpu => rates.cpu.unwrap_or(0.0),
            Order::Memory => rates.mem_used.unwrap_or(0) as f64,
            Order::Disk => sum([rates.disk_read, rates.disk_written]),
            Order::Network => sum([rates.received, rates.sent]),
            Order::Name => 0.0,
        }
    }
}

/// What is shown, and how.
pub(super) struct Screen {
    rates: Vec<Rates>,
    order: Order,
    coloured: bool,
}

impl Screen {
    pub(super) fn new(order: Order, coloured: bool) -> Screen {
        Screen {
            rates: Vec::new(),
            order,
            coloured,
        }
    }

    /// Shows these from now on.
    pub(super) fn take(&mut self, rates: Vec<Rates>) {
        self.rates = rates;
        self.sort_by(self.order);
    }

    pub(super) fn sort_by(&mut self, order: Order) {
        self.order = order;
        self.rates.sort_by(|one, other| {
            let (one_weight, other_weight) = (order.weight(one), order.weight(other));
            other_weight
                .total_cmp(&one_weight)
                .then_with(|| one.vm.cmp(&other.vm))
        });
    }

    pub(super) fn json(&self) -> Vec<Value> {
        self.rates.iter().map(Rates::json).collect()
    }

    /// A heading, and a line for each VM.
    pub(super) fn table(&self) -> String {
        let heading = [
            "VM", "STATE", "CPU", "MEMORY", "READ", "WRITTEN", "RECEIVED", "SENT", "ON", "UP",
        ]
        .map(String::from);
        let rows = self.rates.iter().map(row);
        table([heading].into_iter().chain(rows))
    }

    /// What to write to a terminal of this size, so that it shows this and nothing else.
    pub(super) fn drawn(&self, room: Option<(u16, u16)>) -> String {
        let (rows, columns) = room.unwrap_or((24, 80));
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        let table = self.table();
        let mut text = String::from("\x1b[H");
        let mut add = |line: &str, colour: Colour| {
            let cut: String = line.chars().take(columns).collect();
            let painted = match self.coloured {
                true => colour.paint(&cut),
                false => cut,
            };
            text.push_str(&painted);
            text.push_str("\x1b[K\r\n");
        };
        add(&self.summary(), Colour::Plain);
        let lines = table.lines().take(rows.saturating_sub(3));
        for (n, line) in lines.enumerate() {
            add(line, if n == 0 { Colour::Bold } else { Colour::Plain });
        }
        add(&self.keys(), Colour::Dim);
        text.push_str("\x1b[J");
        text
    }

    fn summary(&self) -> String {
        let cpu = self
            .rates
            .iter()
            .filter_map(|rates| rates.cpu)
            .fold(0.0, |sum, cpu| sum + cpu);
        let memory = self.rates.iter().filter_map(|rates| rates.mem_used);
        let memory = size(memory.fold(0, u64::saturating_add));
        let running = match self.rates.len() {
            1 => "1 VM runs".to_owned(),
            number => format!("{number} VMs run"),
        };
        format!(
            "{running}, use {} of a processor and {memory}",
            percent(cpu)
        )
    }

    fn keys(&self) -> String {
        let keys = Order::KEYS.iter().map(|(order, key, word)| {
            let mark = if *order == self.order { "*" } else { "" };
            format!("{} {word}{mark}", char::from(*key))
        });
        format!("Sort: {}.  q ends", keys.collect::<Vec<_>>().join(", "))
    }
}

fn row(rates: &Rates) -> [String; 10] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let speed = |rate: Option<f64>| or_dash(rate.map(per_second));
    let used = rates.mem_used.map(size);
    let memory = used.zip(rates.mem_now_mb);
    [
        rates.vm.clone(),
        words::for_people(rates.state),
        or_dash(rates.cpu.map(percent)),
        or_dash(memory.map(|(used, mb)| format!("{used} of {mb} MB"))),
        speed(rates.disk_read),
        speed(rates.disk_written),
        speed(rates.received),
        speed(rates.sent),
        or_dash(rates.processors.clone()),
        or_dash(rates.uptime.map(|seconds| span(seconds.into()))),
    ]
}

fn percent(processors: f64) -> String {
    format!("{:.0} %", processors * 100.0)
}

/// `1.5 MB/s`.
fn per_second(bytes: f64) -> String {
    // A rate is never negative, and a fraction of a byte does not matter.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = bytes as u64;
    match whole {
        0 => "0".into(),
        _ => format!("{}/s", size(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(vm: &str, cpu: f64, mem_used: u64) -> Rates {
        Rates {
            vm: vm.into(),
            cpu: Some(cpu),
            mem_used: Some(mem_used),
            ..Rates::default()
        }
    }

    #[test]
    fn the_greatest_is_the_first() {
        let mut screen = Screen::new(Order::Cpu, false);
        screen.take(vec![rates("a", 0.5, 1), rates("b", 1.5, 0)]);
        let order = |screen: &Screen| -> Vec<String> {
            screen.rates.iter().map(|rates| rates.vm.clone()).collect()
        };
        assert_eq!(order(&screen), ["b", "a"]);
        screen.sort_by(Order::Memory);
        assert_eq!(order(&screen), ["a", "b"]);
        screen.sort_by(Order::of_key(b'v').unwrap());
        assert_eq!(order(&screen), ["a", "b"]);
    }

    #[test]
    fn a_picture_fits_its_terminal() {
        let mut screen = Screen::new(Order::Cpu, false);
        screen.take((0..50).map(|n| rates(&format!("vm{n}"), 0.1, 1)).collect());
        let drawn = screen.drawn(Some((10, 40)));
        let lines: Vec<&str> = drawn.split("\r\n").collect();
        assert_eq!(lines.len(), 10);
        for line in &lines {
            let line = line.replace("\x1b[H", "").replace("\x1b[K", "");
            assert!(line.chars().count() <= 40, "{line}");
        }
        assert!(lines[0].contains("50 VMs run"));
    }
}
