//! What pages of ours ask for and order, each as a request of its own: login, information, orders, logs (umlweb).

use cli::{Exit, Failure};
use client::{answered, broken};
use config::{ChannelName, VmName};
use rpc_xdr::auth::Key;
use rpc_xdr::umlmonctrl::{LogReadArgs, LogTailArgs, VmCtrlaltdelArgs, VmStartArgs};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::Answer;
use crate::info;
use crate::sessions::Session;
use crate::web::Asked;

/// Bytes of a log in one answer, at most; its end counts.
const MAX_LOG: u64 = 8 << 20;
/// Lines of it that are meant by all of them.
const ALL_LINES: u32 = u32::MAX;

/// What a browser says to log in.
#[derive(Deserialize)]
struct Login {
    vm: String,
    password: String,
}

/// An order for a VM.
#[derive(Deserialize)]
struct Order {
    vm: String,
    order: Verb,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    Start,
    CtrlAltDel,
    Suspend,
    Continue,
    Halt,
    Kill,
}

/// The answer to a request of a page of ours.
pub fn answer(asked: &Asked<'_>) -> Answer {
    let request = asked.request;
    if (request.method.as_str(), request.path.as_str()) == ("POST", "/api/login") {
        return log_in(asked);
    }
    let Some(session) = asked.web.session(request) else {
        return refuse(401, "log in first");
    };
    if (request.method.as_str(), request.path.as_str()) == ("GET", "/api/session") {
        return Answer::json(200, &about(&session));
    }
    // Whoever has the cookie and not the token is no page of ours.
    if request.header("x-umlweb-token") != Some(&session.token) {
        return refuse(403, "the token of the session is missing");
    }
    session.touch();
    let done = match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/api/logout") => return log_out(asked),
        ("GET", "/api/vm") => vm(asked, &session).map(|info| Answer::json(200, &info)),
        ("POST", "/api/order") => order(asked, &session).map(|()| Answer::json(200, &json!({}))),
        ("GET", "/api/log") => log(asked, &session),
        _ => return refuse(404, "there is nothing by this name"),
    };
    done.unwrap_or_else(|failure| refuse(status(&failure), &failure.message))
}

/// What a page has to know of its session.
fn about(session: &Session) -> Value {
    json!({"token": session.token, "vm": session.vm.as_str(), "master": session.master})
}

fn log_in(asked: &Asked<'_>) -> Answer {
    let Ok(Login { vm, password }) = serde_json::from_slice(&asked.request.body) else {
        return refuse(400, "a VM and a password are needed");
    };
    let key = Key::from_password(&password);
    drop(zeroize::Zeroizing::new(password));
    let vm: VmName = match vm.parse() {
        Ok(vm) => vm,
        Err(_) => return refuse(400, "this is not the name of a VM"),
    };
    let passed = match asked.web.monitors.log_in(&vm, &key, asked.from) {
        Ok(passed) => passed,
        Err(failure) => {
            tracing::warn!(from = %asked.from.ip(), %vm, "login refused: {failure}");
            let status = match failure.exit {
                // The same for a wrong password, so that names cannot be tried out.
                Exit::NotAuthorised | Exit::NotRunning => 401,
                Exit::Timeout => 429,
                _ => 503,
            };
            let text = match status {
                401 => "There is no such VM, its monitor does not run, or the password is wrong.",
                _ => &failure.message,
            };
            return refuse(status, text);
        }
    };
    let begun = asked
        .web
        .sessions
        .begin(vm.clone(), key, passed.master, asked.from);
    let Some((cookie, session)) = begun else {
        return refuse(
            503,
            "there are too many sessions; log out of others, or try again later",
        );
    };
    tracing::info!(from = %asked.from.ip(), %vm, master = passed.master, "logged in");
    Answer::json(200, &about(&session)).with("Set-Cookie", set_cookie(asked, &cookie))
}

