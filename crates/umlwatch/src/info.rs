//! The status page of `-info`. Everything on it comes from a daemon or a guest, so only its printable part is shown.

use std::fmt::{self, Write};
use std::time::Duration;

use cli::printable;
use rpc_xdr::umlmonctrl::{
    ConClient, ConInfo, ConfigOrigin, ConfigSetting, DiskDurable, DiskInfo, NicInfo, ShareInfo,
    ShareOwner, VmEnd, VmInfo, VmLastEnd, VmState,
};

use client::when::{since, size, span, utc};
use client::words::{self, how_ended};

/// The page for people.
pub fn page(info: &VmInfo) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, info);
    page
}

fn write_page(page: &mut String, info: &VmInfo) -> fmt::Result {
    write_state(page, info)?;
    heading(page, "Consoles", info.channels.len())?;
    for channel in &info.channels {
        write_channel(page, channel)?;
    }
    heading(page, "Disks", info.disks.len())?;
    let chosen = value(info, "sync_disks") == Some(b"auto");
    for disk in &info.disks {
        write_disk(page, disk, chosen)?;
    }
    heading(page, "Networks", info.nics.len())?;
    for nic in &info.nics {
        write_nic(page, nic)?;
    }
    if !info.shares.is_empty() {
        heading(page, "Shared directories", info.shares.len())?;
    }
    for share in &info.shares {
        write_share(page, share)?;
    }
    let title = match info.state {
        VmState::Inactive => "Configuration of the next start",
        _ => "Configuration in effect",
    };
    heading(page, title, info.settings.len())?;
    for setting in &info.settings {
        write_setting(page, setting, "")?;
    }
    if !info.pending.is_empty() {
        heading(page, "Pending changes, in effect from the next start on", 1)?;
    }
    for setting in &info.pending {
        write_setting(page, setting, "removed")?;
    }
    Ok(())
}

fn write_state(page: &mut String, info: &VmInfo) -> fmt::Result {
    let vm = printable(info.vm.as_bytes());
    let (state, moment) = (words::state(info.state), utc(info.state_since));
    writeln!(
        page,
        "{vm} is {state} since {moment} ({})",
        since(info.state_since)
    )?;
    if info.state == VmState::Running && !info.responding {
        fact(page, "Attention", "the kernel does not answer")?;
    }
    if !info.fault.is_empty() {
        let fault = format!("it cannot be started again: {}", info.fault);
        fact(page, "Attention", &fault)?;
    }
    if info.state != VmState::Inactive {
        let reboots = match info.reboots {
            0 => String::new(),
            1 => ", rebooted once".to_owned(),
            n => format!(", rebooted {n} times"),
        };
        let ready = if info.ready {
            ", the guest is ready"
        } else {
            ""
        };
        let uptime = span(info.uptime.into());
        fact(page, "Uptime", &format!("{uptime}{reboots}{ready}"))?;
    }
    // An earlier start that failed is not relevant for a VM that runs.
    if info.state == VmState::Inactive || info.last_end.how != VmEnd::NotStarted {
        fact(page, "Last end", &last_end(&info.last_end))?;
    }
    if info.kernel_pid != 0 {
        let version = match info.kernel_version.as_str() {
            "" => String::new(),
            version => format!("{}, ", printable(version.as_bytes())),
        };
        let (kernel, child) = (info.kernel_pid, info.child_pid);
        fact(
            page,
            "Kernel",
            &format!("{version}process {kernel}, child of {child}"),
        )?;
    }
    fact(page, "Memory", &memory(info))?;
    write_usage(page, info)?;
    write_userspace(page, info)?;
    write_bounds(page, info)?;
    let version = printable(info.daemon_version.as_bytes());
    let (pid, moment) = (info.monitor_pid, utc(info.monitor_since));
    fact(
        page,
        "Monitor",
        &format!("umlmon {version}, process {pid}, since {moment}"),
    )
}

/// What the guest has, what the host gives for it, and what is left in the guest.
fn memory(info: &VmInfo) -> String {
    let mut text = format!("{} MB", info.mem_now_mb);
    if info.mem_now_mb != info.mem_mb {
        text = format!("{text} of {} MB", info.mem_mb);
    }
    if info.state != VmState::Inactive {
        text = format!("{text}, {} of it in use", size(info.mem_used));
    }
    if info.mem_available > 0 {
        text = format!(
            "{text}, {} available in the guest",
            size(info.mem_available)
        );
    }
    text
}

