//! The procedures of the control interface (umlmon, the monitor process).
//!
//! Each asks the monitor task, a channel or the configuration. `wire.rs` converts errors into answers.

use std::time::Duration;

use rpc_xdr::umlmonctrl::*;

use crate::events::Wish;
use crate::failure::Failure;
use crate::life::monitor::Ask;
use crate::service::session::Session;
use crate::service::{Service, guest, wire};

impl UmlmonctrlV1 for Service {
    type Session = Session;

    async fn vm_info(&self, _: &Session) -> VmInfoResult {
        VmInfoResult::Ok(self.info().await)
    }

    async fn vm_start(&self, session: &Session, args: VmStartArgs) -> CtlResult {
        let start = self.start_with(args);
        self.asked(session, "start", start).await.into()
    }

    async fn vm_suspend(&self, session: &Session) -> CtlResult {
        let suspend = self.monitor.ask(Ask::Suspend);
        self.asked(session, "suspend", suspend).await.into()
    }

    async fn vm_continue(&self, session: &Session) -> CtlResult {
        let resume = self.monitor.ask(Ask::Continue);
        self.asked(session, "continue", resume).await.into()
    }

    async fn vm_halt(&self, session: &Session) -> CtlResult {
        let halt = self.end(Ask::Halt);
        self.asked(session, "halt", halt).await.into()
    }

    async fn vm_ctrlaltdel(&self, session: &Session, args: VmCtrlaltdelArgs) -> CtlResult {
        let press = self.monitor.ask(Ask::CtrlAltDel { stop: args.stop });
        self.asked(session, "ctrlaltdel", press).await.into()
    }

    async fn vm_kill(&self, session: &Session) -> CtlResult {
        let kill = self.end(Ask::Kill);
        self.asked(session, "kill", kill).await.into()
    }

    async fn vm_sysrq(&self, session: &Session, args: VmSysrqArgs) -> CtlResult {
        let wish = Wish::new("sysrq", args.letter.as_str());
        let press = self.sysrq(&args.letter);
        self.asked(session, wish, press).await.into()
    }

    async fn vm_wait(&self, _: &Session, args: VmWaitArgs) -> VmWaitResult {
        let time = Duration::from_secs(args.seconds.into());
        let inactive = self.monitor.inactive_within(time).await;
        let last_end = wire::last_end(&self.monitor.status().borrow().last_end);
        VmWaitResult::Ok(VmWaited { inactive, last_end })
    }

    async fn vm_ready(&self, _: &Session, args: VmWaitArgs) -> VmReadyResult {
        self.wait_ready(args.seconds).await.into()
    }

    async fn vm_memory(&self, session: &Session, args: VmMemoryArgs) -> CtlResult {
        let wish = Wish::new("mem", args.megabytes.to_string());
        let resize = self.resize_memory(args.megabytes);
        self.asked(session, wish, resize).await.into()
    }

    async fn vm_reclaim(&self, session: &Session) -> VmReclaimResult {
        let reclaim = self.reclaim_memory();
        self.asked(session, "reclaim", reclaim).await.into()
    }

    async fn con_open(&self, session: &Session, args: ConOpenArgs) -> ConOpenResult {
        self.open_channel(session, &args).into()
    }

    async fn con_read(&self, session: &Session, args: ConReadArgs) -> ConReadResult {
        self.read_channel(session, &args).await.into()
    }

    async fn con_write(&self, session: &Session, args: ConWriteArgs) -> CtlResult {
        self.write_channel(session, &args).await.into()
    }

    async fn con_resize(&self, session: &Session, args: ConResizeArgs) -> CtlResult {
        self.resize_channel(session, &args).into()
    }

    async fn con_close(&self, session: &Session, channel: String) -> CtlResult {
        self.close_channel(session, &channel).into()
    }

    async fn con_sizes(&self, _: &Session, args: ConSizesArgs) -> ConSizesResult {
        self.sizes(&args).into()
    }

    async fn con_screen(&self, session: &Session, args: ConScreenArgs) -> ConScreenResult {
        let screen = || self.screen(&args);
        self.screens.take(session.caller(), screen).await.into()
    }