fn log_out(asked: &Asked<'_>) -> Answer {
    if let Some(cookie) = asked.request.cookie(asked.web.cookie()) {
        asked.web.sessions.end(cookie);
    }
    let gone = format!("{}; Max-Age=0", set_cookie(asked, ""));
    Answer::json(200, &json!({})).with("Set-Cookie", gone)
}

/// Without TLS, which is on a loopback address only, it is not `Secure`: not all browsers would take that.
fn set_cookie(asked: &Asked<'_>, value: &str) -> String {
    let name = asked.web.cookie();
    let secure = match asked.web.settings.tls {
        Some(_) => "; Secure",
        None => "",
    };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

fn vm(asked: &Asked<'_>, session: &Session) -> Result<Value, Failure> {
    let vm = named(asked)?;
    let mut monitor = asked.web.monitors.connect(session, &vm, asked.from)?;
    let info = answered(monitor.vm_info().map(|result| result.into_result()))?;
    Ok(info::all(&info))
}

/// The VM that the query names.
fn named(asked: &Asked<'_>) -> Result<VmName, Failure> {
    let name = asked.request.parameter("vm").unwrap_or_default();
    name.parse()
        .map_err(|error| Failure::new(Exit::Usage, error))
}

fn order(asked: &Asked<'_>, session: &Session) -> Result<(), Failure> {
    let order: Order = serde_json::from_slice(&asked.request.body)
        .map_err(|_| Failure::new(Exit::Usage, "this is no order"))?;
    let vm: VmName = order
        .vm
        .parse()
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let mut monitor = asked
        .web
        .monitors
        .connect_for_order(session, &vm, asked.from)?;
    let start = VmStartArgs { extra: Vec::new() };
    let press = VmCtrlaltdelArgs { stop: false };
    let done = match order.order {
        Verb::Start => monitor.vm_start(&start),
        Verb::CtrlAltDel => monitor.vm_ctrlaltdel(&press),
        Verb::Suspend => monitor.vm_suspend(),
        Verb::Continue => monitor.vm_continue(),
        Verb::Halt => monitor.vm_halt(),
        Verb::Kill => monitor.vm_kill(),
    };
    answered(done.map(|result| result.into_result()))
}

/// A log, or its end if it is long. It is never shown as a page.
fn log(asked: &Asked<'_>, session: &Session) -> Result<Answer, Failure> {
    let vm = named(asked)?;
    let file = asked.request.parameter("file").unwrap_or_default();
    if file != "monitor" && file.parse::<ChannelName>().is_err() {
        return Err(Failure::new(Exit::Usage, "this is not the name of a log"));
    }
    let mut monitor = asked.web.monitors.connect(session, &vm, asked.from)?;
    let args = LogTailArgs {
        file: file.to_owned(),
        lines: ALL_LINES,
    };
    let range = answered(monitor.log_tail(&args).map(|result| result.into_result()))?;
    let mut offset = range.start.max(range.end.saturating_sub(MAX_LOG));
    let mut bytes = Vec::new();
    while offset < range.end {
        let args = LogReadArgs {
            file: file.to_owned(),
            offset,
            max: 65_536,
        };
        let read = monitor.log_read(&args).map_err(broken)?;
        let chunk = answered(Ok(read.into_result()))?;
        if chunk.data.is_empty() {
            break;
        }
        offset = chunk.offset.saturating_add(chunk.data.len() as u64);
        bytes.extend_from_slice(&chunk.data);
    }
    let answer = Answer::new(200, "application/octet-stream", bytes);
    Ok(answer.with("Content-Disposition", "attachment"))
}

fn status(failure: &Failure) -> u16 {
    match failure.exit {
        Exit::Usage => 400,
        Exit::NotAuthorised => 403,
        _ => 409,
    }
}

fn refuse(status: u16, text: &str) -> Answer {
    Answer::json(status, &json!({"error": text}))
}
