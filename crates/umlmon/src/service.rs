//! The procedures of the control interface (umlmon, the monitor process).
//!
//! Each translates its arguments, asks the monitor task, a channel or the configuration, and translates the answer.
//! Here, and nowhere else in the daemon, types of the wire meet those of the daemon.

pub(crate) mod access;
mod disks;
mod events;
mod info;
mod logs;
mod password;
mod screen;
pub(crate) mod session;
mod site;
mod wire;

use std::rc::Rc;
use std::time::Duration;

use config::{ChannelName, Config, UserChanges, is_printable};
use daemon::LogHandle;
use pty::Channel;
use rpc_xdr::umlmonctrl::*;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::disks::holdings;
use crate::disks::jobs::Jobs;
use crate::failure::Failure;
use crate::life::events::{Happening, Wish};
use crate::life::monitor::{Ask, Handle};
use crate::life::run::Start;
use crate::life::state::{Denied, Phase};
use crate::service::session::Session;
use crate::setup::Setup;

/// How long a call that ends the kernel waits until nothing of it is left.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// The longest that one read of a channel waits.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What the procedures need.
pub struct Service {
    /// What the monitor holds as long as it lives.
    pub setup: Rc<Setup>,
    /// The monitor task.
    pub monitor: Handle,
    /// Work on disks.
    pub jobs: Rc<Jobs>,
    /// The monitor's own log.
    pub log: LogHandle,
    /// When the daemon was started.
    pub since: Instant,
    /// The TCP port.
    pub port: Option<u16>,
    /// Told when a call has needed much memory for a moment.
    pub economy: Notify,
}

impl Service {
    fn channel(&self, name: &str) -> Result<Rc<Channel>, Failure> {
        let unknown = || {
            Failure::NotFound(format!(
                "there is no channel {name} (-info lists the channels)"
            ))
        };
        let parsed: ChannelName = name.parse().map_err(|_| unknown())?;
        self.setup.channels.get(parsed).ok_or_else(unknown)
    }

    /// The channel to which the session is attached.
    fn attached(&self, session: &Session, name: &str) -> Result<Rc<pty::Attachment>, Failure> {
        let channel = self.channel(name)?.name();
        let unattached = || Failure::Invalid(format!("not attached to {name}"));
        session.attachment(channel).ok_or_else(unattached)
    }

    /// Without a kernel nobody reads what is typed, and the next one is not to find it.
    fn must_run(&self) -> Result<(), Failure> {
        match self.monitor.status().borrow().phase {
            Phase::Running | Phase::Suspended => Ok(()),
            _ => Err(Denied::NotRunning.into()),
        }
    }

    async fn ending(&self, ask: Ask) -> Result<(), Failure> {
        self.monitor.ask(ask).await?;
        if self.monitor.inactive_within(END_DEADLINE).await {
            return Ok(());
        }
        Err(Failure::Failed(
            "the VM has not ended yet (-kill ends it, -wait waits)".into(),
        ))
    }

    /// Starts the kernel without being asked by a client.
    pub(crate) async fn boot(&self) -> Result<(), Failure> {
        self.start(Vec::new()).await
    }

    async fn start(&self, extra: Vec<String>) -> Result<(), Failure> {
        let start = Start {
            extra,
            cows: holdings::look(&self.setup).await?,
            ..Start::default()
        };
        self.monitor.ask(Ask::Start(start)).await
    }

    async fn sysrq(&self, letters: &str) -> Result<(), Failure> {
        let mut letters = letters.chars();
        match (letters.next(), letters.next()) {
            (Some(key), None) if key.is_ascii_alphanumeric() => {
                self.monitor.ask(Ask::Sysrq(key)).await
            }
            _ => Err(Failure::Invalid(
                "a system request is one letter or digit (h shows a list on con0)".into(),
            )),
        }
    }

