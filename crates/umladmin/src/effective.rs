//! `umladmin config`: the effective configuration of one VM, with the user's changes (umladmin).

use cli::{Exit, Failure, Given, Line};
use config::{Config, Edit, UserChanges, VmName};

use crate::report::Report;
use crate::selection::bad_config;

pub(crate) fn run(config: &Config, names: &[&str], line: &Line) -> Result<Exit, Failure> {
    let &[name] = names else {
        return Err(Failure::usage("config needs the name of one VM"));
    };
    let vm = VmName::try_from(name).map_err(Failure::usage)?;
    let edits = line.words.iter().map(edit).collect::<Result<Vec<_>, _>>()?;
    let changes = UserChanges::load(&config.global.user_file(&vm)).map_err(bad_config)?;
    let printed = config
        .vm_edited(&vm, &changes, &edits)
        .map_err(bad_config)?;
    Report::new().print(&printed.to_ini())?;
    Ok(Exit::Done)
}

/// The effect of an option on the printed configuration.
fn edit(word: &Given) -> Result<Edit, Failure> {
    let text = word.text()?;
    match (word.name, text.split_once('=')) {
        ("clear", _) => Ok(Edit::Clear(text.into())),
        ("rename", _) => VmName::try_from(text)
            .map(Edit::Rename)
            .map_err(Failure::usage),
        (_, Some((param, value))) => Ok(Edit::Set(param.trim().into(), value.into())),
        (_, None) => Err(Failure::usage(format_args!(
            "-set {text}: it needs PARAM=VALUE"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &'static str, value: &str) -> Given {
        Given {
            name,
            value: value.into(),
        }
    }

    #[test]
    fn options_become_edits() {
        let set = edit(&given("set", "kernelarg=a=b")).unwrap();
        assert_eq!(set, Edit::Set("kernelarg".into(), "a=b".into()));
        assert_eq!(
            edit(&given("clear", "con0")).unwrap(),
            Edit::Clear("con0".into())
        );
        assert!(edit(&given("rename", "../x")).is_err());
        assert!(edit(&given("set", "mem")).is_err());
    }
}
