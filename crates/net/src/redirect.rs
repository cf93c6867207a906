//! All packets that arrive at an interface leave by another one, past the network stack of their namespace:
//! tc-mirred(8), as a filter of a tc-u32(8) that fits all packets. Used by the monitor, as root.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirrorOption, TcActionOption,
    TcActionType, TcAttribute, TcFilterU32Option, TcHandle, TcMessage, TcMirror,
    TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};

use crate::host::Host;

/// The queueing discipline for what arrives, and the other one that an interface can have in its place.
const INGRESS: &str = "ingress";
const CLSACT: &str = "clsact";
/// The handle of either.
const HANDLE: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};
/// The first of the filters (its priority), and packets of all protocols (ETH_P_ALL).
const FIRST: u32 = 1;
const ALL: u16 = 3;
/// What tells our filters from those of others.
const COOKIE: &[u8] = b"umlmon";

/// What happens with what arrives at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// It is received, as usual.
    Received,
    /// It leaves by another interface, because of a filter of ours.
    Redirected {
        /// The index of that interface; None if that is gone, or if who made the discipline came no further.
        to: Option<u32>,
    },
    /// Others have a queueing discipline for it.
    OfOthers,
}

impl Host {
    /// What happens with what arrives at the interface of this index.
    pub(crate) fn arrivals(&mut self, index: u32) -> io::Result<Arrivals> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(about(index));
        let said = self.ask(request, NLM_F_DUMP)?;
        let has = |kind: &str| {
            let kind = TcAttribute::Kind(kind.to_owned());
            said.iter().any(|message| match message {
                RouteNetlinkMessage::NewQueueDiscipline(it) => {
                    it.header.index == signed(index) && it.attributes.contains(&kind)
                }
                _ => false,
            })
        };
        if has(CLSACT) {
            return Ok(Arrivals::OfOthers);
        }
        if !has(INGRESS) {
            return Ok(Arrivals::Received);
        }
        let mut filters = about(index);
        filters.header.parent = HANDLE;
        let said = self.ask(RouteNetlinkMessage::GetTrafficFilter(filters), NLM_F_DUMP)?;
        let filters = said.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
            _ => None,
        });
        Ok(match filters.clone().find_map(target) {
            Some(to) => Arrivals::Redirected {
                to: Some(to).filter(|to| *to != 0),
            },
            None if filters.count() == 0 => Arrivals::Redirected { to: None },
            None => Arrivals::OfOthers,
        })
    }

    /// Lets all that arrives at one interface leave by another one.
    pub(crate) fn redirect(&mut self, from: u32, to: u32) -> io::Result<()> {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let request = RouteNetlinkMessage::NewQueueDiscipline(discipline(from));
        self.ask(request, flags)?;
        let filter = RouteNetlinkMessage::NewTrafficFilter(filter(from, to));
        let filtered = self.ask(filter, flags);
        if filtered.is_err() {
            let request = RouteNetlinkMessage::DelQueueDiscipline(discipline(from));
            let _ = self.ask(request, 0);
        }
        filtered.map(drop)
    }

    /// Lets the namespace receive again what arrives at an interface, if it is redirected by us.
    pub(crate) fn receive(&mut self, index: u32) -> io::Result<()> {
        match self.arrivals(index)? {
            Arrivals::Redirected { .. } => {
                let request = RouteNetlinkMessage::DelQueueDiscipline(discipline(index));
                self.ask(request, 0).map(drop)
            }
            Arrivals::Received | Arrivals::OfOthers => Ok(()),
        }
    }
}

fn signed(index: u32) -> i32 {
    index.cast_signed()
}

fn about(index: u32) -> TcMessage {
    TcMessage::with_index(signed(index))
}

fn discipline(index: u32) -> TcMessage {
    let mut message = about(index);
    message.header.handle = HANDLE;
    message.header.parent = TcHandle::INGRESS;
    message.attributes = vec![TcAttribute::Kind(INGRESS.to_owned())];
    message
}

fn filter(from: u32, to: u32) -> TcMessage {
    let mut mirror = TcMirror::default();
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    mirror.generic = generic;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let parameters = TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror));
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind("mirred".to_owned()),
        TcActionAttribute::Cookie(COOKIE.to_vec()),
        TcActionAttribute::Options(vec![parameters]),
    ];
    // One comparison, of no bit.
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    let mut message = about(from);
    message.header.parent = HANDLE;
    message.header.info = FIRST << 16 | u32::from(ALL.to_be());
    message.attributes = vec![
        TcAttribute::Kind("u32".to_owned()),
        TcAttribute::Options(vec![
            TcOption::U32(TcFilterU32Option::Selector(selector)),
            TcOption::U32(TcFilterU32Option::Action(vec![action])),
        ]),
    ];
    message
}

/// Where a filter of ours redirects packets to; 0 if that interface is gone. None if it is not ours.
fn target(filter: &TcMessage) -> Option<u32> {
    let options = filter.attributes.iter().filter_map(|it| match it {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let mut actions = options.flatten().filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => actions.first(),
        _ => None,
    });
    let ours = TcActionAttribute::Cookie(COOKIE.to_vec());
    let action = actions.find(|action| action.attributes.contains(&ours))?;
    action.attributes.iter().find_map(|it| match it {
        TcActionAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror)) => Some(mirror.ifindex),
            _ => None,
        }),
        _ => None,
    })
}
