//! Completion of command lines in bash, zsh and fish, for the programs as they are installed (cargo xtask install).
//!
//! A program prints its table of words as its help (crates/cli); the scripts are made from that, so what is completed is
//! what the program takes, and nothing has to be kept in step by hand. Names of VMs are those of the configuration at
//! the time of the question.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

/// Where the help of an option begins, unless the option itself is longer.
const COLUMN: usize = 26;

/// What prints the names in brackets that a configuration has, `GLOBAL` among them.
const VMS: &str = r"sed -n 's/^\[\([A-Za-z0-9_].*\)\][[:space:]]*$/\1/p'";

/// What can be said of a program from its help.
#[derive(Debug, PartialEq)]
pub struct Program {
    name: String,
    options: Vec<Choice>,
    /// Keywords that take the place of a VM; umladmin alone has them.
    modes: Vec<Choice>,
    takes_vms: bool,
}

/// Something that can be typed, and what it does.
#[derive(Debug, PartialEq)]
struct Choice {
    word: String,
    /// What the argument is called, if there is one.
    argument: Option<String>,
    help: String,
}

/// What can stand for an argument.
enum Values {
    Files,
    Vms,
    Words(String),
    Unknown,
}

impl Program {
    /// Reads the help of the program with this name.
    ///
    /// # Errors
    /// If it is no such help.
    pub fn from_help(name: &str, help: &str) -> anyhow::Result<Program> {
        // The help of a long option goes on in the next line.
        let help = help.replace(&format!("\n{:COLUMN$}", ""), " ");
        let lines = || help.lines();
        let options = lines().filter_map(option).collect::<Vec<_>>();
        for common in ["config", "version", "help"] {
            ensure!(
                options.iter().any(|option| option.word == common),
                "the help of {name} has no -{common}"
            );
        }
        let modes = lines()
            .skip_while(|line| *line != "Modes:")
            .skip(1)
            .map_while(mode)
            .collect();
        let usage = lines().find(|line| line.starts_with("Usage: "));
        let usage = usage.with_context(|| format!("the help of {name} has no usage"))?;
        Ok(Program {
            name: name.to_owned(),
            options,
            modes,
            takes_vms: usage.contains("VM"),
        })
    }

