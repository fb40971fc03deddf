//! Workloads that are made up from a seed.
//!
//! How much a client sends is chosen so that the edges' load is what was asked for, whatever
//! the size of the tree and the number of sessions.

use std::f64::consts::TAU;

use funicular::session::FunctionName;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{ONE, Plan, Roam, Second, Session, Stream, Workload};
use crate::settings::Settings;
use crate::tree::{Index, Tree};

const DAY: f64 = 86_400.0;
/// A client stays for so long in the mean, in seconds.
const STAY: f64 = 1_800.0;
/// One in a crowd.
const STAY_IN_CROWD: f64 = 900.0;
/// It comes at once, and goes by and by.
const CROWD_COMES: f64 = 600.0;
const CROWD_GOES: f64 = 1_500.0;
/// Of all of a crowd, so many are there when the most are.
const CROWD_AT_ONCE: f64 = 0.27;
/// One edge of so many meets a crowd.
const CROWDED: usize = 50;
/// A client that roams goes elsewhere after so long, in the mean.
const STAY_AT_EDGE: f64 = 1_200.0;
/// Regions have their evening within so many seconds of each other.
const TIME_ZONES: f64 = 28_800.0;
/// Between a region's night and its evening: so much more, and so much less than the mean.
const SWING: f64 = 0.8;
/// Half of the sessions have fewer bytes.
const BYTES: f64 = 20_000.0;

/// What is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A day: evenings that go round the regions, edges of which some are liked more.
    Diurnal,
    /// Steady load, and a crowd at a few edges.
    Flash,
    /// Clients that go from edge to edge.
    Roaming,
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amount {
    /// How many sessions, all in all.
    pub sessions: u32,
    /// How long, in seconds.
    pub seconds: Second,
    /// How busy the mean edge is when its region is busiest: 1 is as much as it can do.
    pub load: f64,
    /// How busy a crowd makes its edge.
    pub crowd: f64,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diurnal => "diurnal",
            Self::Flash => "flash",
            Self::Roaming => "roaming",
        }
    }

    /// How long it is unless said, in seconds.
    pub fn usual_seconds(self) -> Second {
        match self {
            Self::Diurnal => 86_400,
            Self::Flash => 10_800,
            Self::Roaming => 21_600,
        }
    }

    /// How busy the mean edge is unless said.
    pub fn usual_load(self) -> f64 {
        match self {
            Self::Diurnal => 0.5,
            Self::Flash => 0.35,
            Self::Roaming => 0.45,
        }
    }
}

/// Makes one up.
pub fn generate(
    kind: Kind,
    amount: Amount,
    tree: &Tree,
    settings: &Settings,
    seed: u64,
) -> Workload {
    let function = FunctionName::new("shop").into_iter().collect();
    let streams = vec![Stream { function: 0, levels: None }];
    let mut making = Making::new(kind, amount, tree, settings, seed);
    making.fill();
    let name = format!("{} of seed {seed}", kind.name());
    Workload::new(name, amount.seconds, function, streams, &making.plans, making.roams)
}

struct Making<'a> {
    kind: Kind,
    amount: Amount,
    /// How many of the sessions are a crowd's.
    crowd: u32,
    tree: &'a Tree,
    chance: StdRng,
    /// Edges by how much they are liked: sums up to and with each one.
    liked: Vec<f64>,
    /// Requests a second of a client, in the mean.
    rate: f64,
    plans: Vec<Plan>,
    roams: Vec<Roam>,
}

impl<'a> Making<'a> {
    fn new(kind: Kind, amount: Amount, tree: &'a Tree, settings: &Settings, seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let spread = if kind == Kind::Flash { 0.2 } else { 0.5 };
        let mut sum = 0.0;
        let liked = tree.entries().iter().map(|_| {
            sum += (spread * normal(&mut chance)).exp();
            sum
        });
        let liked = liked.collect();
        let crowd = if kind == Kind::Flash { crowd_size(amount, tree) } else { 0 };
        let rate = rate(kind, amount, amount.sessions - crowd, tree, settings);
        let (plans, roams) = (Vec::new(), Vec::new());
        Self { kind, amount, crowd, tree, chance, liked, rate, plans, roams }
    }

    fn fill(&mut self) {
        while self.plans.len() < (self.amount.sessions - self.crowd) as usize {
            self.one();
        }
        if self.crowd > 0 {
            self.crowd();
        }
    }

