//! The oracles of all nodes at work: what they see, and that what they decide is done.

use std::collections::BTreeMap;

use funicular::peers::messages::OffloadStatus;
use funicular::session::{FunctionName, Millis, SessionId};
use funicular_oracle::policy::Direction;
use funicular_oracle::policy::decision::{Action, Decision};
use funicular_oracle::policy::settings::matches_any;
use funicular_oracle::policy::view::{FunctionView, Functions, SessionView};

use crate::run::{NAP, Run};
use crate::scenario::Scenario;
use crate::tree::Index;
use crate::watch::{Rules, Values, Watch};
use crate::workload::{Second, Session};

/// A node that is further from its high watermarks than this is looked at now and then.
const NEAR: f64 = 0.75;
/// One of so many listed sessions is one of those with the most requests.
const HOT: usize = 4;

/// One node's oracle, and what it is about.
struct One {
    watch: Watch,
    rejects: BTreeMap<u32, bool>,
    /// Moves under way, by function.
    under_way: BTreeMap<u32, u32>,
    /// When each of the moves of a function that may be made at once has ended, in milliseconds.
    free: BTreeMap<u32, Vec<Millis>>,
}

/// All oracles.
pub(crate) struct Oracles {
    rules: Rules,
    functions: Vec<FunctionName>,
    nodes: Vec<One>,
    tick: Second,
}

