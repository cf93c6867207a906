//! Completion of command lines in bash, zsh and fish, for the programs as they are installed (cargo xtask install).
//!
//! The scripts are made from the table of words of each program, so what is completed is what the program takes. Names
//! of VMs are those of the configuration at the time of the question.

use std::fmt::Write as _;

use cli::{Kind, Program, Word};

/// The command lines of all programs.
pub const PROGRAMS: [Program; 5] = [
    umlmon::PROGRAM,
    umldir::PROGRAM,
    umlweb::PROGRAM,
    umladmin::PROGRAM,
    umlwatch::command::PROGRAM,
];

/// What prints the names of the VMs that a configuration has, and `GLOBAL`.
const VMS: &str = r"sed -n 's/^\[\([A-Za-z0-9][A-Za-z0-9._-]*\)\][[:space:]]*$/\1/p'";

/// What a shell can offer for an argument or an operand.
#[derive(Clone, Copy, PartialEq)]
enum Offer {
    Files,
    Vms,
    Words(&'static [&'static str]),
    Nothing,
}

const CHANNELS: &[&str] = &[
    "con0", "con1", "con2", "con3", "con4", "con5", "con6", "con7", "con8", "con9", "con10",
    "con11", "con12", "con13", "con14", "con15",
];
const LOGS: &[&str] = &[
    "monitor", "con0", "con1", "con2", "con3", "con4", "con5", "con6", "con7", "con8", "con9",
    "con10", "con11", "con12", "con13", "con14", "con15",
];

fn offer(kind: Kind) -> Offer {
    match kind {
        Kind::File | Kind::Paths => Offer::Files,
        Kind::Vm => Offer::Vms,
        Kind::Channel => Offer::Words(CHANNELS),
        Kind::Log => Offer::Words(LOGS),
        Kind::Words(words) => Offer::Words(words),
        // What a VM has, its monitor alone knows; the interactive mode of umlwatch asks it.
        Kind::Disk | Kind::NewDisk | Kind::Pair(..) => Offer::Nothing,
        Kind::Param | Kind::Setting | Kind::Value | Kind::Text | Kind::Command => Offer::Nothing,
    }
}

/// What can follow a keyword, or stand for a program's operand.
fn operand(word: &Word) -> Offer {
    word.arg.map_or(Offer::Nothing, |arg| offer(arg.kind))
}

/// The keywords of modes that take the same operands, with these.
fn groups(program: &Program) -> Vec<(Vec<&'static str>, Offer)> {
    let mut groups: Vec<(Vec<&str>, Offer)> = Vec::new();
    for mode in program.modes {
        let offer = operand(mode);
        match groups.iter_mut().find(|(_, known)| *known == offer) {
            Some((names, _)) => names.push(mode.name),
            None => groups.push((vec![mode.name], offer)),
        }
    }
    groups
}

fn names(words: &[Word]) -> Vec<&'static str> {
    words.iter().map(|word| word.name).collect()
}

/// The options that take an argument, as a pattern of a shell, with one dash and with two.
fn with_argument(program: &Program, between: &str) -> String {
    let words = program.words().filter(|word| word.arg.is_some());
    let forms = words.map(|word| format!("-{0}{between}--{0}", word.name));
    forms.collect::<Vec<_>>().join(between)
}

/// For the directory `bash-completion/completions`.
pub fn bash(program: &Program) -> String {
    let name = program.name;
    let reply = |offer: Offer| match offer {
        Offer::Files => {
            "compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$cur\"))".into()
        }
        Offer::Vms => "COMPREPLY=($(compgen -W \"$vms\" -- \"$cur\"))".into(),
        Offer::Words(words) => {
            format!(
                "COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))",
                words.join(" ")
            )
        }
        Offer::Nothing => ":".to_owned(),
    };
    let mut arguments = String::new();
    for word in program.words() {
        if let Some(arg) = word.arg {
            let reply = reply(offer(arg.kind));
            // Writing to a String cannot fail.
            let _ = writeln!(arguments, "    -{0}|--{0}) {reply}; return ;;", word.name);
        }
    }
    let mut operands = String::new();
    for (modes, offer) in groups(program) {
        let _ = writeln!(operands, "    {}) {} ;;", modes.join("|"), reply(offer));
    }
    let none = match (program.modes, program.operand) {
        ([], operand) => operand.map_or(":".into(), |arg| reply(offer(arg.kind))),
        (modes, _) => format!(
            "COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))",
            names(modes).join(" ")
        ),
    };
    // Without modes, the first operand changes nothing.
    let unset = if program.modes.is_empty() { "*" } else { "''" };
    let _ = writeln!(operands, "    {unset}) {none} ;;");
    let options: Vec<String> = program.words().map(|w| format!("-{}", w.name)).collect();
    format!(
        "# bash completion of {name}, made from its table of words\n\
         _{name}() {{\n    \
         local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} config=/etc/umlmon mode= vms i\n    \
         for ((i = 1; i < COMP_CWORD; i++)); do\n        \
         case ${{COMP_WORDS[i]}} in\n        \
         -config|--config) config=${{COMP_WORDS[++i]}} ;;\n        \
         {with_argument}) ((++i)) ;;\n        \
         -*) ;;\n        \
         *) mode=${{mode:-${{COMP_WORDS[i]}}}} ;;\n        \
         esac\n    \
         done\n    \
         vms=$({VMS} \"$config\" 2>/dev/null | grep -vx GLOBAL)\n    \
         COMPREPLY=()\n    \
         case $prev in\n{arguments}    esac\n    \
         case $cur in\n    \
         -*) COMPREPLY=($(compgen -W \"{options}\" -- \"$cur\")); return ;;\n    \
         esac\n    \
         case $mode in\n{operands}    esac\n}}\n\
         complete -F _{name} {name}\n",
        with_argument = with_argument(program, "|"),
        options = options.join(" "),
    )
}