/// The value of a parameter in effect.
fn value<'a>(info: &'a VmInfo, param: &str) -> Option<&'a [u8]> {
    let mut settings = info.settings.iter();
    let found = settings.find(|setting| setting.param == param);
    found.map(|setting| setting.value.as_slice())
}

/// What it has used of the host's processors and disks, if the host counts that.
fn write_usage(page: &mut String, info: &VmInfo) -> fmt::Result {
    if info.cpu_ns != 0 {
        let seconds = Duration::from_nanos(info.cpu_ns).as_secs_f64();
        fact(page, "CPU time", &format!("{seconds:.1} s"))?;
    }
    let (read, written) = (info.disk_read_bytes, info.disk_written_bytes);
    if read != 0 || written != 0 {
        let transfers = format!("{} read, {} written", size(read), size(written));
        fact(page, "Disk", &transfers)?;
    }
    Ok(())
}

/// As whom it runs, if the configuration does not say that, and how it runs programs, if not in the usual way.
fn write_userspace(page: &mut String, info: &VmInfo) -> fmt::Result {
    if value(info, "vmuser") == Some(b"auto") {
        fact(page, "User ID", &info.uid.to_string())?;
    }
    match value(info, "userspace") {
        None | Some(b"ptrace") => Ok(()),
        Some(way) => {
            let way = printable(way);
            fact(
                page,
                "Userspace",
                &format!("{way}: programs of the guest can reach its kernel"),
            )
        }
    }
}

/// Where the VM runs, what limits it, and what keeps it apart.
fn write_bounds(page: &mut String, info: &VmInfo) -> fmt::Result {
    let bounds = [
        ("Processor", &info.processors),
        ("Bounded by", &info.bounded_by),
        ("Confined by", &info.confined_by),
    ];
    for (name, words) in bounds.iter().filter(|(_, words)| !words.is_empty()) {
        fact(page, name, &printable(words.as_bytes()))?;
    }
    Ok(())
}

/// How and when the last run of the kernel ended.
fn last_end(end: &VmLastEnd) -> String {
    if end.how == VmEnd::None {
        return "none since the monitor was started".to_owned();
    }
    let (how, moment) = (how_ended(end), utc(end.time));
    format!("{how} ({moment})")
}

fn write_channel(page: &mut String, info: &ConInfo) -> fmt::Result {
    let (name, terminal) = (
        printable(info.channel.as_bytes()),
        printable(&info.terminal),
    );
    let (rows, columns, bytes) = (info.rows, info.columns, size(info.bytes));
    writeln!(
        page,
        "  {name:<6} {terminal:<14} {columns}x{rows}, {bytes} so far"
    )?;
    if let Some(writer) = &info.writer {
        writeln!(page, "         connected: {}", client(writer))?;
    }
    for watcher in &info.watchers {
        writeln!(page, "         watching: {}", client(watcher))?;
    }
    Ok(())
}

/// Who is attached to a channel, since when, and how long idle.
pub(crate) fn client(client: &ConClient) -> String {
    let who = printable(client.who.as_bytes());
    let idle = span(client.idle.into());
    format!("{who}, for {}, idle {idle}", since(client.since))
}

/// When what the guest writes is on the host's disk, and why, if the monitor has `chosen` that.
fn durable(durable: DiskDurable, chosen: bool) -> Option<String> {
    let words = match durable {
        DiskDurable::Unknown => return None,
        DiskDurable::Write if chosen => "synchronous, as the kernel carries out no flush",
        DiskDurable::Write => "synchronous",
        DiskDurable::Flush => "durable when flushed",
        DiskDurable::Never => "not durable, even when flushed",
    };
    Some(words.to_owned())
}

fn write_disk(page: &mut String, disk: &DiskInfo, chosen: bool) -> fmt::Result {
    let (ubd, file) = (printable(disk.ubd.as_bytes()), printable(&disk.file));
    let mut facts = Vec::new();
    if disk.size > 0 {
        facts.push(format!(
            "{}, {} allocated",
            size(disk.size),
            size(disk.allocated)
        ));
    }
    if !disk.backing.is_empty() {
        facts.push(format!("on {}", printable(&disk.backing)));
    }
    facts.extend(durable(disk.durable, chosen));
    if disk.read_only {
        facts.push("read only".to_owned());
    }
    writeln!(page, "  {ubd:<6} {file:<22} {}", facts.join(", "))?;
    note(page, &disk.note)
}

