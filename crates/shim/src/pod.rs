//! A pod: its VM, its network namespace and its containers, and what containerd asks of them. The functions block
//! (the server of a pod).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow};
use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest};
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use guest_line::{Action, Limits, Place, Usage, is_container_id};
use rpc_xdr::umlmonctrl::VmWaitArgs;
use tokio::sync::Notify;

use crate::bundle::{Bundle, Kind};
use crate::container::{self, Container, Exec, Task};
use crate::events::Events;
use crate::exit::timestamp;
use crate::holder::Holder;
use crate::hooks;
use crate::image;
use crate::io::Streams;
use crate::network;
use crate::process::{Exit, Happened, Order, Process};
use crate::rootfs::{self, Root};
use crate::translate;
use crate::vm::{Installation, Vm};

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is no such container or process, or it has ended.
    #[error("{0}")]
    NotFound(String),
    /// There is one already.
    #[error("{0} is there already")]
    Exists(String),
    /// It is not in the state for it.
    #[error("{0}")]
    State(String),
    /// It has failed.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// The message with which engines tell options of any runtime.
const OPTIONS: &str = "runtimeoptions.v1.Options";

type Result<T> = std::result::Result<T, Refusal>;

/// The pod.
pub(crate) struct Pod {
    state: Mutex<State>,
    events: Events,
    /// Told when the server is to end.
    pub(crate) over: Notify,
}

#[derive(Default)]
struct State {
    containers: BTreeMap<String, Container>,
    vm: Option<Vm>,
    holder: Option<Holder>,
}

fn no_process(id: &str, exec: &str) -> Refusal {
    Refusal::NotFound(format!("there is no process {exec} in the container {id}"))
}

impl State {
    /// The number that engines know the processes of the pod by.
    fn pid(&self) -> u32 {
        self.holder.as_ref().map_or(0, Holder::pid)
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        let found = self.containers.get_mut(id);
        found.ok_or_else(|| Refusal::NotFound(format!("there is no container {id}")))
    }

    fn task(&mut self, id: &str, exec: &str) -> Result<&mut Task> {
        let found = self.container(id)?.task_mut(exec);
        found.ok_or_else(|| no_process(id, exec))
    }

    fn vm(&mut self) -> Result<&mut Vm> {
        let vm = self.vm.as_mut();
        vm.ok_or_else(|| Refusal::State("the VM of the pod has ended".into()))
    }
}

