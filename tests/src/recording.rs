//! A console that is recorded while a user changes the size of his terminal (the end-to-end tests).

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::{Terminal, Vm, World, wait_for};

/// Records con1, while `say` makes the guest say something after each change of the size of a user's terminal, and
/// asserts that the recording has both in their order.
///
/// # Panics
/// If it has not.
#[track_caller]
pub fn sizes_are_recorded(world: &World, vm: &Vm<'_>, say: impl Fn(&mut Terminal, u16, u16)) {
    let path = world.path().join("con1.cast");
    let words = format!("con1:{}", path.display());
    let mut user = vm.terminal("-connect", "con1", 24, 80);
    user.expect("connected with con1");
    let mut recorder = Terminal::run(&vm.command(&["-record", &words]), 24, 80);
    wait_for("the recording", || path.exists().then_some(()));
    let mut expected = Vec::new();
    for (rows, columns) in [(30, 100), (50, 132)] {
        user.resize(rows, columns);
        wait_for("the size of con1", || {
            let channels = vm.info()["channels"].as_array()?.clone();
            let con1 = channels.iter().find(|it| it["channel"] == "con1")?;
            (con1["rows"] == rows && con1["columns"] == columns).then_some(())
        });
        say(&mut user, rows, columns);
        expected.extend([format!("<{columns}x{rows}>"), format!("{rows} {columns}")]);
    }
    user.send("\x1d.");
    assert_eq!(user.wait(), Some(0));
    recorder.send("\x03");
    assert_eq!(recorder.wait(), Some(0));
    let story = story(&path);
    assert!(story.starts_with("<80x24>"), "{story}");
    assert_eq!(story.matches('<').count(), 3, "{story}");
    expected.iter().fold(story.as_str(), |rest, next| {
        let found = rest.split_once(next.as_str());
        found
            .unwrap_or_else(|| panic!("{next} is not there: {story}"))
            .1
    });
}

/// What the guest wrote, with each size in angle brackets.
fn story(path: &PathBuf) -> String {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = lines.next().unwrap();
    let events = lines.map(|event| {
        let data = event[2].as_str().unwrap();
        match event[1].as_str().unwrap() {
            "o" => data.replace('<', ""),
            "r" => format!("<{data}>"),
            other => panic!("an event {other:?}"),
        }
    });
    format!("<{}x{}>", header["width"], header["height"]) + &events.collect::<String>()
}
