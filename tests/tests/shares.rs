//! Tier root: what one user takes of a monitor must leave the others theirs; the ids are those of docs/TESTING.md.

#![allow(clippy::unwrap_used, clippy::panic)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::{PATIENCE, Vm, World};
use rpc_xdr::umlmonctrl::*;

/// A connection to the control socket, on which reads end in time.
fn stream(vm: &Vm<'_>) -> UnixStream {
    let stream = UnixStream::connect(vm.file("ctrl")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client that checks nothing before it calls.
fn client(vm: &Vm<'_>) -> UmlmonctrlV1Client<UnixStream> {
    UmlmonctrlV1Client::new(stream(vm))
}

/// The reason of a refusal.
#[track_caller]
fn refused(result: CtlResult, what: &str) -> String {
    match result {
        CtlResult::Error(error) => error.text,
        CtlResult::Ok => panic!("{what} was accepted"),
    }
}

/// Does something as another user. Credentials are those of a thread, and go with it.
fn as_user<T: Send>(uid: u32, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            act()
        });
        thread.join().unwrap()
    })
}

/// A start with an argument that users may not give.
fn refused_start(client: &mut UmlmonctrlV1Client<UnixStream>) {
    let extra = vec!["mem=8G".into()];
    refused(client.vm_start(&VmStartArgs { extra }).unwrap(), "mem=8G");
}

/// A58
#[test]
fn many_users_do_not_fill_the_log_of_the_monitor() {
    let Some(world) = World::new() else { return };
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let vm = world.vm("vm1").line("log_limit = 1").monitor();
    let logs = || ["log/monitor~", "log/monitor"].map(|log| fs::metadata(vm.file(log)));
    let mut users = 10_000..11_000;
    // Each of them may have so many lines that others have to come when it is silenced.
    let is_anew = || logs().iter().all(Result::is_ok);
    while !is_anew() {
        let user = users.next().expect("the log goes on growing");
        as_user(user, || {
            let mut client = client(&vm);
            (0..300).for_each(|_| refused_start(&mut client));
        });
    }
    let sizes = logs().map(|log| log.unwrap().len());
    assert!(sizes.iter().all(|size| *size < 1_100_000), "{sizes:?}");
    let told = vm.umlwatch(&["-tail", "monitor"]).ok();
    assert!(told.contains("start refused"), "{told}");
}

/// How often a greedy client asks on each of its connections.
const EACH: usize = 16;

/// Asks for all of them at once, and takes the answers, which it counts, until the connection is shut down.
fn ask_for_screens(stream: UnixStream, screen: &ConScreenArgs, answered: &AtomicUsize) {
    let mut greedy = UmlmonctrlV1Client::new(stream);
    let mut asked = Vec::new();
    for _ in 0..EACH {
        asked.push(greedy.send_con_screen(screen).unwrap());
    }
    for ticket in asked {
        match greedy.rpc.wait(ticket) {
            Ok(_) => answered.fetch_add(1, Ordering::Relaxed),
            Err(_) => return,
        };
    }
}

/// A65
#[test]
fn huge_screens_for_one_user_hold_no_other_up() {
    const CONNECTIONS: usize = 4;
    let Some(world) = World::new() else { return };
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    let mut writer = client(&vm);
    let (channel, who) = ("con1".to_owned(), String::new());
    let mode = ConMode::Write;
    let opened = writer.con_open(&ConOpenArgs { channel, mode, who });
    opened.unwrap().into_result().unwrap();
    let largest = ConResizeArgs {
        channel: "con1".into(),
        rows: 255,
        columns: 1023,
    };
    assert_eq!(writer.con_resize(&largest).unwrap(), CtlResult::Ok);

    let screen = ConScreenArgs {
        channel: "con1".into(),
        cells: true,
    };
    let answered = AtomicUsize::new(0);
    let count = || answered.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = as_user(65534, || stream(&vm));
            streams.push(stream.try_clone().unwrap());
            let (screen, answered) = (&screen, &answered);
            scope.spawn(move || ask_for_screens(stream, screen, answered));
        }
        e2e::wait_for("the first screen", || (count() > 0).then_some(()));
        let before = count();
        let calls = 20;
        for _ in 0..calls {
            client(&vm).vm_info().unwrap().into_result().unwrap();
        }
        let meanwhile = count() - before;
        assert!(
            meanwhile < calls,
            "{meanwhile} screens during {calls} calls"
        );
        let shown = client(&vm).con_screen(&screen).unwrap();
        assert_eq!(shown.into_result().unwrap().cells.len(), 255 * 1023);
        let so_far = count();
        println!("{meanwhile} screens during {calls} calls, {so_far} before that of another user");
        assert!(so_far < CONNECTIONS * EACH, "it came last");
        for stream in streams {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    });
    drop(writer);
    vm.kill();
}

/// A58, A65, A67
#[test]
fn a_user_who_wants_too_much_leaves_the_others_theirs() {
    let Some(world) = World::new() else { return };
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = world.path().join("site");
    fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    world.global(&format!("sitecmd = {}", program.display()));
    let vm = world.vm("vm1").monitor();

    // Of the site commands, one more than the user may have is refused at once.
    let mut greedy = as_user(65534, || client(&vm));
    for _ in 0..4 {
        greedy
            .send_site_run(&SiteRunArgs { arg: Vec::new() })
            .unwrap();
    }
    greedy.ctl_null().unwrap();
    let fifth = as_user(65534, || {
        client(&vm)
            .site_run(&SiteRunArgs { arg: Vec::new() })
            .unwrap()
    });
    assert!(matches!(fifth, SiteRunResult::Error(error) if error.code == CtlCode::Busy));

    // Many refused calls are few lines, and those of others are written still.
    as_user(65534, || {
        let mut client = client(&vm);
        (0..2000).for_each(|_| refused_start(&mut client));
    });
    let log = || fs::read_to_string(vm.file("log/monitor")).unwrap();
    let lines = log().lines().count();
    assert!((300..320).contains(&lines), "{lines} lines");
    assert!(log().contains("uid 65534 does a lot; for a while it is not logged"));
    refused_start(&mut client(&vm));
    assert!(log().contains("start refused (root, pid "), "{}", log());

    // Connections beyond the share are closed, and others are served.
    let crowd: Vec<_> = as_user(65534, || (0..300).map(|_| stream(&vm)).collect());
    client(&vm).ctl_null().unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", vm.monitor_pid())).unwrap();
    let open = open.count();
    assert!(open < 200, "{open} files are open");
    drop((crowd, greedy));
}