impl Oracles {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let rules = scenario.rules.clone();
        let one = || One {
            watch: Watch::new(&rules),
            rejects: BTreeMap::new(),
            under_way: BTreeMap::new(),
            free: BTreeMap::new(),
        };
        let nodes = (0..scenario.tree.len()).map(|_| one()).collect();
        let tick = rules.file.tick.0.as_secs().clamp(1, u64::from(NAP)) as Second;
        Self { functions: scenario.workload.functions.clone(), nodes, tick, rules }
    }

    /// A move that a node's oracle wanted has ended.
    pub(crate) fn ended(&mut self, node: Index, function: u32) {
        if let Some(count) = self.nodes[node as usize].under_way.get_mut(&function) {
            *count = count.saturating_sub(1);
        }
    }

    /// A node's oracle looks at it.
    pub(crate) fn look(&mut self, run: &mut Run<'_>, index: Index) {
        run.settle(index);
        // The root takes what comes.
        if run.scenario.tree.at(index).parent.is_none() {
            run.nodes[index as usize].next_look = run.now + NAP;
            return;
        }
        let values = values(run, index);
        let functions = self.functions_at(run, index);
        let away = run.nodes[index as usize].away > 0;
        let one = &mut self.nodes[index as usize];
        let now = run.millis();
        if one.watch.see(&self.rules, now, &values, away, &functions) {
            let views = self.views(run, index, &functions);
            let decisions = self.nodes[index as usize].watch.decide(&self.rules, now, &views);
            for decision in decisions {
                self.perform(run, index, &decision);
            }
        }
        let one = &self.nodes[index as usize];
        let awake = one.watch.is_restless() || self.rules.nears(&values, NEAR);
        let node = &mut run.nodes[index as usize];
        node.next_look = run.now + if awake { self.tick } else { NAP };
    }

    /// The functions that a node has something of, with their requests a second.
    fn functions_at(&self, run: &mut Run<'_>, index: Index) -> Vec<(FunctionName, f64)> {
        let minute = run.now / 60;
        let node = &mut run.nodes[index as usize];
        let flow = node.flow(&run.scenario.workload.streams, minute).by_function.clone();
        let named = |number: u32| {
            (self.functions[number as usize].clone(), flow.get(&number).copied().unwrap_or(0.0))
        };
        if self.functions.len() == 1 {
            return vec![named(0)];
        }
        node.held.keys().map(|number| named(*number)).collect()
    }

    fn number(&self, function: &FunctionName) -> u32 {
        let at = self.functions.iter().position(|name| name == function);
        at.unwrap_or(0) as u32
    }

    fn views(&self, run: &Run<'_>, index: Index, functions: &[(FunctionName, f64)]) -> Functions {
        let one = &self.nodes[index as usize];
        let node = &run.nodes[index as usize];
        let most = self.rules.file.sources.status.sessions;
        let priority = &self.rules.file.policy.priority;
        let view = |(name, rate): &(FunctionName, f64)| {
            let number = self.number(name);
            let rejects = one.rejects.get(&number).copied().unwrap_or(false);
            let count = one.under_way.get(&number).copied().unwrap_or(0);
            let wants = one.watch.wants(&self.rules, name);
            let (mut here, mut away) = (Vec::new(), Vec::new());
            if wants.here && count == 0 {
                let all = node.sessions.iter().copied();
                here = self.listed(run, all.filter(|it| run.of(*it).0 == number), most);
            }
            if wants.away && count == 0 && node.away > 0 {
                away = self.away(run, index, number, most);
            }
            let view = FunctionView {
                status: if rejects { OffloadStatus::Reject } else { OffloadStatus::Accept },
                above: true,
                held: (count > 0).then(|| format!("{count} actions are still under way")),
                priority: priority.get(name).copied().unwrap_or(0),
                sessions: node.held.get(&number).map_or(0, |held| held.sessions),
                rate: Some(*rate),
                here,
                away,
            };
            (name.clone(), view)
        };
        functions.iter().map(view).collect()
    }

    /// Sessions above a node that have their home at or below it, of each node above as many
    /// as it would name.
    fn away(&self, run: &Run<'_>, index: Index, function: u32, most: usize) -> Vec<SessionView> {
        let tree = &run.scenario.tree;
        let mut by_node: BTreeMap<Index, Vec<Session>> = BTreeMap::new();
        for home in index..tree.at(index).end {
            for session in &run.nodes[home as usize].strays {
                let at = run.sessions[*session as usize].at;
                if tree.at(at).depth < tree.at(index).depth && run.of(*session).0 == function {
                    by_node.entry(at).or_default().push(*session);
                }
            }
        }
        let mut away = Vec::new();
        for (at, sessions) in by_node {
            let listed = self.listed(run, sessions.into_iter(), most).into_iter();
            let at = &tree.at(at).name;
            away.extend(listed.map(|view| SessionView { at: Some(at.clone()), ..view }));
        }
        away
    }

    /// As a node lists its sessions: those that were not used for the longest time, and some
    /// of those with the most requests.
    fn listed(
        &self,
        run: &Run<'_>,
        sessions: impl Iterator<Item = Session>,
        most: usize,
    ) -> Vec<SessionView> {
        let mut all: Vec<(f64, Session)> =
            sessions.map(|session| (run.rate(session), session)).collect();
        let mut chosen = Vec::with_capacity(most);
        if all.len() > most {
            let hot = most / HOT;
            all.select_nth_unstable_by(hot, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let mut rest = all.split_off(hot);
            chosen.append(&mut all);
            let idle = |it: &(f64, Session)| idle(run, *it);
            rest.select_nth_unstable_by(most - hot, |a, b| {
                idle(b).cmp(&idle(a)).then(a.1.cmp(&b.1))
            });
            rest.truncate(most - hot);
            chosen.append(&mut rest);
        } else {
            chosen = all;
        }
        let pinned = |session: Session| {
            let name = &self.functions[run.of(session).0 as usize];
            let patterns = self.rules.file.policy.pinned.get(name);
            patterns.is_some_and(|patterns| matches_any(patterns, &session.to_string()))
        };
        let view = |(rate, session): (f64, Session)| {
            let arrived = run.sessions[session as usize].arrived;
            Some(SessionView {
                session: SessionId::new(session.to_string()).ok()?,
                at: None,
                bytes: u64::from(run.of(session).1),
                rate: Some(rate),
                idle: idle(run, (rate, session)),
                arrived: arrived.map(|at| Millis::from(run.now - at) * 1000),
                pinned: pinned(session),
            })
        };
        chosen.into_iter().filter_map(view).collect()
    }

    fn perform(&mut self, run: &mut Run<'_>, index: Index, decision: &Decision) {
        let function = self.number(&decision.function);
        let (session, direction) = match &decision.action {
            Action::SetStatus { status } => {
                let rejects = *status == OffloadStatus::Reject;
                self.nodes[index as usize].rejects.insert(function, rejects);
                return;
            }
            Action::Offload { session, .. } => (session, Direction::Up),
            Action::Onload { session, .. } => (session, Direction::Down),
        };
        let Ok(session) = session.as_str().parse::<Session>() else { return };
        let target = match direction {
            Direction::Up => self.accepting(run, index, session, function),
            Direction::Down => Some(index),
        };
        let state = run.sessions[session as usize];
        let tree = &run.scenario.tree;
        let where_it_was = match direction {
            Direction::Up => state.at == index,
            Direction::Down => state.at != index && tree.in_subtree(state.at, index),
        };
        let one = &mut self.nodes[index as usize];
        let places = vec![0; self.rules.file.actions.at_once];
        let free = one.free.entry(function).or_insert(places);
        let slot = (0..free.len()).min_by_key(|slot| free[*slot]).unwrap_or(0);
        let starts = free[slot].max(run.millis());
        let begun = target
            .filter(|_| where_it_was && !state.moving)
            .and_then(|to| run.begin_move(session, to, starts, Some((index, function))));
        let one = &mut self.nodes[index as usize];
        match begun {
            Some(ends) => {
                if let Some(free) = one.free.get_mut(&function) {
                    free[slot] = ends;
                }
                *one.under_way.entry(function).or_default() += 1;
            }
            None => {
                let now = run.millis();
                one.watch.failed(&self.rules, now, &decision.function, direction);
                run.tally.at(run.now + 1).failed += 1;
            }
        }
    }

    /// The first node above that takes sessions and has room.
    fn accepting(
        &self,
        run: &Run<'_>,
        index: Index,
        session: Session,
        function: u32,
    ) -> Option<Index> {
        let bytes = f64::from(run.of(session).1);
        run.scenario.tree.ancestors(index).find(|above| {
            let rejects = self.nodes[*above as usize].rejects.get(&function);
            let room = run.scenario.tree.at(*above).memory;
            !rejects.copied().unwrap_or(false)
                && run.nodes[*above as usize].bytes as f64 + bytes <= room
        })
    }
}

