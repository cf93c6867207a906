//! What a container uses, from the files of its control group (umlguest).

use guest_line::Usage;

/// Reads what there is; what there is not is 0. Of a file that is not there, `file` gives an empty text.
pub(super) fn read(file: impl Fn(&str) -> String) -> Usage {
    let (cpu, events) = (file("cpu.stat"), file("memory.events"));
    let of = |text: &str, key: &str| value(text, key).unwrap_or(0);
    let number = |name: &str| file(name).trim().parse().ok();
    Usage {
        cpu_us: ["usage_usec", "user_usec", "system_usec"].map(|key| of(&cpu, key)),
        throttled: ["nr_periods", "nr_throttled", "throttled_usec"].map(|key| of(&cpu, key)),
        memory: number("memory.current").unwrap_or(0),
        // Without one, it says "max".
        memory_limit: number("memory.max"),
        inactive_file: of(&file("memory.stat"), "inactive_file"),
        processes: number("pids.current").unwrap_or(0),
        processes_limit: number("pids.max"),
        io: io(&file("io.stat")),
        oom_kills: of(&events, "oom_kill"),
    }
}

/// The value in the line that begins with this word.
pub(super) fn value(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}

/// Bytes read and written, of all disks.
fn io(text: &str) -> [u64; 2] {
    let mut sums = [0_u64; 2];
    for word in text.split_ascii_whitespace() {
        for (sum, key) in sums.iter_mut().zip(["rbytes=", "wbytes="]) {
            let bytes = word.strip_prefix(key).and_then(|bytes| bytes.parse().ok());
            *sum = sum.saturating_add(bytes.unwrap_or(0));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_is_read() {
        let usage = read(|file| {
            let text = match file {
                "cpu.stat" => "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 5\n",
                "memory.current" => "4096\n",
                "memory.max" => "8192\n",
                "memory.stat" => "file 9\ninactive_file 7\ninactive_file_x 8\n",
                "memory.events" => "oom 3\noom_kill 2\n",
                "pids.current" => "4\n",
                "pids.max" => "max\n",
                "io.stat" => {
                    "98:0 rbytes=100 wbytes=10 rios=1 wios=1\n98:16 rbytes=1 wbytes=2\n98:32 \n"
                }
                _ => "",
            };
            text.to_owned()
        });
        let expected = Usage {
            cpu_us: [30, 10, 20],
            throttled: [5, 0, 0],
            memory: 4096,
            memory_limit: Some(8192),
            inactive_file: 7,
            processes: 4,
            processes_limit: None,
            io: [101, 12],
            oom_kills: 2,
        };
        assert_eq!(usage, expected);
        assert_eq!(read(|_| String::new()), Usage::default());
    }
}