fn write_nic(page: &mut String, nic: &NicInfo) -> fmt::Result {
    let (eth, specification) = (printable(nic.eth.as_bytes()), printable(&nic.specification));
    writeln!(page, "  {eth:<6} {specification}")?;
    note(page, &nic.note)?;
    let Some(link) = &nic.link else {
        return Ok(());
    };
    let end = |parts: [&str; 3]| {
        let parts = parts.iter().filter(|part| !part.is_empty());
        parts.copied().collect::<Vec<_>>().join(" ")
    };
    let open = if link.open { "up" } else { "not up" };
    let guest = end([&link.guest_if, &link.guest_addr, &link.guest_hwaddr]);
    let host = end([&link.proxy_if, &link.proxy_addr, &link.proxy_hwaddr]);
    let mut text = format!("guest: {guest} ({open}, {}); host: {host}", link.transport);
    if !link.bridge_if.is_empty() {
        write!(text, ", port of {}", link.bridge_if)?;
    }
    if !link.host_if.is_empty() {
        write!(text, ", announced at {}", link.host_if)?;
    }
    note(page, &text)?;
    let carried = |bytes: u64, packets: u64, dropped: u64| {
        let dropped = match dropped {
            0 => String::new(),
            n => format!(", {n} dropped"),
        };
        format!("{} ({packets} packets{dropped})", size(bytes))
    };
    let received = carried(
        link.received_bytes,
        link.received_packets,
        link.received_dropped,
    );
    let sent = carried(link.sent_bytes, link.sent_packets, link.sent_dropped);
    note(page, &format!("received {received}, sent {sent}"))
}

fn write_share(page: &mut String, share: &ShareInfo) -> fmt::Result {
    let (name, directory) = (
        printable(share.share.as_bytes()),
        printable(&share.directory),
    );
    let mut facts = Vec::new();
    if share.path != share.directory {
        facts.push(format!("at {}", printable(&share.path)));
    }
    if share.read_only {
        facts.push("read only".to_owned());
    }
    let uid = share.uid;
    facts.extend(match share.owner {
        ShareOwner::Unknown => None,
        ShareOwner::Same => Some(format!("as its owner, the VM's user {uid}")),
        ShareOwner::Mapped => Some(format!("as its owner, user {uid}: owners are mapped")),
        ShareOwner::Unmapped => Some(format!("as user {uid}, not as its owner")),
    });
    writeln!(page, "  {name:<6} {directory:<22} {}", facts.join(", "))?;
    if share.owner != ShareOwner::Unmapped {
        return note(page, &share.note);
    }
    let effect = match share.read_only {
        true => format!("the guest reads only what user {uid} may read"),
        false => format!(
            "the guest reads and changes only what user {uid} may, and what it makes belongs to that user"
        ),
    };
    note(page, &format!("{}: {effect}", share.note))
}

/// `without` is what an empty value means.
fn write_setting(page: &mut String, setting: &ConfigSetting, without: &str) -> fmt::Result {
    let param = printable(setting.param.as_bytes());
    let value = match setting.value.as_slice() {
        b"" => without.to_owned(),
        value => printable(value),
    };
    let origin = match setting.origin {
        ConfigOrigin::Default => "  (default)",
        ConfigOrigin::Main => "",
        ConfigOrigin::User => "  (user change)",
        ConfigOrigin::Template => "  (template)",
    };
    writeln!(page, "  {param} = {value}{origin}")
}

fn heading(page: &mut String, title: &str, entries: usize) -> fmt::Result {
    match entries {
        0 => writeln!(page, "\n{title}: none"),
        _ => writeln!(page, "\n{title}"),
    }
}

fn fact(page: &mut String, name: &str, text: &str) -> fmt::Result {
    writeln!(page, "  {name:<10} {text}")
}

fn note(page: &mut String, text: &str) -> fmt::Result {
    match text {
        "" => Ok(()),
        text => writeln!(page, "         {}", printable(text.as_bytes())),
    }
}
