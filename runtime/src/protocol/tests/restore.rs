//! What of a restored store holds: `middle` was put back, `edge` below it and `root`
//! above it were not.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use crate::protocol::{
    BEYOND, Event, Fate, Named, Payload, Reply, Step, step, unconfirmed, violations,
};
use crate::session::{
    Epoch, Incarnation, Lease, LeaseId, Life, Millis, NodeName, Nonce, Record, Slot, Transfer,
};

const NOW: Millis = 5000;

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn life(home: &str, incarnation: u128) -> Life {
    Life { home: name(home), incarnation: Incarnation(incarnation) }
}

/// The life that most of these are about.
fn of_edge() -> Life {
    life("edge", 1)
}

fn owned(life: Life, epoch: Epoch) -> Record {
    Record::Owned { life, epoch, intent: None, unsettled: None, untold: false }
}

fn frozen(life: Life, epoch: Epoch, to: &str) -> Record {
    let transfer = Transfer { to: name(to), next_epoch: epoch + 1, nonce: Nonce(7) };
    Record::Migrating { life, epoch, transfer }
}

fn pointer(life: Life, epoch: Epoch, to: &str) -> Record {
    Record::Moved { life, epoch, to: name(to), since: 1 }
}

fn by(node: &str, record: Record) -> Named {
    Named { by: name(node), record }
}

/// What becomes of a record at `middle` when `asked` have answered.
fn among(asked: &[&str], record: Option<Record>, named: &[Named]) -> (Step, Fate) {
    let slot = Slot { record, used: 7, ..Slot::default() };
    let asked: BTreeSet<NodeName> = asked.iter().map(|node| name(node)).collect();
    let event = Event::Restore { named: named.to_vec(), asked: Arc::new(asked) };
    let step = step(&slot, &name("middle"), NOW, &event).expect("it is never refused");
    assert_eq!(violations(&step.slot, &name("middle")), Vec::<&str>::new());
    let Reply::Restored { fate } = step.reply else { panic!("{:?}", step.reply) };
    (step, fate)
}

fn restored(record: Option<Record>, named: &[Named]) -> (Step, Fate) {
    among(&["edge", "root"], record, named)
}

#[test]
fn g1_what_nobody_else_has_stays_under_an_epoch_that_nobody_knows() {
    let at_home = by("edge", pointer(of_edge(), 2, "middle"));
    let (step, fate) = restored(Some(owned(of_edge(), 2)), &[at_home]);
    assert_eq!((fate, step.payload), (Fate::Kept, Payload::Keep));
    let record = Record::Owned {
        life: of_edge(),
        epoch: 2 + BEYOND,
        intent: None,
        unsettled: None,
        untold: true,
    };
    // It does not expire for the time that it was in the backup.
    assert_eq!(step.slot, Slot { record: Some(record), used: NOW, ..Slot::default() });

    // A session of its own home may never have left.
    let (step, fate) = restored(Some(owned(life("middle", 1), 1)), &[]);
    assert_eq!(fate, Fate::Kept);
    assert_eq!(step.slot.record, Some(owned(life("middle", 1), 1 + BEYOND)));
}

#[test]
fn g1_who_has_it_under_a_newer_epoch_keeps_it() {
    for theirs in [
        owned(of_edge(), 3),
        owned(of_edge(), 9),
        frozen(of_edge(), 4, "edge"),
        // On its way back here: its source has what is newest, and asks again.
        frozen(of_edge(), 4, "middle"),
    ] {
        for own in [owned(of_edge(), 2), frozen(of_edge(), 2, "root"), frozen(of_edge(), 2, "edge")]
        {
            let named = [by("edge", pointer(of_edge(), 2, "middle")), by("root", theirs.clone())];
            let (step, fate) = restored(Some(own), &named);
            assert_eq!((fate, step.payload), (Fate::Given, Payload::SetAside));
            let epoch = theirs.epoch();
            let Some(Record::Moved { to, epoch: known, since: NOW, .. }) = step.slot.record else {
                panic!("{:?}", step.slot)
            };
            assert_eq!((to, known), (name("root"), epoch));
        }
    }
}

#[test]
fn g1_the_newest_of_several_has_it() {
    let named = [
        by("edge", frozen(of_edge(), 3, "root")),
        by("root", owned(of_edge(), 4)),
        by("other", pointer(of_edge(), 8, "middle")),
    ];
    let (step, _) = restored(Some(owned(of_edge(), 2)), &named);
    assert_eq!(
        step.slot.record,
        Some(Record::Moved { life: of_edge(), epoch: 4, to: name("root"), since: NOW })
    );
}