/// For the directory of functions that zsh loads by itself, with `_` before its name.
pub fn zsh(program: &Program) -> String {
    let name = program.name;
    let action = |offer: Offer| match offer {
        Offer::Files => "_files".into(),
        Offer::Vms => format!("_{name}_vms"),
        Offer::Words(words) => format!("({})", words.join(" ")),
        Offer::Nothing => String::new(),
    };
    let mut specs = String::new();
    for word in program.words() {
        let argument = word.arg.map_or(String::new(), |arg| {
            format!(":{}:{}", zsh_text(arg.label), action(offer(arg.kind)))
        });
        let help = zsh_text(word.help);
        let _ = writeln!(specs, "    '*-{}[{help}]{argument}' \\", word.name);
    }
    let mut modes = String::new();
    for (names, offer) in groups(program) {
        // A group with no operands has nothing to do, and a case may be empty.
        let _ = writeln!(modes, "    {}) {} ;;", names.join("|"), action(offer));
    }
    let operands = match (program.modes, program.operand) {
        ([], None) => String::new(),
        ([], Some(arg)) => format!("'*:{}:{}'", arg.label, action(offer(arg.kind))),
        (modes, _) => format!(
            "'1:mode:({})' '*:operand:_{name}_operand'",
            names(modes).join(" ")
        ),
    };
    format!(
        "#compdef {name}\n\
         # zsh completion of {name}, made from its table of words\n\
         _{name}_vms() {{\n    \
         local config=${{opt_args[-config]:-/etc/umlmon}}\n    \
         compadd -- ${{(f)\"$({VMS} \"$config\" 2>/dev/null | grep -vx GLOBAL)\"}}\n}}\n\
         _{name}_operand() {{\n    \
         case $line[1] in\n{modes}    esac\n}}\n\
         _{name}() {{\n    \
         local line\n    \
         typeset -A opt_args\n    \
         _arguments \\\n{specs}    {operands}\n}}\n\
         _{name} \"$@\"\n",
    )
}

/// For the directory `fish/vendor_completions.d`.
pub fn fish(program: &Program) -> String {
    let name = program.name;
    let values = |offer: Offer| match offer {
        Offer::Files => " -F".into(),
        Offer::Vms => format!(" -a {}", fish_text(&format!("(__{name}_vms)"))),
        Offer::Words(words) => format!(" -a {}", fish_text(&words.join(" "))),
        Offer::Nothing => String::new(),
    };
    let mut text = fish_functions(program);
    for word in program.words() {
        let argument = match word.arg.map(|arg| offer(arg.kind)) {
            None => String::new(),
            Some(Offer::Files) => " -r -F".into(),
            Some(offer) => format!(" -x{}", values(offer)),
        };
        let help = fish_text(word.help);
        let _ = writeln!(
            text,
            "complete -c {name} -o {}{argument} -d {help}",
            word.name
        );
    }
    let when = |mode: &str| fish_text(&format!("contains -- (__{name}_mode) {mode}"));
    for mode in program.modes {
        let (none, help) = (when("-"), fish_text(mode.help));
        let _ = writeln!(
            text,
            "complete -c {name} -n {none} -a {} -d {help}",
            mode.name
        );
    }
    for (modes, offer) in groups(program) {
        let (when, values) = (when(&modes.join(" ")), values(offer));
        if !values.is_empty() {
            let _ = writeln!(text, "complete -c {name} -n {when}{values}");
        }
    }
    if let Some(arg) = program.operand {
        let values = values(offer(arg.kind));
        let _ = writeln!(text, "complete -c {name}{values} -d {}", arg.label);
    }
    text
}