    /// A client somewhere, some time.
    fn one(&mut self) {
        let edge = self.some_edge();
        let begins = self.chance.random::<f64>() * (f64::from(self.amount.seconds) + STAY) - STAY;
        if self.kind == Kind::Diurnal {
            let region = self.tree.region(edge);
            let shift = f64::from(region) / self.tree.len() as f64 * TIME_ZONES;
            let level = 1.0 - SWING * ((begins - shift) / DAY * TAU).cos();
            if self.chance.random::<f64>() * (1.0 + SWING) > level {
                return;
            }
        }
        let stays = self.while_of(STAY);
        self.add(edge, begins, stays);
    }

    fn crowd(&mut self) {
        let entries = self.tree.entries();
        let count = crowded_edges(self.tree);
        let mut edges = std::collections::BTreeSet::new();
        while edges.len() < count {
            edges.insert(entries[self.chance.random_range(0..entries.len())]);
        }
        let edges: Vec<Index> = edges.into_iter().collect();
        let start = f64::from(self.amount.seconds) / 4.0;
        let wanted = self.plans.len() + self.crowd as usize;
        while self.plans.len() < wanted {
            let edge = edges[self.chance.random_range(0..edges.len())];
            let early = CROWD_COMES / 2.0 / (CROWD_COMES / 2.0 + CROWD_GOES);
            let after = match self.chance.random::<f64>() < early {
                true => CROWD_COMES * self.chance.random::<f64>().sqrt(),
                false => CROWD_COMES + self.while_of(CROWD_GOES),
            };
            let stays = self.while_of(STAY_IN_CROWD);
            self.add(edge, start + after, stays);
        }
    }

    fn add(&mut self, edge: Index, begins: f64, stays: f64) {
        let last = self.amount.seconds;
        let ends = (begins + stays).min(f64::from(last) + DAY);
        if ends < 1.0 || begins >= f64::from(last) {
            return;
        }
        // Some clients send much more than others.
        let keen = (0.8 * normal(&mut self.chance) - 0.32).exp().min(8.0);
        let bytes = BYTES * (1.2 * normal(&mut self.chance)).exp();
        let start = begins.max(0.0) as Second;
        let session = self.plans.len() as Session;
        self.plans.push(Plan {
            start,
            end: (ends as Second).max(start + 1),
            edge,
            stream: 0,
            rate: (self.rate * keen * ONE) as u64,
            bytes: bytes.clamp(200.0, 8e6) as u32,
        });
        if self.kind == Kind::Roaming {
            self.roams_of(session, edge, (begins.max(0.0), ends.min(f64::from(last))));
        }
    }

    /// Mostly to another edge of the same city, else anywhere in the region.
    fn roams_of(&mut self, session: Session, edge: Index, (from, until): (f64, f64)) {
        let (mut at, mut edge) = (from, edge);
        loop {
            at += self.while_of(STAY_AT_EDGE).max(1.0);
            if at >= until {
                return;
            }
            let near = self.chance.random::<f64>() < 0.8;
            let around = match near {
                true => self.tree.at(edge).parent.unwrap_or(0),
                false => self.tree.region(edge),
            };
            let end = self.tree.at(around).end;
            let entries = self.tree.entries();
            let first = entries.partition_point(|entry| *entry < around);
            let last = entries.partition_point(|entry| *entry < end);
            edge = entries[self.liked_between(first, last)];
            self.roams.push(Roam { at: at as Second, session, edge });
        }
    }

    fn some_edge(&mut self) -> Index {
        let all = self.liked.len();
        self.tree.entries()[self.liked_between(0, all)]
    }

    fn liked_between(&mut self, first: usize, last: usize) -> usize {
        let before = first.checked_sub(1).map_or(0.0, |before| self.liked[before]);
        let up_to = self.liked[last - 1];
        let at = before + self.chance.random::<f64>() * (up_to - before);
        self.liked.partition_point(|sum| *sum <= at).clamp(first, last - 1)
    }

    /// A time of this mean that knows nothing of how much of it has passed.
    fn while_of(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.chance.random::<f64>()).ln()
    }
}

/// Requests a second of a client that make the mean edge as busy as asked for, by so many
/// sessions.
fn rate(kind: Kind, amount: Amount, sessions: u32, tree: &Tree, settings: &Settings) -> f64 {
    let edges = tree.entries().len() as f64;
    let whole = settings.edge_servers / (settings.service_ms / 1000.0);
    // Clients that are there at once, when the most are.
    let times = STAY / (f64::from(amount.seconds) + STAY);
    let most = if kind == Kind::Diurnal { 1.0 + SWING } else { 1.0 };
    amount.load * whole * edges / (f64::from(sessions) * times * most).max(1.0)
}

