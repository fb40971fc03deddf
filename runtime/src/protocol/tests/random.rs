//! Random histories.
//!
//! `PROPTEST_CASES` sets how many are tried; a failing one is shrunk and printed
//! as a list of actions. [`replay`] runs such a list: found ones are pinned below.

use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;

use super::world::{Message, NODES, World};
use crate::protocol::Event;
use crate::session::Record;

/// Something that happens; numbers pick one of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// A client writes at a node; `true`: `leaving_reads` are over there.
    Write(usize, bool),
    /// A running write ends.
    Commit(usize),
    /// A node offers its session to another.
    Offer(usize, usize),
    /// A message arrives; `true`: and will again.
    Deliver(usize, bool),
    /// A message never arrives.
    Lose(usize),
    /// A node asks and tells what it has to.
    LookAfter(usize),
    /// A target gives its pull up.
    GiveUp(usize),
    /// A node's idle session expires.
    Expire(usize),
    /// A node's pointer is old.
    Age(usize),
    /// A node's pointer is followed.
    Follow(usize),
    /// A node's store crashes and forgets this many of its unsynced writes.
    Crash(usize, usize),
    /// A node's process is killed and started again.
    Restart(usize),
    /// The next step does not reach the disk in time: nobody is told of it.
    Stumble,
    /// Leases run out.
    Wait,
    /// A person gives up the node that another waits for.
    Abandon(usize),
}

use Action::{
    Abandon, Age, Commit, Crash, Deliver, Expire, Follow, GiveUp, LookAfter, Lose, Offer, Restart,
    Stumble, Wait, Write,
};

fn play(world: &mut World, action: Action) {
    world.now += 1;
    match action {
        Write(node, quiet) => world.begin(node, quiet),
        Commit(pick) => world.commit(pick),
        Offer(node, to) => {
            if let Some(Record::Owned { life, epoch, .. }) = world.record(node).cloned() {
                world.send(node, to, Message::Offer { life, epoch });
            }
        }
        Deliver(pick, again) if !world.bag.is_empty() => {
            let pick = pick % world.bag.len();
            let envelope = if again { world.bag[pick].clone() } else { world.bag.remove(pick) };
            world.deliver(envelope);
        }
        Lose(pick) if !world.bag.is_empty() => {
            let pick = pick % world.bag.len();
            world.bag.remove(pick);
        }
        Deliver(..) | Lose(_) => {}
        LookAfter(node) => world.look_after(node),
        GiveUp(node) => {
            if let Some(pull) = world.slot(node).pull.clone() {
                world.close(node, pull.nonce);
            }
        }
        Expire(node) => {
            let event = Event::Expire { unused_since: world.now };
            if let Some(Ok(_)) = world.synced(node, &event) {
                world.look_after(node);
            }
        }
        Age(node) => world.age(node),
        Follow(node) => world.follow(node),
        Crash(node, lost) => world.crash(node, lost),
        Restart(node) => world.restart(node),
        Stumble => world.stumbles = true,
        Wait => world.wait(),
        Abandon(node) => world.abandon(node),
    }
}

/// Plays a history and says what is broken, and after which action.
fn replay(always: bool, history: &[Action]) -> Result<(), String> {
    let mut world = World::new(always);
    for (place, action) in history.iter().enumerate() {
        let before = world.stores.clone();
        play(&mut world, *action);
        if world.stores == before {
            continue;
        }
        let broken = world.broken();
        if !broken.is_empty() {
            return Err(format!("after action {place}, {action:?}: {broken:#?}\n{world:#?}"));
        }
    }
    let broken = world.at_rest();
    match broken.is_empty() {
        true => Ok(()),
        false => Err(format!("at rest: {broken:#?}\n{world:#?}")),
    }
}