    fn start_arguments(args: VmStartArgs) -> Result<Vec<String>, Failure> {
        let text = |bytes| {
            String::from_utf8(bytes)
                .map_err(|_| Failure::Invalid("a kernel argument must be UTF-8".into()))
        };
        let extra = args
            .extra
            .into_iter()
            .map(text)
            .collect::<Result<Vec<_>, _>>()?;
        extra
            .iter()
            .try_for_each(|argument| config::check_user_argument(argument))?;
        Ok(extra)
    }

    fn open_channel(&self, session: &Session, args: &ConOpenArgs) -> Result<ConOpened, Failure> {
        let channel = self.channel(&args.channel)?;
        let attachment = match session.attachment(channel.name()) {
            Some(attachment) => attachment,
            None => Rc::new(
                channel
                    .attach(&who(session, &args.who))
                    .map_err(wire::busy)?,
            ),
        };
        let taken_from = match args.mode {
            ConMode::Watch => {
                attachment.watch();
                None
            }
            ConMode::Write => {
                attachment.take().map_err(wire::busy)?;
                None
            }
            ConMode::Force => attachment.force_take(),
        };
        session.attach(channel.name(), attachment);
        let kept = channel.range();
        self.setup.events.tell(Happening::Attached {
            channel: channel.name(),
            who: session.peer().to_owned(),
            mode: wire::mode(args.mode),
        });
        Ok(ConOpened {
            start: kept.start,
            end: kept.end,
            run_start: self.setup.channels.run_start(channel.name()),
            taken_from: wire::text(taken_from.unwrap_or_default()),
        })
    }

    async fn read_channel(
        &self,
        session: &Session,
        args: &ConReadArgs,
    ) -> Result<ConChunk, Failure> {
        let attachment = self.attached(session, &args.channel)?;
        let wait = Duration::from_millis(args.wait_ms.into()).min(MAX_WAIT);
        let max = args.max.min(CTL_DATA_MAX) as usize;
        let chunk = attachment.read(args.offset, max, wait).await;
        Ok(ConChunk {
            offset: chunk.offset,
            data: chunk.data,
            state: wire::state(self.monitor.status().borrow().phase),
            writer: attachment.is_writer(),
            taken_by: wire::text(attachment.taken_by().unwrap_or_default()),
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut UserChanges, &Config) -> Result<(), config::Error>,
    ) -> Result<(), Failure> {
        let config = Config::load(&self.setup.config_path)?;
        let file = config.global.user_file(self.setup.name());
        let mut changes = UserChanges::load(&file)?;
        change(&mut changes, &config)?;
        Ok(changes.save(&file)?)
    }

    async fn run_site_command(&self, arg: Vec<u8>) -> Result<SiteOutput, Failure> {
        let config = Config::load(&self.setup.config_path)?;
        let program = config.global.sitecmd.ok_or_else(|| {
            Failure::NotFound("no site command is configured (sitecmd in section [GLOBAL])".into())
        })?;
        let output = site::run(&program, &arg, self.setup.name(), site::DEADLINE)
            .await
            .map_err(|error| {
                Failure::Failed(format!(
                    "cannot run the site command {}: {error}",
                    program.display()
                ))
            })?;
        Ok(SiteOutput {
            exit_status: output.status.unwrap_or(-1),
            output: output.output,
            truncated: output.truncated,
            timed_out: output.timed_out,
        })
    }
}

/// How the session is listed: who it is for sure, and what it says of itself.
fn who(session: &Session, claimed: &str) -> String {
    let shown: String = claimed
        .chars()
        .filter(|c| is_printable(*c))
        .take(100)
        .collect();
    if shown.is_empty() {
        session.peer().to_owned()
    } else {
        format!("{} on {shown}", session.peer())
    }
}

impl UmlmonctrlV1 for Service {
    type Session = Session;

    async fn vm_info(&self, _: &Session) -> VmInfoResult {
        VmInfoResult::Ok(self.info().await)
    }

    async fn vm_start(&self, session: &Session, args: VmStartArgs) -> CtlResult {
        let start = async { self.start(Self::start_arguments(args)?).await };
        wire::done(self.asked(session, "start", start).await)
    }