/// What prints the names of VMs, and what prints the mode, or a dash.
fn fish_functions(program: &Program) -> String {
    let name = program.name;
    format!(
        "# fish completion of {name}, made from its table of words\n\
         function __{name}_vms\n    \
         set -l config /etc/umlmon\n    \
         set -l words (commandline -opc)\n    \
         for n in (seq (math (count $words) - 1))\n        \
         contains -- $words[$n] -config --config; and set config $words[(math $n + 1)]\n    \
         end\n    \
         {VMS} $config 2>/dev/null | string match -v GLOBAL\nend\n\
         function __{name}_mode\n    \
         set -l words (commandline -opc)\n    \
         set -l n 2\n    \
         while test $n -le (count $words)\n        \
         switch $words[$n]\n            \
         case {with_argument}\n                \
         set n (math $n + 1)\n            \
         case '-*'\n            \
         case '*'\n                \
         echo $words[$n]\n                \
         return\n        \
         end\n        \
         set n (math $n + 1)\n    \
         end\n    \
         echo -\nend\n\
         complete -c {name} -f\n",
        with_argument = with_argument(program, " "),
    )
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

    fn program(name: &str) -> Program {
        let found = PROGRAMS.iter().find(|program| program.name == name);
        *found.unwrap()
    }

    #[test]
    fn every_word_is_offered_with_its_help() {
        for program in PROGRAMS {
            let (bash, zsh, fish) = (bash(&program), zsh(&program), fish(&program));
            for word in program.words() {
                let (name, help) = (word.name, word.help);
                assert!(bash.contains(&format!("-{name}")), "{bash}");
                let spec = format!("'*-{name}[{}]", zsh_text(help));
                assert!(zsh.contains(&spec), "{spec} {zsh}");
                let line = format!(" -o {name} ");
                let found = fish.lines().find(|text| text.contains(&line)).unwrap();
                assert!(
                    found.ends_with(&format!("-d {}", fish_text(help))),
                    "{found}"
                );
            }
        }
    }

    #[test]
    fn what_is_quoted_stays_what_it_is() {
        const QUOTED: Program = Program {
            sections: &[cli::Section {
                heading: "Commands",
                words: &[
                    Word::new("info", None, "Shows the VM's state"),
                    Word::new(
                        "watch",
                        Some(cli::Arg::new("CHANNEL", Kind::Channel)),
                        "Shows a channel: [live]",
                    ),
                ],
            }],
            ..umlwatch::command::PROGRAM
        };
        let zsh = zsh(&QUOTED);
        assert!(zsh.contains(r"'*-info[Shows the VM'\''s state]'"), "{zsh}");
        assert!(
            zsh.contains(r"'*-watch[Shows a channel\: \[live\]]:CHANNEL:(con0 con1"),
            "{zsh}"
        );
        let fish = fish(&QUOTED);
        assert!(
            fish.contains(r"-o info -d 'Shows the VM\'s state'"),
            "{fish}"
        );
    }

    /// Asks bash what it would offer.
    fn offered(words: &[&str], configuration: &str) -> Vec<String> {
        let name = words[0];
        let script = format!(
            "{}\nCOMP_WORDS=({} ); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _{name}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            bash(&program(name)),
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

    /// A configuration with two VMs.
    fn configuration() -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("umlmon");
        std::fs::write(
            &path,
            "[GLOBAL]\n#[no]\n[template t]\n[vm1]\nmem = 64\n[web]\n",
        )
        .unwrap();
        let path = path.to_str().unwrap().to_owned();
        (directory, path)
    }

    #[test]
    fn bash_offers_words_names_and_channels() {
        let (_directory, path) = configuration();
        let path = path.as_str();
        assert_eq!(offered(&["umlwatch", "-disk-cop"], path), ["-disk-copy"]);
        assert_eq!(offered(&["umlwatch", ""], path), ["vm1", "web"]);
        assert_eq!(offered(&["umlwatch", "v"], path), ["vm1"]);
        assert_eq!(offered(&["umlwatch", "-tls", ""], path), ["require", "off"]);
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
        assert_eq!(offered(&["umldir", ""], path), [""; 0]);
    }

    #[test]
    fn bash_offers_what_follows_a_mode() {
        let (_directory, path) = configuration();
        let path = path.as_str();
        let modes: Vec<&str> = umladmin::MODES.iter().map(|mode| mode.word.name).collect();
        assert_eq!(offered(&["umladmin", ""], path), modes);
        assert_eq!(
            offered(&["umladmin", "-timeout", "9", "st"], path),
            ["start", "stop"]
        );
        assert_eq!(offered(&["umladmin", "stop", ""], path), ["vm1", "web"]);
        assert_eq!(offered(&["umladmin", "stop", "web", "v"], path), ["vm1"]);
        for check in ["check", "kernelcheck"] {
            assert_eq!(offered(&["umladmin", check, path], path), [path]);
            assert_eq!(offered(&["umladmin", "-json", check, "v"], path), [""; 0]);
        }
        assert_eq!(offered(&["umladmin", "password", ""], path), [""; 0]);
    }
}
