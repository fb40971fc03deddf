//! One policy's run: second by second, what clients do, what nodes do, who moves.
//!
//! What is at a node is constant between two things that happen there, so a node is accounted
//! for when something happens, and looked at every second only while it has much to do.

use std::collections::BTreeMap;
use std::rc::Rc;

use funicular::session::Millis;

use crate::ledger::Ledger;
use crate::moving::Moving;
use crate::node::{Distance, NodeState};
use crate::oracles::Oracles;
use crate::queue::{POINTS, Queue};
use crate::random::Chances;
use crate::scenario::{Policy, Scenario};
use crate::tally::Tally;
use crate::tree::Index;
use crate::workload::{ONE, Second, Session};

/// A session that does not exist.
pub(crate) const NOWHERE: Index = Index::MAX;
/// A node with little to do is looked at this often.
pub(crate) const NAP: Second = 10;

/// A session as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// The node that has it.
    pub(crate) at: Index,
    /// The edge where its client is.
    pub(crate) edge: Index,
    /// Its place among the sessions of its node.
    place: u32,
    /// When it came to where it is by a move.
    pub(crate) arrived: Option<Second>,
    /// Its client sends requests.
    pub(crate) active: bool,
    /// A move is under way.
    pub(crate) moving: bool,
}

/// Everything of a run.
pub(crate) struct Run<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) sessions: Vec<State>,
    pub(crate) now: Second,
    pub(crate) tally: Tally,
    pub(crate) ledger: Ledger,
    pub(crate) queues: Vec<Rc<Queue>>,
    root_only: bool,
    /// Moves by when they end, in milliseconds.
    pub(crate) moving: BTreeMap<(Millis, u64), Moving>,
    pub(crate) moves: u64,
    /// How far each stage of the workload has come.
    started: usize,
    ended: usize,
    roamed: usize,
    expired: usize,
    /// How many sessions moved up and down, by second.
    pub(crate) schedule: Vec<(Second, u32, u32)>,
    /// What is not as it has to be.
    pub(crate) faults: Vec<String>,
}

/// What a run leaves.
pub(crate) struct Done {
    pub(crate) tally: Tally,
    pub(crate) schedule: Vec<(Second, u32, u32)>,
    /// Sessions that exist at the end, and what is wrong with them.
    pub(crate) sessions: usize,
    pub(crate) faults: Vec<String>,
}