    async fn vm_suspend(&self, session: &Session) -> CtlResult {
        let suspend = self.monitor.ask(Ask::Suspend);
        wire::done(self.asked(session, "suspend", suspend).await)
    }

    async fn vm_continue(&self, session: &Session) -> CtlResult {
        let resume = self.monitor.ask(Ask::Continue);
        wire::done(self.asked(session, "continue", resume).await)
    }

    async fn vm_halt(&self, session: &Session) -> CtlResult {
        let halt = self.ending(Ask::Halt);
        wire::done(self.asked(session, "halt", halt).await)
    }

    async fn vm_ctrlaltdel(&self, session: &Session, args: VmCtrlaltdelArgs) -> CtlResult {
        let press = self.monitor.ask(Ask::CtrlAltDel { stop: args.stop });
        wire::done(self.asked(session, "ctrlaltdel", press).await)
    }

    async fn vm_kill(&self, session: &Session) -> CtlResult {
        let kill = self.ending(Ask::Kill);
        wire::done(self.asked(session, "kill", kill).await)
    }

    async fn vm_sysrq(&self, session: &Session, args: VmSysrqArgs) -> CtlResult {
        let wish = Wish::new("sysrq", args.letter.as_str());
        wire::done(self.asked(session, wish, self.sysrq(&args.letter)).await)
    }

    async fn vm_wait(&self, _: &Session, args: VmWaitArgs) -> VmWaitResult {
        let inactive = self
            .monitor
            .inactive_within(Duration::from_secs(args.seconds.into()))
            .await;
        let last_end = wire::last_end(&self.monitor.status().borrow().last_end);
        VmWaitResult::Ok(VmWaited { inactive, last_end })
    }

    async fn vm_ready(&self, _: &Session, args: VmWaitArgs) -> VmReadyResult {
        match self.wait_ready(args.seconds).await {
            Ok(readiness) => VmReadyResult::Ok(readiness),
            Err(failure) => VmReadyResult::Error(wire::error(&failure)),
        }
    }

    async fn con_open(&self, session: &Session, args: ConOpenArgs) -> ConOpenResult {
        match self.open_channel(session, &args) {
            Ok(opened) => ConOpenResult::Ok(opened),
            Err(failure) => {
                let wish = Wish::new(wire::connect_verb(args.mode), args.channel);
                self.refused(session, wish, &failure);
                ConOpenResult::Error(wire::error(&failure))
            }
        }
    }

    async fn con_read(&self, session: &Session, args: ConReadArgs) -> ConReadResult {
        match self.read_channel(session, &args).await {
            Ok(chunk) => ConReadResult::Ok(chunk),
            Err(failure) => ConReadResult::Error(wire::error(&failure)),
        }
    }

    async fn con_write(&self, session: &Session, args: ConWriteArgs) -> CtlResult {
        wire::done(
            async {
                let attachment = self.attached(session, &args.channel)?;
                self.must_run()?;
                attachment.write(&args.data).await.map_err(wire::busy)
            }
            .await,
        )
    }

    async fn con_resize(&self, session: &Session, args: ConResizeArgs) -> CtlResult {
        let size = |n: u32| {
            u16::try_from(n).map_err(|_| Failure::Invalid(format!("{n} is not a size of a window")))
        };
        let result = self
            .attached(session, &args.channel)
            .and_then(|attachment| {
                attachment
                    .resize(size(args.rows)?, size(args.columns)?)
                    .map_err(wire::busy)
            });
        wire::done(result)
    }

    async fn con_close(&self, session: &Session, channel: String) -> CtlResult {
        let result =
            self.channel(&channel)
                .and_then(|channel| match session.detach(channel.name()) {
                    true => Ok(()),
                    false => Err(Failure::Invalid(format!(
                        "not attached to {}",
                        channel.name()
                    ))),
                });
        wire::done(result)
    }