#[test]
fn g1_what_came_back_since_the_backup_goes_on_above_all_that_was_named() {
    let named =
        [by("edge", pointer(of_edge(), 2, "middle")), by("root", pointer(of_edge(), 8, "middle"))];
    let (step, fate) = restored(Some(owned(of_edge(), 2)), &named);
    assert_eq!((fate, step.payload), (Fate::Behind, Payload::Keep));
    assert_eq!(step.slot.record.map(|record| record.epoch()), Some(8 + BEYOND));
}

#[test]
fn g1_a_move_that_was_under_way_in_the_backup_ends() {
    // Its target has nothing and, once it has answered, never will.
    let at_home = by("edge", pointer(of_edge(), 2, "middle"));
    let (step, fate) = restored(Some(frozen(of_edge(), 2, "root")), &[at_home]);
    assert_eq!(fate, Fate::Kept);
    assert_eq!(step.slot.record.map(|record| record.epoch()), Some(3 + BEYOND));

    // It had just come here: its source has not heard that yet, and does not go unheard.
    let source = by("edge", frozen(of_edge(), 1, "middle"));
    let (step, fate) = restored(Some(owned(of_edge(), 2)), &[source]);
    assert_eq!(fate, Fate::Kept);
    let Some(Record::Owned { unsettled, .. }) = step.slot.record else { panic!() };
    assert_eq!(unsettled, Some(name("edge")));

    // A turn that was taken in the backup is over.
    let slot = Slot {
        record: Some(owned(life("middle", 1), 2)),
        lease: Some(Lease { id: LeaseId(1), until: NOW + 1000 }),
        freeze_until: Some(NOW + 1000),
        outbox: 3,
        ..Slot::default()
    };
    let event = Event::Restore { named: Vec::new(), asked: Arc::default() };
    let step = step_at_middle(&slot, &event);
    assert_eq!((step.slot.lease, step.slot.freeze_until, step.slot.outbox), (None, None, 3));
}

fn step_at_middle(slot: &Slot, event: &Event) -> Step {
    step(slot, &name("middle"), NOW, event).expect("it is never refused")
}

#[test]
fn g1_what_its_home_has_forgotten_has_ended() {
    let (step, fate) = restored(Some(owned(of_edge(), 2)), &[]);
    assert_eq!((fate, step.payload), (Fate::Ended, Payload::SetAside));
    assert_eq!(step.slot.record, None);
    // A home that did not answer has forgotten nothing.
    let (step, fate) = among(&["root"], Some(owned(of_edge(), 2)), &[]);
    assert_eq!((fate, step.payload), (Fate::Kept, Payload::Keep));
    // It ended elsewhere, and home does not know yet.
    let ended = by("root", Record::Expired { life: of_edge(), epoch: 3 });
    let at_home = by("edge", pointer(of_edge(), 3, "root"));
    let (_, fate) = restored(Some(owned(of_edge(), 2)), &[ended, at_home]);
    assert_eq!(fate, Fate::Ended);
}

#[test]
fn g1_who_may_have_got_it_after_being_asked_is_asked_again() {
    let mine = life("middle", 1);
    let asked: BTreeSet<NodeName> = ["edge", "root"].map(name).into();
    let again = |record: Option<Record>, named: &[Named]| {
        let slot = Slot { record, ..Slot::default() };
        unconfirmed(&slot, &name("middle"), named, &asked)
    };
    // `root` had nothing when it was asked; `edge` has sent it there since.
    let sent = by("edge", pointer(mine.clone(), 4, "root"));
    let root = vec![(name("root"), 4)];
    for own in [
        None,
        Some(owned(mine.clone(), 2)),
        Some(frozen(mine.clone(), 2, "edge")),
        Some(pointer(mine.clone(), 3, "edge")),
    ] {
        assert_eq!(again(own, std::slice::from_ref(&sent)), root);
    }
    // What it had then was older.
    let named = [sent.clone(), by("root", pointer(mine.clone(), 3, "edge"))];
    assert_eq!(again(Some(owned(mine.clone(), 2)), &named), root);
    // By now it says so, or says that it ended it.
    for now in [owned(mine.clone(), 4), Record::Expired { life: mine.clone(), epoch: 4 }] {
        let named = [sent.clone(), by("root", now)];
        assert_eq!(again(Some(owned(mine.clone(), 2)), &named), []);
    }
    // It has sent it on.
    let named = [sent.clone(), by("root", pointer(mine.clone(), 5, "edge"))];
    assert_eq!(again(None, &named), [(name("edge"), 5)]);
    // Older than what is here, or newer and leading here, or to one that nobody waits for.
    assert_eq!(again(Some(owned(mine.clone(), 4)), &[sent]), []);
    for to in ["middle", "gone"] {
        assert_eq!(again(None, &[by("edge", pointer(mine.clone(), 6, to))]), []);
    }
}