    async fn log_tail(&self, _: &Session, args: LogTailArgs) -> LogTailResult {
        self.tail(&args).into()
    }

    async fn log_read(&self, _: &Session, args: LogReadArgs) -> LogReadResult {
        self.read_log(&args).into()
    }

    async fn log_rotate(&self, _: &Session) -> CtlResult {
        self.rotate_logs().into()
    }

    async fn config_get(&self, _: &Session) -> ConfigGetResult {
        self.settings().into()
    }

    async fn config_set(&self, session: &Session, args: ConfigSetArgs) -> CtlResult {
        let wish = Wish::new("set", args.param.as_str());
        let set = async { self.set(args) };
        self.asked(session, wish, set).await.into()
    }

    async fn config_del(&self, session: &Session, args: ConfigDelArgs) -> CtlResult {
        let wish = Wish::new("del", args.param.as_str());
        let del = async { self.del(&args) };
        self.asked(session, wish, del).await.into()
    }

    async fn disk_begin(&self, session: &Session, task: DiskTask) -> DiskJobResult {
        self.begin_job(session, &task).await
    }

    async fn disk_wait(&self, session: &Session, args: DiskWaitArgs) -> DiskWaitResult {
        self.wait_for_job(session, &args).await.into()
    }

    async fn disk_cancel(&self, session: &Session, job: DiskJob) -> CtlResult {
        self.cancel_job(session, &job).await.into()
    }

    async fn disk_list(&self, _: &Session, args: DiskListArgs) -> DiskListResult {
        self.list_disks(&args).await.into()
    }

    async fn disk_attach(&self, session: &Session, args: DiskAttachArgs) -> CtlResult {
        let disk = String::from_utf8_lossy(&args.disk);
        let wish = Wish::new("disk-attach", format!("ubd{}:{disk}", args.number));
        let attach = self.attach_disk(&args);
        self.asked(session, wish, attach).await.into()
    }

    async fn disk_detach(&self, session: &Session, args: DiskDetachArgs) -> CtlResult {
        let wish = Wish::new("disk-detach", format!("ubd{}", args.number));
        let detach = self.detach_disk(args.number);
        self.asked(session, wish, detach).await.into()
    }

    async fn event_read(&self, session: &Session, args: EventReadArgs) -> EventReadResult {
        session.listens(args.after);
        EventReadResult::Ok(self.read_events(&args).await)
    }

    async fn port_get(&self, _: &Session) -> PortGetResult {
        let no_port = "this monitor has no TCP port (tcp in section [GLOBAL] opens one)".to_owned();
        let port = self.port.ok_or(Failure::NotFound(no_port));
        port.map(|port| PortNumber { port: port.into() }).into()
    }

    async fn password_set(&self, session: &Session, args: PasswordSetArgs) -> CtlResult {
        let set = async { self.set_password(session, &args) };
        self.asked(session, "change-password", set).await.into()
    }

    async fn password_start(
        &self,
        session: &Session,
        args: PasswordStartArgs,
    ) -> PasswordStartResult {
        self.start_password(session, &args).into()
    }

    async fn password_finish(&self, session: &Session, args: PasswordFinishArgs) -> CtlResult {
        let finish = async { self.finish_password(session, args) };
        self.asked(session, "change-password", finish).await.into()
    }

    async fn guest_open(&self, session: &Session, args: GuestOpenArgs) -> GuestOpenResult {
        // Each stop of a guest tries its helper first; most guests that have none are in order.
        let wish = Wish::attempt("exec");
        let open = self.open_stream(session, &args);
        self.asked(session, wish, open).await.into()
    }

    async fn guest_send(&self, session: &Session, args: GuestSendArgs) -> CtlResult {
        self.send_pieces(session, &args).await.into()
    }

    async fn guest_receive(&self, session: &Session, args: GuestReceiveArgs) -> GuestReceiveResult {
        self.receive_pieces(session, &args).await.into()
    }

    async fn guest_close(&self, session: &Session, args: GuestStream) -> CtlResult {
        guest::close_stream(session, args.stream).into()
    }

    async fn site_run(&self, session: &Session, args: SiteRunArgs) -> SiteRunResult {
        let run = self.run_site_command(session, args.arg);
        self.asked(session, "site", run).await.into()
    }
}