fn action(people: bool) -> BoxedStrategy<Action> {
    let node = || 0..NODES;
    let pick = || 0..64_usize;
    let alone = prop_oneof![
        12 => (node(), any::<bool>()).prop_map(|(node, quiet)| Write(node, quiet)),
        12 => pick().prop_map(Commit),
        10 => (node(), node()).prop_map(|(node, to)| Offer(node, to)),
        // The oldest message, most often: else hardly any move ends.
        40 => Just(Deliver(0, false)),
        20 => (pick(), prop::bool::weighted(0.3)).prop_map(|(pick, again)| Deliver(pick, again)),
        4 => pick().prop_map(Lose),
        12 => node().prop_map(LookAfter),
        2 => node().prop_map(GiveUp),
        3 => node().prop_map(Expire),
        3 => node().prop_map(Age),
        3 => node().prop_map(Follow),
        4 => (node(), 0..8_usize).prop_map(|(node, lost)| Crash(node, lost)),
        2 => node().prop_map(Restart),
        3 => Just(Stumble),
        4 => Just(Wait),
    ];
    if !people {
        return alone.boxed();
    }
    prop_oneof![30 => alone, 1 => node().prop_map(Abandon)].boxed()
}

fn histories(people: bool) -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(people), 1..120)
}

fn cases() -> ProptestConfig {
    let set = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: set.unwrap_or(2000),
        failure_persistence: None,
        max_shrink_iters: 100_000,
        // The default one takes most of the time in a build that is not optimized.
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn g1_g2_g7_with_stores_that_sync_always(history in histories(false)) {
        replay(true, &history).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn g1_g2_g7_with_stores_that_forget_what_was_not_synced(history in histories(false)) {
        replay(false, &history).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn g1_g7_with_people_who_give_nodes_up(history in histories(true)) {
        replay(false, &history).map_err(TestCaseError::fail)?;
    }
}

/// What the rest of a move is made of, when nothing goes wrong.
const ARRIVES: [Action; 6] = [Deliver(0, false); 6];
/// The target is acknowledged.
const SETTLES: [Action; 2] = [Deliver(0, false); 2];
/// Every write that is not on disk.
const ALL: usize = usize::MAX;

/// `middle` installs and cannot wait for the disk. Whoever looks after the session
/// there must not tell `edge`, which would drop it, before the disk has it.
#[test]
fn g2_an_install_that_is_not_on_disk_is_not_told() {
    let mut history = vec![Write(0, false), Commit(0), Offer(0, 1)];
    history.extend(&ARRIVES[1..]);
    history.extend([Stumble, Deliver(0, false), LookAfter(1), Deliver(0, false), Crash(1, ALL)]);
    replay(false, &history).unwrap();
}

/// The same for an expiry, after which home would create the session anew.
#[test]
fn g1_an_expiry_that_is_not_on_disk_is_not_told() {
    let mut history = vec![Write(0, false), Commit(0), Offer(0, 1)];
    history.extend(ARRIVES);
    history.extend(SETTLES);
    history.extend([Wait, Stumble, Expire(1), LookAfter(1), Deliver(0, false), Crash(1, ALL)]);
    history.extend([Write(0, false), Commit(0)]);
    replay(false, &history).unwrap();
}

/// `middle` installed the session and was given up before `edge` heard of it; the
/// session went on to `root`. When `middle` says that it has the session, a
/// pointer is all that `edge` has left of it.
#[test]
fn g1_a_node_that_was_given_up_hears_of_it_after_the_session_moved_on() {
    let mut history = vec![Write(0, false), Commit(0), Offer(0, 1)];
    history.extend(ARRIVES);
    history.extend([Lose(0), Abandon(0), Write(0, false), Commit(0), Offer(0, 2)]);
    history.extend(ARRIVES);
    replay(false, &history).unwrap();
}

/// `root` was given up with the session that it had pulled; the session went on at `edge` and
/// ended there, and another one began. That `root` crashes later takes nothing of it back.
#[test]
fn g1_a_session_that_ended_without_a_node_that_was_given_up_stays_ended() {
    let mut history = vec![Write(0, false), Commit(0), Offer(0, 2)];
    history.extend(ARRIVES);
    history.extend([Lose(0), Abandon(0), Wait, Stumble, Expire(0), Write(0, false), Crash(2, 0)]);
    replay(false, &history).unwrap();
}