#[test]
fn g1_what_went_on_between_others_does_not_stay_here() {
    for life in [life("middle", 1), of_edge()] {
        let sent = by("edge", pointer(life.clone(), 4, "root"));
        for own in [owned(life.clone(), 2), frozen(life.clone(), 2, "edge")] {
            let (step, fate) = restored(Some(own.clone()), std::slice::from_ref(&sent));
            assert_eq!((fate, step.payload), (Fate::Ended, Payload::SetAside));
            assert_eq!(step.slot.record, None);
            // Where it went has been given up: this is all that is left of it.
            let (_, fate) = among(&["edge"], Some(own), std::slice::from_ref(&sent));
            assert_eq!(fate, Fate::Behind);
        }
    }
}

#[test]
fn g1_another_life_of_the_same_home_goes_on_instead() {
    let next = life("edge", 2);
    let (step, fate) = restored(Some(owned(of_edge(), 2)), &[by("edge", owned(next, 1))]);
    assert_eq!((fate, step.payload, step.slot.record), (Fate::Ended, Payload::SetAside, None));

    // One whose home is here needs its pointer here.
    let mine = life("middle", 2);
    let named = [by("root", owned(mine.clone(), 2)), by("edge", pointer(of_edge(), 2, "middle"))];
    for own in [owned(life("middle", 1), 1), owned(of_edge(), 2)] {
        let (step, fate) = restored(Some(own), &named);
        assert_eq!((fate, step.payload), (Fate::Ended, Payload::SetAside));
        let Some(Record::Moved { life, to, .. }) = step.slot.record else { panic!() };
        assert_eq!((life, to), (mine.clone(), name("root")));
    }

    // One of another home is another client's.
    let other = by("root", owned(life("other", 3), 4));
    let at_home = by("edge", pointer(of_edge(), 2, "middle"));
    let (_, fate) = restored(Some(owned(of_edge(), 2)), &[other, at_home]);
    assert_eq!(fate, Fate::Kept);
    // An old pointer says nothing of what goes on.
    let old = by("root", pointer(life("middle", 9), 4, "middle"));
    let (_, fate) = restored(Some(owned(life("middle", 1), 1)), &[old]);
    assert_eq!(fate, Fate::Kept);
}

#[test]
fn g4_a_home_learns_where_its_sessions_are() {
    let mine = life("middle", 1);
    let (step, fate) = restored(None, &[by("root", owned(mine.clone(), 2))]);
    assert_eq!((fate, step.payload), (Fate::Elsewhere, Payload::Keep));
    let expected = Record::Moved { life: mine.clone(), epoch: 2, to: name("root"), since: NOW };
    assert_eq!(step.slot.record, Some(expected));
    // It has moved on since.
    let named = [by("edge", owned(mine.clone(), 5)), by("root", pointer(mine.clone(), 5, "edge"))];
    let (step, _) = restored(Some(pointer(mine.clone(), 2, "root")), &named);
    let expected = Record::Moved { life: mine.clone(), epoch: 5, to: name("edge"), since: NOW };
    assert_eq!(step.slot.record, Some(expected));
    // What is right already stays as it is.
    let known = pointer(mine.clone(), 2, "root");
    let (step, fate) = restored(Some(known.clone()), &[by("root", owned(mine, 2))]);
    assert_eq!((fate, step.slot.record), (Fate::Elsewhere, Some(known)));
    // Sessions of other homes are not this node's affair.
    let (step, fate) = restored(None, &[by("root", owned(of_edge(), 2))]);
    assert_eq!((fate, step.slot.record), (Fate::Nothing, None));
}

#[test]
fn g4_a_pointer_that_nobody_answers_to_goes() {
    for own in [pointer(life("middle", 1), 2, "root"), pointer(of_edge(), 2, "root")] {
        let (step, fate) = restored(Some(own.clone()), &[]);
        assert_eq!((fate, step.slot.record), (Fate::Forgotten, None));
        // Of a node that does not answer, it is all that is known.
        let (step, fate) = among(&["edge"], Some(own.clone()), &[]);
        assert_eq!((fate, step.slot.record), (Fate::Elsewhere, Some(own)));
    }
    // Others know of a newer place that does not answer.
    let named = [by("edge", pointer(of_edge(), 5, "root"))];
    let (step, _) = among(&["edge"], Some(pointer(of_edge(), 2, "edge")), &named);
    assert_eq!(step.slot.record.map(|record| record.epoch()), Some(5));
}