    /// For the directory `bash-completion/completions`.
    pub fn bash(&self) -> String {
        let name = &self.name;
        let mut cases = String::new();
        for option in &self.options {
            let Some(argument) = &option.argument else {
                continue;
            };
            let reply = match values(argument) {
                Values::Files => {
                    "compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$cur\"))".into()
                }
                Values::Vms => "COMPREPLY=($(compgen -W \"$vms\" -- \"$cur\"))".into(),
                Values::Words(words) => {
                    format!("COMPREPLY=($(compgen -W \"{words}\" -- \"$cur\"))")
                }
                Values::Unknown => ":".to_owned(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(cases, "    -{0}|--{0}) {reply}; return ;;", option.word);
        }
        let options = spaced(
            self.options
                .iter()
                .map(|option| format!("-{}", option.word)),
        );
        let modes = spaced(self.modes.iter().map(|mode| mode.word.clone()));
        let vms = if self.takes_vms { "$vms" } else { "" };
        format!(
            "# bash completion of {name}, made from its help\n\
             _{name}() {{\n    \
             local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} config=/etc/umlmon vms i\n    \
             for ((i = 1; i < COMP_CWORD - 1; i++)); do\n        \
             case ${{COMP_WORDS[i]}} in -config|--config) config=${{COMP_WORDS[i+1]}} ;; esac\n    \
             done\n    \
             vms=$({VMS} \"$config\" 2>/dev/null | grep -vx GLOBAL)\n    \
             COMPREPLY=()\n    \
             case $prev in\n{cases}    esac\n    \
             case $cur in\n    \
             -*) COMPREPLY=($(compgen -W \"{options}\" -- \"$cur\")) ;;\n    \
             *) COMPREPLY=($(compgen -W \"{modes} {vms}\" -- \"$cur\")) ;;\n    \
             esac\n}}\n\
             complete -F _{name} {name}\n"
        )
    }

    /// For the directory of functions that zsh loads by itself, with `_` before its name.
    pub fn zsh(&self) -> String {
        let name = &self.name;
        let mut specs = String::new();
        for option in &self.options {
            let argument = option.argument.as_ref().map(|argument| {
                let action = match values(argument) {
                    Values::Files => "_files".into(),
                    Values::Vms => format!("_{name}_vms"),
                    Values::Words(words) => format!("({words})"),
                    Values::Unknown => String::new(),
                };
                format!(":{}:{action}", zsh_text(argument))
            });
            let (help, argument) = (zsh_text(&option.help), argument.unwrap_or_default());
            let _ = writeln!(specs, "    '*-{}[{help}]{argument}' \\", option.word);
        }
        let modes = spaced(self.modes.iter().map(|mode| mode.word.clone()));
        format!(
            "#compdef {name}\n\
             # zsh completion of {name}, made from its help\n\
             _{name}_vms() {{\n    \
             local config=${{opt_args[-config]:-/etc/umlmon}}\n    \
             compadd -- {modes} {vms}\n}}\n\
             _{name}() {{\n    \
             typeset -A opt_args\n    \
             _arguments \\\n{specs}    '*:VM:_{name}_vms'\n}}\n\
             _{name} \"$@\"\n",
            vms = self.vms_of("${(f)\"$(", "\"$config\" 2>/dev/null | grep -vx GLOBAL)\"}"),
        )
    }

    /// For the directory `fish/vendor_completions.d`.
    pub fn fish(&self) -> String {
        let name = &self.name;
        let vms = format!("(__{name}_vms)");
        let names = self.vms_of("", "$config 2>/dev/null | string match -v GLOBAL");
        let mut text = format!(
            "# fish completion of {name}, made from its help\n\
             function __{name}_vms\n    \
             set -l config /etc/umlmon\n    \
             set -l words (commandline -opc)\n    \
             for n in (seq (math (count $words) - 1))\n        \
             contains -- $words[$n] -config --config; and set config $words[(math $n + 1)]\n    \
             end\n    \
             {names}\nend\n\
             complete -c {name} -f\n"
        );
        for option in &self.options {
            let argument = option.argument.as_deref().map(values);
            let argument = match argument {
                None => String::new(),
                Some(Values::Files) => " -r -F".into(),
                Some(Values::Vms) => format!(" -x -a {}", fish_text(&vms)),
                Some(Values::Words(words)) => format!(" -x -a {}", fish_text(&words)),
                Some(Values::Unknown) => " -x".into(),
            };
            let help = fish_text(&option.help);
            let _ = writeln!(
                text,
                "complete -c {name} -o {}{argument} -d {help}",
                option.word
            );
        }
        for mode in &self.modes {
            let help = fish_text(&mode.help);
            let _ = writeln!(text, "complete -c {name} -a {} -d {help}", mode.word);
        }
        if self.takes_vms {
            let _ = writeln!(text, "complete -c {name} -a {} -d VM", fish_text(&vms));
        }
        text
    }

    fn vms_of(&self, before: &str, after: &str) -> String {
        if self.takes_vms {
            format!("{before}{VMS} {after}")
        } else {
            String::new()
        }
    }
}

/// A line of the help that is about an option.
fn option(line: &str) -> Option<Choice> {
    let text = line.strip_prefix("  -")?;
    let (form, help) = match line.as_bytes().get(COLUMN - 1) {
        Some(b' ') => (line.get(3..COLUMN)?, line.get(COLUMN..)?),
        // Longer than its column, which only what takes an argument is; its help was in the next line.
        _ => {
            let word = text.find(' ')?;
            let argument = text.get(word + 1..)?.find(' ')?;
            text.split_at_checked(word + 1 + argument)?
        }
    };
    let (word, argument) = match form.trim_end().split_once(' ') {
        Some((word, argument)) => (word, Some(argument.to_owned())),
        None => (form.trim_end(), None),
    };
    Some(Choice {
        word: word.to_owned(),
        argument,
        help: help.trim().to_owned(),
    })
}

/// A line of the help that is about a mode; None: there are no more.
fn mode(line: &str) -> Option<Choice> {
    let (word, help) = line.strip_prefix("  ")?.split_once(' ')?;
    Some(Choice {
        word: word.to_owned(),
        argument: None,
        help: help.trim().to_owned(),
    })
}

/// By the name that the help gives to an argument.
fn values(argument: &str) -> Values {
    let channels = || spaced((0..16).map(|n| format!("con{n}")));
    match argument {
        "FILE" => Values::Files,
        "VM" => Values::Vms,
        "CHANNEL" => Values::Words(channels()),
        "FILE[,N]" => Values::Words(format!("monitor {}", channels())),
        _ => Values::Unknown,
    }
}

fn spaced(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// For a specification of `_arguments` in single quotes.
fn zsh_text(text: &str) -> String {
    let mut quoted = String::new();
    for letter in text.chars() {
        match letter {
            '[' | ']' | ':' | '\\' => quoted.extend(['\\', letter]),
            '\'' => quoted.push_str(r"'\''"),
            letter => quoted.push(letter),
        }
    }
    quoted
}

/// In single quotes.
fn fish_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "umlwatch - commands\n\nUsage: umlwatch [COMMAND]... VM[@HOST]\n\nCommands:\n  \
        -info                   Shows the VM's state\n  \
        -watch CHANNEL          Shows a channel: [live]\n  \
        -disk-create NAME:MB[:sparse]\n                          Makes a flat\n                          image\n\nAll programs:\n  \
        -config FILE            Reads this\n  \
        -version                Prints the version\n  \
        -help                   Prints this help\n\nModes:\n  list  Shows them\n\nMore.\n";

    fn program() -> Program {
        Program::from_help("umlwatch", HELP).unwrap()
    }

    #[test]
    fn the_help_is_read() {
        let program = program();
        let found: Vec<_> = program
            .options
            .iter()
            .map(|option| (&*option.word, option.argument.as_deref(), &*option.help))
            .collect();
        let expected = [
            ("info", None, "Shows the VM's state"),
            ("watch", Some("CHANNEL"), "Shows a channel: [live]"),
            (
                "disk-create",
                Some("NAME:MB[:sparse]"),
                "Makes a flat image",
            ),
            ("config", Some("FILE"), "Reads this"),
            ("version", None, "Prints the version"),
            ("help", None, "Prints this help"),
        ];
        assert_eq!(found, expected);
        assert_eq!(program.modes.len(), 1);
        assert!(program.takes_vms);
        assert!(Program::from_help("umlwatch", "Usage: what?").is_err());
    }

    #[test]
    fn what_is_quoted_stays_what_it_is() {
        let zsh = program().zsh();
        assert!(zsh.contains(r"'*-info[Shows the VM'\''s state]'"), "{zsh}");
        assert!(
            zsh.contains(r"'*-watch[Shows a channel\: \[live\]]:CHANNEL:(con0 con1"),
            "{zsh}"
        );
        let fish = program().fish();
        assert!(
            fish.contains(r"-o info -d 'Shows the VM\'s state'"),
            "{fish}"
        );
    }

    /// Asks bash what it would offer.
    fn offered(words: &[&str], configuration: &str) -> Vec<String> {
        let script = format!(
            "{}\nCOMP_WORDS=({} ); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _umlwatch; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            program().bash(),
            words
                .iter()
                .map(|word| format!("'{word}'"))
                .collect::<Vec<_>>()
                .join(" "),
        );
        let script = script.replace("/etc/umlmon", configuration);
        let said = std::process::Command::new("bash")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(said.stderr.is_empty(), "{said:?}");
        let text = String::from_utf8(said.stdout).unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn bash_offers_words_names_and_channels() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("umlmon");
        std::fs::write(&path, "[GLOBAL]\n#[no]\n[vm1]\nmem = 64\n[web]\n").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(offered(&["umlwatch", "-di"], path), ["-disk-create"]);
        assert_eq!(offered(&["umlwatch", ""], path), ["list", "vm1", "web"]);
        assert_eq!(offered(&["umlwatch", "v"], path), ["vm1"]);
        assert_eq!(
            offered(&["umlwatch", "vm1", "-watch", "con1"], path).len(),
            7
        );
        assert_eq!(
            offered(&["umlwatch", "-config", path, "w"], "/nonexistent"),
            ["web"]
        );
        assert_eq!(
            offered(&["umlwatch", "-config", path], "/nonexistent"),
            [path]
        );
        assert_eq!(offered(&["umlwatch", "-disk-create", ""], path), [""; 0]);
    }
}
