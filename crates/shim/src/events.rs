//! What containerd is told without having asked (the server of a pod).

use std::time::SystemTime;

use containerd_shim_protos::protobuf::MessageDyn;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::context;
use containerd_shim_protos::{protobuf, topics};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::exit::timestamp;

/// The environment variable in which containerd says where it takes events.
const ADDRESS: &str = "TTRPC_ADDRESS";
/// How long containerd may take for an event, in nanoseconds.
const PATIENCE: i64 = 5_000_000_000;
/// How often an event is sent to a containerd that is being restarted, and how long after each other.
const ATTEMPTS: u32 = 30;
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The way to containerd. Events arrive in the order in which they are sent.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: UnboundedSender<Envelope>,
    namespace: String,
}

impl Events {
    /// Begins the task that passes them on; it ends when all that can send are gone.
    pub(crate) fn begin(namespace: &str) -> Events {
        let (queue, waiting) = unbounded_channel();
        tokio::task::spawn_local(forward(waiting));
        Events {
            queue,
            namespace: namespace.to_owned(),
        }
    }

    /// The namespace of containerd.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Sends an event.
    pub(crate) fn send(&self, event: &dyn MessageDyn) {
        let descriptor = event.descriptor_dyn();
        let Ok(value) = event.write_to_bytes_dyn() else {
            return;
        };
        let envelope = Envelope {
            timestamp: timestamp(SystemTime::now()),
            namespace: self.namespace.clone(),
            topic: topic(descriptor.name()).to_owned(),
            event: protobuf::MessageField::some(Any {
                type_url: descriptor.full_name().to_owned(),
                value,
                ..Any::default()
            }),
            ..Envelope::default()
        };
        // At the end of the server nobody is left to be told.
        let _ = self.queue.send(envelope);
    }
}

fn topic(name: &str) -> &'static str {
    match name {
        "TaskCreate" => topics::TASK_CREATE_EVENT_TOPIC,
        "TaskStart" => topics::TASK_START_EVENT_TOPIC,
        "TaskOOM" => topics::TASK_OOM_EVENT_TOPIC,
        "TaskExit" => topics::TASK_EXIT_EVENT_TOPIC,
        "TaskDelete" => topics::TASK_DELETE_EVENT_TOPIC,
        "TaskExecAdded" => topics::TASK_EXEC_ADDED_EVENT_TOPIC,
        "TaskExecStarted" => topics::TASK_EXEC_STARTED_EVENT_TOPIC,
        "TaskPaused" => topics::TASK_PAUSED_EVENT_TOPIC,
        "TaskResumed" => topics::TASK_RESUMED_EVENT_TOPIC,
        _ => topics::TASK_UNKNOWN_TOPIC,
    }
}

async fn forward(mut waiting: UnboundedReceiver<Envelope>) {
    let Some(address) = std::env::var(ADDRESS)
        .ok()
        .filter(|address| !address.is_empty())
    else {
        return;
    };
    let address = format!("unix://{address}");
    let mut connected = None;
    while let Some(envelope) = waiting.recv().await {
        for _ in 0..ATTEMPTS {
            match send(&address, &mut connected, &envelope).await {
                Ok(()) => break,
                Err(_) => connected = None,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn send(
    address: &str,
    connected: &mut Option<EventsClient>,
    envelope: &Envelope,
) -> containerd_shim_protos::ttrpc::Result<()> {
    let client = match connected {
        Some(client) => client,
        None => connected.insert(EventsClient::new(Client::connect(address).await?)),
    };
    let request = ForwardRequest {
        envelope: protobuf::MessageField::some(envelope.clone()),
        ..ForwardRequest::default()
    };
    let context = context::with_timeout(PATIENCE);
    client.forward(context, &request).await.map(drop)
}
