//! What is tried with a kernel, one thing after the other (umladmin).

use std::fs;
use std::time::{Duration, Instant};

use jail::Features;
use monitors::cannot;
use rpc_xdr::umlmonctrl::VmEnd;

use super::boot::{BOOT, boot, describe, value};
use super::guest::MARK;
use super::installation::{Installation, MEMORY};
use super::pattern::{self, pattern};
use super::talk::Talk;
use super::trial::{Found, Trial, Verdict};
use super::{memory, network, userspace};

/// How long any other step may take.
const SHORT: Duration = Duration::from_secs(10);
/// How long a suspended guest must be silent; a running one writes ten times a second.
const SILENCE: Duration = Duration::from_millis(1500);

/// All trials. An error means that nothing can be tried at all.
pub(crate) fn all(installation: &Installation, features: Features) -> Result<Vec<Trial>, String> {
    let mut talk = installation.talk()?;
    let mut rows = Vec::new();
    let begin = Instant::now();
    match boot(&mut talk, &[]) {
        Err(why) => {
            rows.push(Trial::of("boot", Err(why)));
            return Ok(rows);
        }
        Ok(con0) => {
            let took = begin.elapsed().as_secs_f64();
            let found = format!("with {MEMORY} MB of memory, in {took:.1} s");
            rows.push(Trial::of("boot", Ok(found)));
            with_guest(&mut rows, installation, &mut talk, &con0);
        }
    }
    talk.kill()?;
    let ways = userspace::all(installation, &mut talk, features)?;
    // The drivers of networks are where kernels with several processors fail first.
    let lines = match ways
        .iter()
        .any(|row| row.what == userspace::CPUS && row.verdict == Verdict::Works)
    {
        true => userspace::WITH_CPUS,
        false => "",
    };
    rows.extend(ways);
    rows.extend(network::all(installation, &mut talk, features, lines)?);
    rows.push(Trial::of("panic is reported", panic_is_told(&mut talk)));
    talk.kill()?;
    rows.push(sysrq_t(&mut talk));
    talk.kill()?;
    rows.push(Trial::of(
        "least memory",
        memory::least(installation, &mut talk),
    ));
    Ok(rows)
}

fn is(found: Found, wanted: &str, words: &str) -> Found {
    match found? {
        found if found == wanted => Ok(words.to_owned()),
        found => Err(found),
    }
}

fn with_guest(rows: &mut Vec<Trial>, installation: &Installation, talk: &mut Talk, con0: &str) {
    let mut put = |what, found| rows.push(Trial::of(what, found));
    put("version", value(con0, "version"));
    put(
        "con1",
        typed(talk, "con1", (24, 80)).map(|_| "both ways".into()),
    );
    put(
        "ssl0",
        typed(talk, "ssl0", (24, 80)).map(|_| "both ways".into()),
    );
    put("window size", window_size(talk));
    put("ubd", is(value(con0, "ubd"), "ok", "read and written"));
    put("cow", is(value(con0, "cow"), "ok", "read and written"));
    put(
        "hostfs",
        is(value(con0, "hostfs"), "refused", "refused, as it should be"),
    );
    put(
        "notify",
        match talk.is_ready(10) {
            Ok(true) => Ok("/proc/mconsole reaches the monitor".into()),
            Ok(false) => Err("the guest's own ready message does not come".into()),
            Err(why) => Err(why),
        },
    );
    put(
        "mconsole",
        match talk.info() {
            Ok(info) if info.kernel_version.is_empty() => Err("the kernel does not answer".into()),
            Ok(_) => Ok("answers".into()),
            Err(why) => Err(why),
        },
    );
    put(userspace::PTRACE, userspace::call(talk));
    put("sysrq h", sysrq_h(talk));
    put("suspend, continue", suspend(talk));
    rows.push(twice(talk, "reboot", reboot));
    rows.push(twice(talk, "ctrlaltdel", ctrlaltdel));
    rows.push(Trial::of("disks afterwards", disks(installation)));
}

/// Types a word into a channel; the size of the window that the guest sees.
fn typed(talk: &mut Talk, channel: &str, (rows, columns): (u32, u32)) -> Found {
    let from = talk.open(channel, rows, columns)?;
    talk.write(channel, "hello\r")?;
    let heard = |text: &str| {
        let (_, rest) = text.split_once("received hello at ")?;
        let (size, _) = rest.split_once(['\r', '\n'])?;
        Some(size.to_owned())
    };
    let text = talk.read(channel, from, SHORT, |text| heard(text).is_some())?;
    heard(&text).ok_or_else(|| "input is not answered".into())
}

/// The guest learns of another size by an interrupt, which typed input may overtake; so it is asked again.
fn window_size(talk: &mut Talk) -> Found {
    let until = Instant::now() + SHORT;
    loop {
        let size = typed(talk, "con1", (33, 111))?;
        if size == "33x111" || Instant::now() > until {
            return is(Ok(size), "33x111", "seen by the guest");
        }
    }
}