fn crowded_edges(tree: &Tree) -> usize {
    (tree.entries().len() / CROWDED).max(1)
}

/// How many of all sessions are in a crowd, so that its edges become as busy as asked for.
fn crowd_size(amount: Amount, tree: &Tree) -> u32 {
    let steady = STAY / (f64::from(amount.seconds) + STAY);
    // So many times the sessions that such an edge has otherwise.
    let times = amount.crowd / amount.load * steady / CROWD_AT_ONCE;
    let crowded = times * crowded_edges(tree) as f64;
    let share = crowded / (tree.entries().len() as f64 + crowded);
    ((f64::from(amount.sessions) * share) as u32).min(amount.sessions / 2)
}

/// Of mean 0 and deviation 1 (Box and Muller).
fn normal(chance: &mut StdRng) -> f64 {
    let (a, b) = (1.0 - chance.random::<f64>(), chance.random::<f64>());
    (-2.0 * a.ln()).sqrt() * (TAU * b).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: Kind, seed: u64) -> (Tree, Workload) {
        let tree = Tree::generated(200, 4, &Settings::default()).unwrap();
        let (seconds, load) = (kind.usual_seconds(), kind.usual_load());
        let amount = Amount { sessions: 20_000, seconds, load, crowd: 3.0 };
        let workload = generate(kind, amount, &tree, &Settings::default(), seed);
        (tree, workload)
    }

    /// Seconds of work a second at an edge, on the whole tree.
    fn busy(tree: &Tree, workload: &Workload, at: Second, edge: Option<Index>) -> f64 {
        let there = workload.sessions.iter().filter(|plan| plan.start <= at && at < plan.end);
        let there = there.filter(|plan| edge.is_none_or(|edge| plan.edge == edge));
        let rate: f64 = there.map(|plan| plan.rate as f64 / ONE).sum();
        let edges = if edge.is_some() { 1.0 } else { tree.entries().len() as f64 };
        rate * 0.02 / 4.0 / edges
    }

    #[test]
    fn the_load_is_what_was_asked_for() {
        for (kind, at) in [(Kind::Flash, 2_000), (Kind::Roaming, 10_000)] {
            let (tree, workload) = made(kind, 1);
            assert_eq!(workload.sessions.len(), 20_000);
            let busy = busy(&tree, &workload, at, None);
            assert!((busy / kind.usual_load() - 1.0).abs() < 0.1, "{kind:?}: {busy}");
        }
        let (tree, workload) = made(Kind::Diurnal, 1);
        let hours: Vec<f64> = (1..24).map(|h| busy(&tree, &workload, h * 3600, None)).collect();
        let most = hours.iter().copied().fold(0.0, f64::max);
        let least = hours.iter().copied().fold(1.0, f64::min);
        // Regions are not busiest at the same time.
        assert!((0.35..0.55).contains(&most) && least < 0.3, "{hours:?}");
    }

    #[test]
    fn a_crowd_makes_its_edges_as_busy_as_asked_for() {
        let (tree, workload) = made(Kind::Flash, 1);
        let at = 2_700 + 1_400;
        let busiest = tree.entries().iter().map(|edge| busy(&tree, &workload, at, Some(*edge)));
        let mut busiest: Vec<f64> = busiest.collect();
        busiest.sort_by(f64::total_cmp);
        let most = busiest[busiest.len() - crowded_edges(&tree)];
        assert!((2.4..4.2).contains(&most), "{most}");
    }

    #[test]
    fn the_same_seed_makes_the_same() {
        for kind in [Kind::Diurnal, Kind::Flash, Kind::Roaming] {
            assert_eq!(made(kind, 7).1, made(kind, 7).1);
            assert_ne!(made(kind, 7).1, made(kind, 8).1);
        }
    }

    #[test]
    fn clients_roam_among_edges_while_they_are_there() {
        let (tree, workload) = made(Kind::Roaming, 3);
        assert!(workload.roams.len() > 10_000);
        for roam in &workload.roams {
            let plan = &workload.sessions[roam.session as usize];
            assert!(tree.at(roam.edge).entry && plan.start <= roam.at && roam.at <= plan.end);
            assert_eq!(tree.region(roam.edge), tree.region(plan.edge));
        }
    }
}
