//! The directories that a temporary VM shares with the host (umladmin).

use std::ffi::OsStr;
use std::path::Path;

use cli::{Failure, Line};
use config::{MAX_SHARE, Share};

/// The lines of the VM's section for `-share DIRECTORY[:PATH][:ro]`, as often as it is given.
pub(super) fn shares(line: &Line) -> Result<String, Failure> {
    let wished = line.words.iter().filter(|given| given.name == "share");
    let mut lines = String::new();
    for (number, given) in wished.enumerate() {
        if number > usize::from(MAX_SHARE) {
            let why = format_args!("-share: there can be {} of them", MAX_SHARE + 1);
            return Err(Failure::usage(why));
        }
        let share =
            share(&given.value).map_err(|why| Failure::usage(format_args!("-share: {why}")))?;
        lines += &format!("share{number} = {share}\n");
    }
    Ok(lines)
}

/// The same with absolute paths. The directory appears where it is on the host, if nothing else is said.
fn share(wished: &OsStr) -> Result<String, String> {
    let wished = wished.to_str().ok_or("the name is not UTF-8")?;
    let (directory, rest) = wished.split_once(':').unwrap_or((wished, ""));
    let real = Path::new(directory).canonicalize();
    let real = real.map_err(|error| format!("{directory}: {error}"))?;
    if !real.is_dir() {
        return Err(format!("{directory} is not a directory"));
    }
    let real = real
        .to_str()
        .ok_or("the path of the directory is not UTF-8")?;
    let share = match rest {
        "" => real.to_owned(),
        rest => format!("{real}:{rest}"),
    };
    // The monitor would say the same of a line of a file that the user does not know.
    let checked = share.parse::<Share>();
    checked.map_err(|error| error.to_string())?;
    Ok(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_by_its_real_path() {
        let temporary = tempfile::tempdir().unwrap();
        let real = temporary.path().canonicalize().unwrap();
        let real = real.to_str().unwrap();
        std::os::unix::fs::symlink(real, temporary.path().join("link")).unwrap();
        let of = |text: String| share(text.as_ref());
        assert_eq!(of(format!("{real}/link")).unwrap(), real);
        assert_eq!(
            of(format!("{real}/link:/src:ro")).unwrap(),
            format!("{real}:/src:ro")
        );
        assert_eq!(of(format!("{real}:ro")).unwrap(), format!("{real}:ro"));
        assert!(
            of(format!("{real}/none"))
                .unwrap_err()
                .contains("No such file")
        );
        assert!(
            of(format!("{real}:src"))
                .unwrap_err()
                .contains("must begin with /")
        );
        assert!(of("/:/host".into()).is_err());
    }
}
