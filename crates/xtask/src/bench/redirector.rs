//! What the redirector costs its clients, compared with haproxy and socat (cargo xtask bench).

use super::installation::directory;
use super::redirectors::Redirector;
use super::report::Figure;
use super::stats::{self, Pairs};
use super::subject::Subject;
use super::traffic;

pub(super) const SUBJECT: Subject = Subject {
    name: "redirector",
    metrics: &[
        "redirector-throughput",
        "redirector-rtt",
        "redirector-connections",
        "redirector-memory",
        "redirector-throughput-socat",
        "redirector-rtt-socat",
        "redirector-connections-socat",
    ],
    packages: &["haproxy", "socat"],
    measure,
};

const ROUNDS: usize = 9;
/// Connections of a round, one after the other.
const CONNECTIONS: u32 = 500;
/// Those that are idle at the same time.
const IDLE: usize = 1000;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let directory = directory()?;
    let socket = directory.path().join("socket");
    traffic::serve(&socket, 0)?;
    let ours = Redirector::umldir(directory.path())?;
    let haproxy = Redirector::haproxy(directory.path(), &socket)?;
    let added = |through: &Redirector| {
        let direct = traffic::direct(&socket)?;
        Ok(through.route.round_trip()? - direct)
    };
    let compare = |peer: &Redirector| -> anyhow::Result<[Pairs; 3]> {
        Ok([
            stats::alternate(ROUNDS, || ours.route.much(), || peer.route.much())?,
            stats::alternate(ROUNDS, || added(&ours), || added(peer))?,
            stats::alternate(
                ROUNDS,
                || ours.route.connections(CONNECTIONS),
                || peer.route.connections(CONNECTIONS),
            )?,
        ])
    };
    let [much, added_time, connections] = compare(&haproxy)?;
    let mut figures = vec![
        Figure::of_pairs("redirector-throughput", "ms", &much)?,
        Figure::of_pairs("redirector-rtt", "us", &added_time)?,
        Figure::of_pairs("redirector-connections", "us", &connections)?,
    ];
    // Both have had the same to do.
    let idle = (ours.route.idle(IDLE)?, haproxy.route.idle(IDLE)?);
    let (we, they) = (ours.memory()?, haproxy.memory()?);
    drop(idle);
    figures.push(Figure::of_two("redirector-memory", "KB", we, they));
    drop(haproxy);
    let socat = Redirector::socat(&socket)?;
    let [much, added_time, connections] = compare(&socat)?;
    figures.extend([
        Figure::of_pairs("redirector-throughput-socat", "ms", &much)?,
        Figure::of_pairs("redirector-rtt-socat", "us", &added_time)?,
        Figure::of_pairs("redirector-connections-socat", "us", &connections)?,
    ]);
    Ok(figures)
}
