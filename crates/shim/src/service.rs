//! The service that containerd calls: each call becomes one of [`Pod`], in a thread in which it can wait (the server
//! of a pod).

use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, Status,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc::{self, Code, r#async::TtrpcContext, get_status};
use guest_line::Size;

use crate::exit::timestamp;
use crate::pod::{Pod, Refusal};
use crate::process::Order;
use crate::{stats, translate};

/// The service.
pub(crate) struct Service {
    pod: Arc<Pod>,
}

impl Service {
    pub(crate) fn of(pod: Arc<Pod>) -> Service {
        Service { pod }
    }

    /// Has a thread do it.
    async fn perform<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Pod>) -> Result<T, Refusal> + Send + 'static,
    ) -> ttrpc::Result<T> {
        let pod = Arc::clone(&self.pod);
        let done = tokio::task::spawn_blocking(move || work(&pod)).await;
        match done {
            Ok(done) => done.map_err(refused),
            Err(_) => Err(error(
                Code::INTERNAL,
                "the shim has a fault; see the log of containerd",
            )),
        }
    }
}

fn error(code: Code, why: impl ToString) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(get_status(code, why))
}

fn refused(refusal: Refusal) -> ttrpc::Error {
    let code = match refusal {
        Refusal::NotFound(_) => Code::NOT_FOUND,
        Refusal::Exists(_) => Code::ALREADY_EXISTS,
        Refusal::State(_) => Code::FAILED_PRECONDITION,
        Refusal::Failed(_) => Code::UNKNOWN,
    };
    error(code, refusal)
}

#[async_trait]
impl Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        wanted: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let pid = self.perform(move |pod| pod.create(&wanted)).await?;
        Ok(CreateTaskResponse {
            pid,
            ..CreateTaskResponse::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, wanted: StartRequest) -> ttrpc::Result<StartResponse> {
        let pid = self
            .perform(move |pod| pod.start(&wanted.id, &wanted.exec_id))
            .await?;
        Ok(StartResponse {
            pid,
            ..StartResponse::default()
        })
    }

    async fn exec(&self, _: &TtrpcContext, wanted: ExecProcessRequest) -> ttrpc::Result<Empty> {
        self.perform(move |pod| pod.exec(&wanted)).await?;
        Ok(Empty::new())
    }

    async fn kill(&self, _: &TtrpcContext, wanted: KillRequest) -> ttrpc::Result<Empty> {
        let signal = i32::try_from(wanted.signal).unwrap_or(9);
        let kill = move |pod: &Arc<Pod>| pod.kill(&wanted.id, &wanted.exec_id, signal, wanted.all);
        self.perform(kill).await?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, wanted: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let look = move |pod: &Arc<Pod>| {
            pod.look(&wanted.id, &wanted.exec_id, |_, task, _| {
                task.exit.subscribe()
            })
        };
        let mut exits = self.perform(look).await?;
        let exit = exits.wait_for(Option::is_some).await.map(|exit| *exit);
        // Whoever waits for one that is deleted without an end has nothing to wait for.
        let exit = exit
            .ok()
            .flatten()
            .ok_or_else(|| error(Code::NOT_FOUND, "it was deleted"))?;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..WaitResponse::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, wanted: StateRequest) -> ttrpc::Result<StateResponse> {
        let look = move |pod: &Arc<Pod>| {
            pod.look(&wanted.id, &wanted.exec_id, |container, task, pid| {
                let exit = task.has_ended();
                let status = match (exit, task.is_started) {
                    (Some(_), _) => Status::STOPPED,
                    (None, false) => Status::CREATED,
                    (None, true) if container.is_paused => Status::PAUSED,
                    (None, true) => Status::RUNNING,
                };
                StateResponse {
                    id: wanted.id.clone(),
                    exec_id: wanted.exec_id.clone(),
                    bundle: container.bundle.directory.display().to_string(),
                    pid,
                    status: status.into(),
                    stdin: task.streams.stdin.clone(),
                    stdout: task.streams.stdout.clone(),
                    stderr: task.streams.stderr.clone(),
                    terminal: task.streams.terminal,
                    exit_status: exit.map_or(0, |exit| exit.status),
                    exited_at: exit.map_or_else(MessageField::none, |exit| timestamp(exit.at)),
                    ..StateResponse::default()
                }
            })
        };
        self.perform(look).await
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        wanted: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        let delete = move |pod: &Arc<Pod>| pod.delete(&wanted.id, &wanted.exec_id);
        let (pid, exit) = self.perform(delete).await?;
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..DeleteResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, wanted: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let pid = self
            .perform(move |pod| pod.look(&wanted.id, "", |_, _, pid| pid))
            .await?;
        Ok(PidsResponse {
            processes: vec![ProcessInfo {
                pid,
                ..ProcessInfo::default()
            }],
            ..PidsResponse::default()
        })
    }

    async fn pause(&self, _: &TtrpcContext, wanted: PauseRequest) -> ttrpc::Result<Empty> {
        self.perform(move |pod| pod.freeze(&wanted.id, true))
            .await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, wanted: ResumeRequest) -> ttrpc::Result<Empty> {
        self.perform(move |pod| pod.freeze(&wanted.id, false))
            .await?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, wanted: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
        let size = Size {
            rows: side(wanted.height),
            columns: side(wanted.width),
        };
        let tell = move |pod: &Arc<Pod>| pod.tell(&wanted.id, &wanted.exec_id, Order::Resize(size));
        self.perform(tell).await?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, wanted: CloseIORequest) -> ttrpc::Result<Empty> {
        if wanted.stdin {
            let tell = move |pod: &Arc<Pod>| pod.tell(&wanted.id, &wanted.exec_id, Order::EndInput);
            self.perform(tell).await?;
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, wanted: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let resources = serde_json::from_slice(&wanted.resources.value);
        let resources = resources.map_err(|why| error(Code::INVALID_ARGUMENT, why))?;
        let limits = translate::limits(&resources);
        self.perform(move |pod| pod.update(&wanted.id, limits))
            .await?;
        Ok(Empty::new())
    }

    async fn stats(&self, _: &TtrpcContext, wanted: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let usage = self.perform(move |pod| pod.usage(&wanted.id)).await?;
        let message = stats::message(&usage).map_err(|why| error(Code::INTERNAL, why))?;
        Ok(StatsResponse {
            stats: MessageField::some(message),
            ..StatsResponse::default()
        })
    }

    async fn connect(&self, _: &TtrpcContext, _: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let task_pid = self.perform(|pod| Ok(pod.pid())).await?;
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, wanted: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.perform(move |pod| {
            pod.shut_down(wanted.now);
            Ok(())
        })
        .await?;
        Ok(Empty::new())
    }
}