/// For how long nobody used a session, in milliseconds: for one that is used, the mean time
/// between two requests.
fn idle(run: &Run<'_>, (rate, session): (f64, Session)) -> Millis {
    if rate > 0.0 {
        return (1000.0 / rate) as Millis;
    }
    let plan = &run.scenario.workload.sessions[session as usize];
    Millis::from(run.now.saturating_sub(plan.end)) * 1000
}

/// What a node gives for its signals: of the time since the last look, and of the last seconds.
fn values(run: &mut Run<'_>, index: Index) -> Values {
    let minute = run.now / 60;
    let memory = run.scenario.tree.at(index).memory;
    let rate = run.nodes[index as usize].flow(&run.scenario.workload.streams, minute).rate;
    let queue = run.queue(index);
    let servers = queue.servers();
    let told = queue.told(rate * queue.service() / servers);
    let node = &mut run.nodes[index as usize];
    let passed = f64::from(run.now - node.looked);
    let behind = node.backlog / servers;
    let mut cpu = if passed > 0.0 { node.busy / (servers * passed) } else { 0.0 };
    (node.busy, node.looked) = (0.0, run.now);
    // As many requests as come by chance, running as long as they do by chance.
    if behind <= 0.0 && passed > 0.0 && rate > 0.0 {
        let spread = (2.0 / (rate * passed)).sqrt();
        let noise = 1.0 + spread * chance(run.scenario.seed, index, run.now);
        cpu = (cpu * noise).clamp(0.0, 1.0);
    }
    let waits = |seconds: f64| if rate > 0.0 { seconds + behind } else { 0.0 };
    let bytes = node.bytes as f64;
    let waiting = [told.wait_p99, told.latency_p50, told.latency_p99].map(waits);
    let [wait, half, most] = node.told.tell(run.now, waiting);
    [cpu, bytes / memory, wait, half, most, rate]
}

/// About normal, of mean 0 and deviation 1, the same whatever else happens.
fn chance(seed: u64, index: Index, now: Second) -> f64 {
    let mut bits = seed ^ (u64::from(index) << 32 | u64::from(now));
    // splitmix64
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let sum: f64 = (0..4).map(|part| ((bits >> (16 * part)) & 0xffff) as f64 / 65_536.0).sum();
    (sum - 2.0) * 3_f64.sqrt()
}