impl Pod {
    pub(crate) fn new(events: Events) -> Arc<Pod> {
        Arc::new(Pod {
            state: Mutex::default(),
            events,
            over: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares a container; returns the number of a process in its network namespace.
    pub(crate) fn create(&self, wanted: &CreateTaskRequest) -> Result<u32> {
        let mut state = self.state();
        let id = &wanted.id;
        if state.containers.contains_key(id) {
            return Err(Refusal::Exists(id.clone()));
        }
        if !is_container_id(id) {
            return Err(Refusal::Failed(anyhow!(
                "{id:?} is no identifier of a container"
            )));
        }
        let bundle = Bundle::read(Path::new(&wanted.bundle))?;
        let kind = bundle.kind()?;
        if state.vm.is_none() {
            let Some(network) = bundle.network() else {
                let why = "a VM has a network of its own: the network of the host (--net-host, hostNetwork) is not possible";
                return Err(Refusal::Failed(anyhow!(why)));
            };
            state.holder = Some(Holder::begin(network.as_deref())?);
            hooks::run(&bundle, id, state.pid())?;
            let installation = Installation::read(configuration(wanted).as_deref())?;
            let name = bundle.pod_name();
            let name = name.unwrap_or_else(|| format!("{}/{id}", self.events.namespace()));
            state.vm = Some(Vm::prepare(&bundle, &name, &installation)?);
        }
        let disk = match kind {
            Kind::Sandbox => 0,
            Kind::Alone | Kind::Member(_) => {
                let image = image_of(&bundle, wanted, state.vm()?.images())?;
                state.vm()?.add_disk(&image)?
            }
        };
        let names = [&wanted.stdin, &wanted.stdout, &wanted.stderr];
        let streams = Streams::of(wanted.terminal, names);
        let container = Container {
            bundle,
            kind,
            disk,
            task: Task::new(streams),
            execs: BTreeMap::new(),
            is_paused: false,
        };
        state.containers.insert(id.clone(), container);
        let pid = state.pid();
        self.events.send(&event::TaskCreate {
            container_id: id.clone(),
            bundle: wanted.bundle.clone(),
            rootfs: wanted.rootfs.clone(),
            io: MessageField::some(event::TaskIO {
                stdin: wanted.stdin.clone(),
                stdout: wanted.stdout.clone(),
                stderr: wanted.stderr.clone(),
                terminal: wanted.terminal,
                ..event::TaskIO::default()
            }),
            pid,
            ..event::TaskCreate::default()
        });
        Ok(pid)
    }

    /// Starts a container, and its VM with the first one; or a command in it.
    pub(crate) fn start(self: &Arc<Self>, id: &str, exec: &str) -> Result<u32> {
        let mut state = self.state();
        let pid = state.pid();
        if state.task(id, exec)?.is_started {
            return Err(Refusal::State(format!(
                "{id} {exec}: it was started already"
            )));
        }
        if !state.vm()?.is_started() {
            state.vm()?.start(&network::of_process(pid))?;
            self.watch(&mut state)?;
        }
        let process = self.begin(&mut state, id, exec)?;
        let task = state.task(id, exec)?;
        task.process = process;
        task.is_started = true;
        match exec {
            "" => self.events.send(&event::TaskStart {
                container_id: id.to_owned(),
                pid,
                ..event::TaskStart::default()
            }),
            exec => self.events.send(&event::TaskExecStarted {
                container_id: id.to_owned(),
                exec_id: exec.to_owned(),
                pid,
                ..event::TaskExecStarted::default()
            }),
        }
        Ok(pid)
    }

    /// Begins the program of a container or of a command; that of a sandbox has none.
    fn begin(self: &Arc<Self>, state: &mut State, id: &str, exec: &str) -> Result<Option<Process>> {
        let State { containers, vm, .. } = state;
        let vm = vm.as_mut().context("the VM of the pod has ended")?;
        let mut all = containers.values();
        let sandbox = all.find(|container| container.kind == Kind::Sandbox);
        let host_name = sandbox.and_then(|sandbox| sandbox.bundle.host_name());
        let container = containers.get_mut(id).context("no such container")?;
        let (spec, place) = match (exec, &container.kind) {
            ("", Kind::Sandbox) => return Ok(None),
            ("", _) => {
                let spec = &container.bundle.spec;
                let mut told = translate::container(id, container.disk, spec, vm.volumes())?;
                told.hostname = container.bundle.host_name().or(host_name);
                (container::first_process(spec), Place::New(Box::new(told)))
            }
            (_, Kind::Sandbox) => {
                return Err(Refusal::State("a sandbox has no programs to run".into()));
            }
            (exec, _) => {
                let exec = container.execs.get(exec).context("no such command")?;
                let rights = translate::rights(&exec.spec);
                (
                    exec.spec.clone(),
                    Place::In(id.to_owned(), Box::new(rights)),
                )
            }
        };
        let task = container.task(exec).context("no such command")?;
        let command = container::command(&spec, place, task.streams.terminal);
        let (pod, id, exec) = (Arc::downgrade(self), id.to_owned(), exec.to_owned());
        let tell = move |happened| {
            let Some(pod) = pod.upgrade() else { return };
            match happened {
                Happened::OutOfMemory => pod.out_of_memory(&id),
                Happened::Ended(exit) => pod.ended(&id, &exec, exit),
            }
        };
        let process = Process::begin(vm.watcher(), command, &task.streams, tell)?;
        Ok(Some(process))
    }

    fn out_of_memory(&self, id: &str) {
        self.events.send(&event::TaskOOM {
            container_id: id.to_owned(),
            ..event::TaskOOM::default()
        });
    }

    /// A process has ended. One whose beginning failed is not known as started.
    fn ended(&self, id: &str, exec: &str, exit: Exit) {
        let mut state = self.state();
        let pid = state.pid();
        let Ok(task) = state.task(id, exec) else {
            return;
        };
        if !task.runs() {
            return;
        }
        task.process = None;
        task.exit.send_replace(Some(exit));
        self.events.send(&event::TaskExit {
            container_id: id.to_owned(),
            id: if exec.is_empty() { id } else { exec }.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..event::TaskExit::default()
        });
    }

    /// Has a thread wait for the end of the VM, with which a sandbox ends.
    fn watch(self: &Arc<Self>, state: &mut State) -> Result<()> {
        let mut client = state.vm()?.watcher();
        let pod = Arc::downgrade(self);
        let args = VmWaitArgs { seconds: 3600 };
        let watch = move || {
            let why = loop {
                match client.ask(|monitor| Ok(monitor.vm_wait(&args)?.into_result())) {
                    Ok(waited) if waited.inactive => {
                        break client::words::how_ended(&waited.last_end);
                    }
                    Ok(_) => {}
                    Err(failure) => break failure.to_string(),
                }
            };
            let Some(pod) = pod.upgrade() else { return };
            eprintln!("the VM of the pod has ended: {why}");
            let sandboxes: Vec<String> = {
                let state = pod.state();
                let all = state.containers.iter();
                let all = all.filter(|(_, container)| container.kind == Kind::Sandbox);
                all.map(|(id, _)| id.clone()).collect()
            };
            for id in sandboxes {
                pod.ended(&id, "", Exit::now(crate::exit::KILLED));
            }
        };
        let thread = std::thread::Builder::new().name("vm".into()).spawn(watch);
        thread.context("cannot begin a thread")?;
        Ok(())
    }

    /// Notes a command that is to be started.
    pub(crate) fn exec(&self, wanted: &ExecProcessRequest) -> Result<()> {
        let (id, exec) = (&wanted.id, &wanted.exec_id);
        let spec = serde_json::from_slice(&wanted.spec.value)
            .context("cannot read what is to be executed")?;
        let mut state = self.state();
        let container = state.container(id)?;
        if !container.task.runs() {
            return Err(Refusal::State(format!("{id}: it does not run")));
        }
        if exec.is_empty() || container.execs.contains_key(exec) {
            return Err(Refusal::Exists(format!("{id} {exec}")));
        }
        let names = [&wanted.stdin, &wanted.stdout, &wanted.stderr];
        let streams = Streams::of(wanted.terminal, names);
        let task = Task::new(streams);
        container.execs.insert(exec.clone(), Exec { task, spec });
        self.events.send(&event::TaskExecAdded {
            container_id: id.clone(),
            exec_id: exec.clone(),
            ..event::TaskExecAdded::default()
        });
        Ok(())
    }

    /// Sends a signal to a process, or to all of a container.
    pub(crate) fn kill(&self, id: &str, exec: &str, signal: i32, all: bool) -> Result<()> {
        let mut state = self.state();
        let is_sandbox = state.container(id)?.kind == Kind::Sandbox;
        let task = state.task(id, exec)?;
        if task.has_ended().is_some() {
            return Err(Refusal::NotFound(format!(
                "{id} {exec}: it has ended; process"
            )));
        }
        if is_sandbox || !task.is_started {
            // There is nothing that could have its own way with a signal.
            task.is_started = true;
            drop(state);
            let status = 128 + u32::try_from(signal).unwrap_or(9);
            self.ended(id, exec, Exit::now(status));
            return Ok(());
        }
        if all && exec.is_empty() {
            state.vm()?.act(id, Action::SignalAll(signal))?;
            return Ok(());
        }
        if let Some(process) = &task.process {
            process.tell(Order::Signal(signal));
        }
        Ok(())
    }

    /// Tells a process something.
    pub(crate) fn tell(&self, id: &str, exec: &str, order: Order) -> Result<()> {
        let mut state = self.state();
        if let Some(process) = &state.task(id, exec)?.process {
            process.tell(order);
        }
        Ok(())
    }

    /// Forgets a process that has ended, or was never started; returns its number and its end.
    pub(crate) fn delete(&self, id: &str, exec: &str) -> Result<(u32, Exit)> {
        let mut state = self.state();
        let pid = state.pid();
        let task = state.task(id, exec)?;
        if task.runs() {
            return Err(Refusal::State(format!("{id} {exec}: it runs")));
        }
        let exit = task.has_ended().unwrap_or_else(|| Exit::now(0));
        match exec {
            "" => drop(state.containers.remove(id)),
            exec => drop(state.container(id)?.execs.remove(exec)),
        }
        if exec.is_empty() {
            self.events.send(&event::TaskDelete {
                container_id: id.to_owned(),
                pid,
                exit_status: exit.status,
                exited_at: timestamp(exit.at),
                ..event::TaskDelete::default()
            });
        }
        Ok((pid, exit))
    }

    /// Stops the processes of a container where they are, or lets them go on.
    pub(crate) fn freeze(&self, id: &str, freezes: bool) -> Result<()> {
        let mut state = self.state();
        if !state.container(id)?.task.runs() {
            return Err(Refusal::State(format!("{id}: it does not run")));
        }
        let action = if freezes {
            Action::Freeze
        } else {
            Action::Thaw
        };
        state.vm()?.act(id, action)?;
        state.container(id)?.is_paused = freezes;
        let container_id = id.to_owned();
        match freezes {
            true => self.events.send(&event::TaskPaused {
                container_id,
                ..event::TaskPaused::default()
            }),
            false => self.events.send(&event::TaskResumed {
                container_id,
                ..event::TaskResumed::default()
            }),
        }
        Ok(())
    }

    /// Gives a container other limits.
    pub(crate) fn update(&self, id: &str, limits: Limits) -> Result<()> {
        let mut state = self.state();
        state.container(id)?;
        state.vm()?.act(id, Action::Limit(limits))?;
        Ok(())
    }

    /// What a container uses.
    pub(crate) fn usage(&self, id: &str) -> Result<Usage> {
        let mut state = self.state();
        if state.container(id)?.kind == Kind::Sandbox {
            return Ok(Usage::default());
        }
        let usage = state.vm()?.act(id, Action::Usage)?;
        usage.ok_or_else(|| Refusal::Failed(anyhow!("the guest's helper tells no figures")))
    }

    /// Looks at a container, or at a command in it.
    pub(crate) fn look<T>(
        &self,
        id: &str,
        exec: &str,
        look: impl FnOnce(&Container, &Task, u32) -> T,
    ) -> Result<T> {
        let mut state = self.state();
        let pid = state.pid();
        let container = state.container(id)?;
        let task = container.task(exec);
        let task = task.ok_or_else(|| no_process(id, exec))?;
        Ok(look(container, task, pid))
    }

    /// The number that processes are known by.
    pub(crate) fn pid(&self) -> u32 {
        self.state().pid()
    }

    /// Ends the server if it has no containers, and its VM.
    pub(crate) fn shut_down(&self, now: bool) {
        let mut state = self.state();
        if state.containers.is_empty() || now {
            state.vm = None;
            state.holder = None;
            self.over.notify_one();
        }
    }
}

/// The configuration file that the engine names for the runtime (`ConfigPath`, `--runtime-config-path`).
fn configuration(wanted: &CreateTaskRequest) -> Option<PathBuf> {
    let options = wanted.options.as_ref()?;
    if !options.type_url.ends_with(OPTIONS) {
        return None;
    }
    // Its fields have the numbers and kinds of those of this message: a name, and the path.
    let fields = Any::parse_from_bytes(&options.value).ok()?;
    let path = String::from_utf8(fields.value).ok()?;
    (!path.is_empty()).then(|| path.into())
}

/// The image with the root directory of a container.
fn image_of(bundle: &Bundle, wanted: &CreateTaskRequest, images: &Path) -> anyhow::Result<PathBuf> {
    match rootfs::mount_all(&wanted.rootfs, &bundle.rootfs())? {
        Root::Tree(tree) => image::of(tree.path(), images),
        Root::Image(image) => Ok(image),
    }
}