    async fn con_screen(&self, _: &Session, args: ConScreenArgs) -> ConScreenResult {
        match self.screen(&args) {
            Ok(screen) => ConScreenResult::Ok(screen),
            Err(failure) => ConScreenResult::Error(wire::error(&failure)),
        }
    }

    async fn log_tail(&self, _: &Session, args: LogTailArgs) -> LogTailResult {
        match self.tail(&args) {
            Ok(range) => LogTailResult::Ok(range),
            Err(failure) => LogTailResult::Error(wire::error(&failure)),
        }
    }

    async fn log_read(&self, _: &Session, args: LogReadArgs) -> LogReadResult {
        match self.read_log(&args) {
            Ok(chunk) => LogReadResult::Ok(chunk),
            Err(failure) => LogReadResult::Error(wire::error(&failure)),
        }
    }

    async fn log_rotate(&self, _: &Session) -> CtlResult {
        wire::done(self.rotate_logs())
    }

    async fn config_get(&self, _: &Session) -> ConfigGetResult {
        match self.settings() {
            Ok(settings) => ConfigGetResult::Ok(settings),
            Err(failure) => ConfigGetResult::Error(wire::error(&failure)),
        }
    }

    async fn config_set(&self, session: &Session, args: ConfigSetArgs) -> CtlResult {
        let wish = Wish::new("set", args.param.as_str());
        let set = async {
            let not_text =
                |_| Failure::Invalid(format!("the value of {} must be UTF-8", args.param));
            let value = String::from_utf8(args.value).map_err(not_text)?;
            self.change(|changes, config| {
                changes.set(config, self.setup.name(), &args.param, &value)
            })
        };
        wire::done(self.asked(session, wish, set).await)
    }

    async fn config_del(&self, session: &Session, args: ConfigDelArgs) -> CtlResult {
        let wish = Wish::new("del", args.param.as_str());
        let del = async {
            self.change(|changes, config| changes.del(config, self.setup.name(), &args.param))
        };
        wire::done(self.asked(session, wish, del).await)
    }

    async fn disk_begin(&self, session: &Session, task: DiskTask) -> DiskJobResult {
        self.begin_job(session, &task).await
    }

    async fn disk_wait(&self, session: &Session, args: DiskWaitArgs) -> DiskWaitResult {
        match self.wait_for_job(session, &args).await {
            Ok(progress) => DiskWaitResult::Ok(progress),
            Err(failure) => DiskWaitResult::Error(wire::error(&failure)),
        }
    }

    async fn disk_cancel(&self, session: &Session, job: DiskJob) -> CtlResult {
        wire::done(self.cancel_job(session, &job).await)
    }

    async fn disk_list(&self, _: &Session, args: DiskListArgs) -> DiskListResult {
        match self.list_disks(&args).await {
            Ok(page) => DiskListResult::Ok(page),
            Err(failure) => DiskListResult::Error(wire::error(&failure)),
        }
    }

    async fn event_read(&self, _: &Session, args: EventReadArgs) -> EventReadResult {
        EventReadResult::Ok(self.read_events(&args).await)
    }

    async fn port_get(&self, _: &Session) -> PortGetResult {
        let refusal = || {
            Failure::NotFound(
                "this monitor has no TCP port (tcp in section [GLOBAL] opens one)".into(),
            )
        };
        match self.port {
            Some(port) => PortGetResult::Ok(PortNumber { port: port.into() }),
            None => PortGetResult::Error(wire::error(&refusal())),
        }
    }

    async fn password_set(&self, session: &Session, args: PasswordSetArgs) -> CtlResult {
        let set = async { self.set_password(session, &args) };
        wire::done(self.asked(session, "change-password", set).await)
    }

    async fn site_run(&self, session: &Session, args: SiteRunArgs) -> SiteRunResult {
        let run = self.run_site_command(args.arg);
        match self.asked(session, "site", run).await {
            Ok(output) => SiteRunResult::Ok(output),
            Err(failure) => SiteRunResult::Error(wire::error(&failure)),
        }
    }
}