fn sysrq_h(talk: &mut Talk) -> Found {
    let from = talk.open("con0", 24, 80)?;
    talk.sysrq("h")?;
    let text = talk.read("con0", from, SHORT, |text| text.contains("sysrq: HELP"))?;
    match text.contains("sysrq: HELP") {
        true => Ok("answers on con0".into()),
        false => Err("there is no answer on con0".into()),
    }
}

fn suspend(talk: &mut Talk) -> Found {
    talk.suspend()?;
    // Earlier output may still be on its way.
    let from = talk.open("ssl0", 24, 80)?;
    let late = talk.read("ssl0", from, SILENCE, |_| false)?;
    let from = talk.open("ssl0", 24, 80)?;
    let silent = talk
        .read("ssl0", from, SILENCE, |text| !text.is_empty())?
        .is_empty();
    talk.resume()?;
    let again = talk.read("ssl0", from, SHORT, |text| text.contains("beat"))?;
    match (silent, again.contains("beat")) {
        (true, true) => Ok("the guest stops, and continues".into()),
        (false, _) => Err(format!(
            "the guest continues while it is suspended ({} bytes)",
            late.len()
        )),
        (true, false) => Err("the guest does not continue".into()),
    }
}

/// A kernel can occasionally panic while it shuts down; what panicked is tried once more, after another boot.
fn twice(talk: &mut Talk, what: &'static str, tried: fn(&mut Talk) -> Found) -> Trial {
    let first = match tried(talk) {
        Err(why) if matches!(talk.end(0), Ok(Some(end)) if end.how == VmEnd::Panicked) => why,
        found => return Trial::of(what, found),
    };
    match boot(talk, &[]).and_then(|_| tried(talk)) {
        Ok(_) => Trial {
            what,
            verdict: Verdict::Beware,
            found: format!("not each time: {first}"),
        },
        Err(_) => Trial::of(what, Err(first)),
    }
}

fn reboot(talk: &mut Talk) -> Found {
    let from = talk.open("con0", 24, 80)?;
    talk.open("con1", 24, 80)?;
    talk.write("con1", "reboot\r")?;
    let done = format!("{MARK}done=");
    let con0 = talk.read("con0", from, BOOT, |text| text.contains(&done))?;
    let reboots = talk.info()?.reboots;
    match (con0.contains(&done), reboots) {
        (true, 1) => Ok("the monitor starts it again".into()),
        (_, 0) => Err(match talk.end(0)? {
            Some(end) => format!("not seen as a reboot: {}", describe(&end)),
            None => "the guest does not reboot".into(),
        }),
        _ => Err("the guest does not boot again".into()),
    }
}

fn ctrlaltdel(talk: &mut Talk) -> Found {
    talk.press()?;
    match talk.end(20)? {
        Some(end) if end.how == VmEnd::Halted => {
            Ok("the guest shuts down, and ends with status 0".into())
        }
        Some(end) => Err(describe(&end)),
        None => Err("the guest does not shut down".into()),
    }
}

/// Which of the guest's writes have reached the disks.
fn disks(installation: &Installation) -> Found {
    let read = |name: &str| {
        let path = installation.disk(name);
        fs::read(&path).map_err(|error| cannot("read", &path, &error))
    };
    let has = |disk: &[u8], seed| {
        let part = pattern(seed, pattern::CHANGED);
        disk.windows(part.len())
            .step_by(512)
            .any(|window| window == part)
    };
    if !has(&read("flat.dsk")?, pattern::NEW_FLAT_SEED) {
        return Err("the data written is not on the flat disk".into());
    }
    if read("base.dsk")? != pattern(pattern::COW_SEED, pattern::SIZE) {
        return Err("the backing file was changed".into());
    }
    if !has(&read("x.cow")?, pattern::NEW_COW_SEED) {
        return Err("the data written is not in the copy-on-write image".into());
    }
    Ok("all data is in the right file".into())
}

fn panic_is_told(talk: &mut Talk) -> Found {
    // It may panic before the outcome of the start is known; the message is the same then.
    let started = talk.start(&["init=/nonexistent"]);
    match talk.end(20)? {
        Some(end) if end.how == VmEnd::Panicked && !end.text.is_empty() => Ok(end.text),
        Some(end) => Err(describe(&end)),
        None => Err(started
            .err()
            .unwrap_or_else(|| "the kernel does not end".into())),
    }
}

/// Some kernels crash; this is not needed for normal work.
fn sysrq_t(talk: &mut Talk) -> Trial {
    let asked = boot(talk, &[]).map(|_| talk.sysrq("t"));
    let (verdict, found) = match (talk.end(3), asked) {
        (_, Err(why)) | (Err(why), _) => (Verdict::Fails, why),
        (Ok(Some(end)), _) => (
            Verdict::Beware,
            format!("do not use it: {}", describe(&end)),
        ),
        (Ok(None), Ok(Err(why))) => (Verdict::Beware, format!("do not use it: {why}")),
        (Ok(None), Ok(Ok(()))) => (Verdict::Works, "answers".to_owned()),
    };
    Trial {
        what: "sysrq t",
        verdict,
        found,
    }
}