/// Plays a workload with one policy. `schedule`: how many moves `random` makes, and when.
pub(crate) fn run(
    scenario: &Scenario,
    policy: Policy,
    schedule: &[(Second, u32, u32)],
    told: &dyn Fn(Second),
) -> Done {
    let mut run = Run::new(scenario, policy == Policy::Root);
    let mut oracles = (policy == Policy::Oracle).then(|| Oracles::new(scenario));
    let mut chances =
        (policy == Policy::Random).then(|| Chances::new(scenario.seed, schedule.to_vec()));
    let last = scenario.workload.seconds;
    for now in 0..last {
        run.now = now;
        if now % 60 == 0 {
            run.minute();
            told(now);
        }
        run.clients();
        run.arrivals(oracles.as_mut());
        if let Some(chances) = &mut chances {
            chances.turn(&mut run);
        }
        for index in 0..run.nodes.len() as Index {
            if run.nodes[index as usize].next_look <= now {
                match &mut oracles {
                    Some(oracles) => oracles.look(&mut run, index),
                    None => run.glance(index),
                }
            }
        }
    }
    run.now = last;
    for index in 0..run.nodes.len() as Index {
        run.settle(index);
    }
    told(last);
    run.done()
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, root_only: bool) -> Self {
        let service = scenario.settings.service_ms / 1000.0;
        let mut kinds: BTreeMap<u64, Rc<Queue>> = BTreeMap::new();
        let queues = (0..scenario.tree.len() as Index).map(|index| {
            let servers = scenario.tree.at(index).servers;
            let queue = kinds.entry(servers.to_bits());
            Rc::clone(queue.or_insert_with(|| Rc::new(Queue::new(servers, service))))
        });
        let queues = queues.collect();
        let nobody = State {
            at: NOWHERE,
            edge: NOWHERE,
            place: 0,
            arrived: None,
            active: false,
            moving: false,
        };
        Self {
            scenario,
            nodes: (0..scenario.tree.len()).map(|_| NodeState::default()).collect(),
            sessions: vec![nobody; scenario.workload.sessions.len()],
            now: 0,
            tally: Tally::new(scenario.workload.seconds),
            ledger: Ledger::default(),
            queues,
            root_only,
            moving: BTreeMap::new(),
            moves: 0,
            started: 0,
            ended: 0,
            roamed: 0,
            expired: 0,
            schedule: Vec::new(),
            faults: Vec::new(),
        }
    }

    pub(crate) fn queue(&self, index: Index) -> &Queue {
        &self.queues[index as usize]
    }

    pub(crate) fn millis(&self) -> Millis {
        Millis::from(self.now) * 1000
    }

    /// Where a session was created.
    pub(crate) fn home(&self, session: Session) -> Index {
        match self.root_only {
            true => 0,
            false => self.scenario.workload.sessions[session as usize].edge,
        }
    }

    /// A session's function and bytes.
    pub(crate) fn of(&self, session: Session) -> (u32, u32) {
        let plan = &self.scenario.workload.sessions[session as usize];
        (self.scenario.workload.streams[plan.stream as usize].function, plan.bytes)
    }

    /// A session's requests a second.
    pub(crate) fn rate(&self, session: Session) -> f64 {
        if !self.sessions[session as usize].active {
            return 0.0;
        }
        let plan = &self.scenario.workload.sessions[session as usize];
        let level = self.scenario.workload.streams[plan.stream as usize].level(self.now / 60);
        plan.rate as f64 / ONE * level
    }

    /// How many sessions have begun.
    pub(crate) fn started(&self) -> usize {
        self.started
    }

    fn minute(&mut self) {
        if self.scenario.workload.has_levels() {
            for index in 0..self.nodes.len() as Index {
                self.settle(index);
                self.nodes[index as usize].levels_change();
            }
        }
    }

    /// Sessions that begin, roam, end and expire.
    fn clients(&mut self) {
        let workload = &self.scenario.workload;
        while let Some(plan) = workload.sessions.get(self.started).filter(|p| p.start <= self.now) {
            let session = self.started as Session;
            self.started += 1;
            let at = self.home(session);
            let state = &mut self.sessions[session as usize];
            (state.edge, state.active) = (plan.edge, true);
            self.settle(at);
            self.place(session, at);
            self.client(session, true);
        }
        while let Some(roam) = workload.roams.get(self.roamed).filter(|r| r.at <= self.now) {
            self.roamed += 1;
            self.roam(roam.session, roam.edge);
        }
        while let Some(session) = workload.ends.get(self.ended).copied() {
            if workload.sessions[session as usize].end > self.now {
                break;
            }
            self.ended += 1;
            self.settle(self.sessions[session as usize].at);
            self.client(session, false);
            self.sessions[session as usize].active = false;
        }
        while let Some(session) = workload.ends.get(self.expired).copied() {
            let ended = workload.sessions[session as usize].end;
            // One that moves is waited for.
            let moves = self.sessions[session as usize].moving;
            if ended + self.scenario.settings.session_ttl > self.now || moves {
                break;
            }
            self.expired += 1;
            self.expire(session);
        }
    }

    fn roam(&mut self, session: Session, edge: Index) {
        let state = self.sessions[session as usize];
        if !state.active || state.edge == edge {
            return;
        }
        self.settle(state.at);
        self.client(session, false);
        self.sessions[session as usize].edge = edge;
        self.client(session, true);
        // The new edge sends it to where its session is.
        if state.at != edge && !self.root_only {
            self.redirected(session, edge, 1);
        }
    }

    fn expire(&mut self, session: Session) {
        let (home, at) = (self.home(session), self.sessions[session as usize].at);
        let now = self.millis();
        self.ledger.expire(&self.scenario.tree, session, home, now);
        self.settle(at);
        self.unplace(session);
        self.stray(session, at, home);
        self.sessions[session as usize].at = NOWHERE;
    }

    /// A session's client sends to its node from now on, or no more.
    pub(crate) fn client(&mut self, session: Session, comes: bool) {
        let State { at, edge, .. } = self.sessions[session as usize];
        let distance = self.distance(edge, at);
        let plan = &self.scenario.workload.sessions[session as usize];
        self.nodes[at as usize].client(plan, distance, comes);
    }

    fn distance(&self, edge: Index, at: Index) -> Distance {
        let tree = &self.scenario.tree;
        let (rtt, hops) = tree.way(edge, at);
        Distance { meet: tree.at(tree.meet(edge, at)).depth, rtt, hops }
    }

    pub(crate) fn place(&mut self, session: Session, at: Index) {
        let (function, bytes) = self.of(session);
        let place = self.nodes[at as usize].take(session, function, bytes);
        let state = &mut self.sessions[session as usize];
        (state.at, state.place) = (at, place);
    }

    pub(crate) fn unplace(&mut self, session: Session) {
        let (function, bytes) = self.of(session);
        let State { at, place, .. } = self.sessions[session as usize];
        if let Some(other) = self.nodes[at as usize].give(place, function, bytes) {
            self.sessions[other as usize].place = place;
        }
    }

    /// Keeps account of who is away, as a session goes from one node to another.
    pub(crate) fn stray(&mut self, session: Session, from: Index, to: Index) {
        if from == to {
            return;
        }
        let home = self.home(session);
        let strays = &mut self.nodes[home as usize].strays;
        if from == home {
            strays.push(session);
        } else if to == home
            && let Some(at) = strays.iter().position(|it| *it == session)
        {
            strays.swap_remove(at);
        }
        let tree = &self.scenario.tree;
        let path: Vec<Index> = std::iter::once(home).chain(tree.ancestors(home)).collect();
        for node in path {
            let depth = tree.at(node).depth;
            let away = &mut self.nodes[node as usize].away;
            if tree.at(from).depth < depth {
                *away -= 1;
            }
            if tree.at(to).depth < depth {
                *away += 1;
            }
        }
    }

    /// Accounts for everything at a node until now.
    pub(crate) fn settle(&mut self, index: Index) {
        let node = &mut self.nodes[index as usize];
        let seconds = f64::from(self.now - node.accounted);
        if seconds <= 0.0 {
            return;
        }
        // Levels are those of the time that has passed.
        let minute = (self.now - 1) / 60;
        node.accounted = self.now;
        let rate = node.flow(&self.scenario.workload.streams, minute).rate;
        let settings = &self.scenario.settings;
        let queue = &self.queues[index as usize];
        let served = node.work(queue, rate, seconds, settings.patience);
        if rate <= 0.0 {
            return;
        }
        let slot = self.tally.at(self.now);
        let place = self.scenario.tree.at(index);
        slot.refused += served.refused;
        let share = served.requests / rate;
        let access = settings.access_ms / 1000.0;
        let sojourn = queue.sojourn(served.load);
        for (meet, class) in &node.flow(&self.scenario.workload.streams, minute).classes {
            let requests = class.rate * share;
            slot.served += requests;
            if place.entry {
                slot.at_edge += requests;
                if *meet == place.depth {
                    slot.at_own_edge += requests;
                }
            }
            slot.request_byte_hops += class.hops * share * settings.request_bytes;
            for ((weight, _), took) in POINTS.iter().zip(sojourn) {
                let seconds = access + class.rtt + served.behind + took;
                slot.latency.add(seconds, requests * weight);
            }
        }
    }

    /// A look at a node that has no oracle.
    fn glance(&mut self, index: Index) {
        self.settle(index);
        let node = &mut self.nodes[index as usize];
        node.busy = 0.0;
        node.next_look = self.now + if node.backlog > 0.0 { 1 } else { NAP };
    }

    fn done(self) -> Done {
        let tree = &self.scenario.tree;
        let mut faults = self.faults;
        let there: usize = self.nodes.iter().map(|node| node.sessions.len()).sum();
        let exist = self.sessions.iter().filter(|state| state.at != NOWHERE).count();
        if there != exist {
            faults.push(format!("{exist} sessions exist, nodes have {there}"));
        }
        for session in self.ledger.sessions() {
            let state = &self.sessions[session as usize];
            if self.ledger.owner(session) != Some(state.at) {
                faults.push(format!("session {session} is not where its records say"));
            }
            if !state.moving {
                faults.extend(crate::ledger::faults(tree, self.ledger.records(session)));
            }
        }
        Done { tally: self.tally, schedule: self.schedule, sessions: exist, faults }
    }
}