#[test]
fn g2_what_only_the_lost_store_had_is_said_to_be_lost() {
    // Home is told that it has ended, so that its client can begin anew.
    let at_home = by("edge", pointer(of_edge(), 6, "middle"));
    for own in [None, Some(pointer(of_edge(), 3, "root"))] {
        let (step, fate) = restored(own, std::slice::from_ref(&at_home));
        let expected = Record::Expired { life: of_edge(), epoch: 6 };
        assert_eq!((fate, step.slot.record), (Fate::Lost, Some(expected)));
    }
    // Its own home begins anew by itself.
    let mine = life("middle", 1);
    let named = [by("root", pointer(mine.clone(), 3, "middle"))];
    for own in [None, Some(pointer(mine, 2, "root"))] {
        let (step, fate) = restored(own, &named);
        assert_eq!((fate, step.slot.record), (Fate::Lost, None));
    }
    // A pointer away from home may be older than the end of its session.
    let (step, fate) = restored(None, &[by("root", pointer(of_edge(), 3, "middle"))]);
    assert_eq!((fate, step.slot.record), (Fate::Nothing, None));
    // A source that is frozen for a move here still has it.
    let source = by("root", frozen(of_edge(), 3, "middle"));
    let (step, fate) = restored(None, &[source, by("edge", pointer(of_edge(), 3, "root"))]);
    assert_eq!((fate, step.slot.record), (Fate::Nothing, None));
}

#[test]
fn g4_an_end_that_home_had_not_heard_of_is_told_again() {
    let ended = Record::Expired { life: of_edge(), epoch: 2 };
    let at_home = by("edge", pointer(of_edge(), 2, "middle"));
    let (step, fate) = restored(Some(ended.clone()), &[at_home]);
    assert_eq!((fate, step.slot.record), (Fate::Nothing, Some(ended.clone())));
    let (step, fate) = restored(Some(ended), &[]);
    assert_eq!((fate, step.slot.record), (Fate::Forgotten, None));
}

fn lives() -> impl Strategy<Value = Life> {
    (prop_oneof![Just("edge"), Just("middle"), Just("root")], 1..3_u128)
        .prop_map(|(home, incarnation)| life(home, incarnation))
}

fn records(not: &'static str) -> impl Strategy<Value = Record> {
    let others = prop_oneof![Just("edge"), Just("middle"), Just("root")]
        .prop_filter("elsewhere", move |place| *place != not);
    (lives(), 1..6_u64, others, 0..4_u8)
        .prop_filter("home forgets at once", move |(life, .., kind)| {
            *kind != 3 || life.home.as_str() != not
        })
        .prop_map(|(life, epoch, to, kind)| match kind {
            0 => owned(life, epoch),
            1 => frozen(life, epoch, to),
            2 => pointer(life, epoch, to),
            _ => Record::Expired { life, epoch },
        })
}

proptest! {
    /// Whatever was in the backup and whatever the others say: nobody who has the
    /// session loses it, no two have one life under an epoch that counts, and to decide
    /// again changes nobody's mind.
    #[test]
    fn g1_there_is_one_owner_and_to_decide_again_changes_nothing(
        own in proptest::option::of(records("middle")),
        edge in proptest::option::of(records("edge")),
        root in proptest::option::of(records("root")),
    ) {
        // Their stores have forgotten nothing: of one home, one of them has the session.
        let has = |record: &Option<Record>| {
            let record = record.as_ref().filter(|record| !matches!(record, Record::Moved { .. }));
            record.map(|record| record.life().home.clone())
        };
        prop_assume!(has(&edge).is_none() || has(&edge) != has(&root));
        let named: Vec<Named> = [("edge", edge), ("root", root)]
            .into_iter()
            .filter_map(|(node, record)| Some(by(node, record?)))
            .collect();
        let (first, _) = restored(own.clone(), &named);
        if let Some(Record::Owned { life, epoch, .. }) = &first.slot.record {
            for named in &named {
                let theirs = &named.record;
                prop_assert!(theirs.life() != life || theirs.epoch() < *epoch);
            }
            prop_assert!(own.as_ref().is_some_and(Record::holds_data));
        }
        let had = own.as_ref().is_some_and(Record::holds_data);
        let has = first.slot.record.as_ref().is_some_and(Record::holds_data);
        prop_assert_eq!(first.payload == Payload::SetAside, had && !has);

        let (again, _) = restored(first.slot.record.clone(), &named);
        match (&first.slot.record, &again.slot.record) {
            (Some(Record::Owned { life: a, .. }), Some(Record::Owned { life: b, .. })) => {
                prop_assert_eq!(a, b);
            }
            // An end is told; another life that was lost may have to be told as ended.
            (Some(Record::Expired { .. }), _) | (None, Some(Record::Expired { .. })) => {}
            (before, after) => prop_assert_eq!(before, after),
        }
    }
}
