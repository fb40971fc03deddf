//! Each rule of `docs/protocol.md`, by number.

use crate::protocol::{
    Access, Begin, BeginAsk, Busy, Event, Payload, Refusal, Reply, begin, step, violations,
};
use crate::session::{
    Epoch, Incarnation, Lease, LeaseId, Life, Millis, NodeName, Nonce, Pull, Record, Slot, Transfer,
};

const NOW: Millis = 1000;

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

/// A life that was created at edge.
fn life(incarnation: u128) -> Life {
    Life { home: name("edge"), incarnation: Incarnation(incarnation) }
}

fn slot(record: Record) -> Slot {
    Slot { record: Some(record), ..Slot::default() }
}

fn owned(epoch: Epoch) -> Slot {
    let (intent, unsettled) = (None, None);
    slot(Record::Owned { life: life(1), epoch, intent, unsettled, untold: false })
}

fn to_root(next_epoch: Epoch) -> Transfer {
    Transfer { to: name("root"), next_epoch, nonce: Nonce(7) }
}

fn agreed(epoch: Epoch) -> Slot {
    let intent = Some(to_root(epoch + 1));
    slot(Record::Owned { life: life(1), epoch, intent, unsettled: None, untold: false })
}

fn migrating(epoch: Epoch) -> Slot {
    slot(Record::Migrating { life: life(1), epoch, transfer: to_root(epoch + 1) })
}

fn moved(life: Life, epoch: Epoch, to: &str) -> Slot {
    slot(Record::Moved { life, epoch, to: name(to), since: 0 })
}

/// A session that has just arrived from middle.
fn unsettled(epoch: Epoch) -> Slot {
    let unsettled = Some(name("middle"));
    slot(Record::Owned { life: life(1), epoch, intent: None, unsettled, untold: true })
}

fn pull(life: Life, next_epoch: Epoch) -> Pull {
    Pull { life, next_epoch, from: name("middle"), nonce: Nonce(7) }
}

fn open(pull: &Pull) -> Slot {
    Slot { pull: Some(pull.clone()), ..Slot::default() }
}

#[test]
fn rule_4_only_a_quiet_owner_becomes_a_new_home() {
    let old = life(1);
    let new = Life { home: name("middle"), incarnation: Incarnation(9) };
    let rehome = Event::Rehome { life: old.clone(), new: new.clone() };
    let mut told = owned(3);
    if let Some(Record::Owned { untold, .. }) = &mut told.record {
        *untold = true;
    }
    told.outbox = 2;
    let done = at("middle", &told, &rehome).expect("it is quiet");
    assert_eq!((done.payload, done.reply), (Payload::Keep, Reply::Changed));
    let record =
        Record::Owned { life: new.clone(), epoch: 4, intent: None, unsettled: None, untold: false };
    assert_eq!(done.slot, Slot { outbox: 2, ..slot(record) });
    assert!(violations(&done.slot, &name("middle")).is_empty());
    // Again is nothing; what is late of the old life finds another one.
    assert_eq!(at("middle", &done.slot, &rehome).map(|step| step.reply), Ok(Reply::Unchanged));
    let agree = Event::Agree { life: old.clone(), transfer: to_root(5) };
    assert!(at("middle", &done.slot, &agree).is_err());
    let ask = Event::Ask { life: old.clone(), transfer: to_root(4) };
    assert_eq!(at("middle", &done.slot, &ask).map(|step| step.reply), Ok(Reply::NotInstalled));
    assert_eq!(at("middle", &done.slot, &ask).map(|step| step.slot), Ok(done.slot.clone()));
    for epoch in [3, 4, 5] {
        for event in [Event::Told { epoch }, Event::Settled { epoch }, Event::ExpiryTold { epoch }]
        {
            assert_eq!(
                at("middle", &done.slot, &event).map(|step| step.slot),
                Ok(done.slot.clone())
            );
        }
    }
    let ended = Event::HomeExpired { life: old.clone(), epoch: 9 };
    assert_eq!(at("middle", &done.slot, &ended).map(|step| step.slot), Ok(done.slot.clone()));

    // Somebody may still ask about it, or runs in it.
    let leased = Slot { lease: Some(Lease { id: LeaseId(1), until: NOW + 1 }), ..owned(3) };
    let freezing = Slot { freeze_until: Some(NOW + 1), ..owned(3) };
    for busy in [agreed(3), unsettled(3), migrating(3), leased, freezing] {
        assert_eq!(at("middle", &busy, &rehome).map(|step| step.reply), Err(Refusal::InUse));
    }
    let pointer = moved(old.clone(), 3, "root");
    let elsewhere = Err(Refusal::NotOwner { to: Some(name("root")) });
    assert_eq!(at("middle", &pointer, &rehome).map(|step| step.reply), elsewhere);
    // Only this node can become the home, and only of the life that is meant.
    let other = Event::Rehome { life: life(2), new: new.clone() };
    for (here, event) in [("root", &rehome), ("middle", &other)] {
        assert_eq!(at(here, &owned(3), event).map(|step| step.reply), Err(Refusal::OtherLife));
    }
}

fn at(here: &str, slot: &Slot, event: &Event) -> Result<crate::protocol::Step, Refusal> {
    step(slot, &name(here), NOW, event)
}

/// The event is refused, or changes nothing.
#[track_caller]
fn leaves(here: &str, slot: &Slot, event: &Event) {
    if let Ok(step) = at(here, slot, event) {
        assert_eq!((&step.slot, step.payload), (slot, Payload::Keep), "{event:?}");
    }
}

fn done(epoch: Epoch, to: &str) -> Event {
    Event::Done { life: life(1), epoch, to: name(to) }
}

#[test]
fn rule_1_only_a_higher_epoch_of_the_same_life_changes_a_record() {
    let other = Event::Done { life: life(2), epoch: 9, to: name("root") };
    for known in [owned(3), migrating(3), moved(life(1), 3, "root"), unsettled(3)] {
        leaves("edge", &known, &other);
        for epoch in 1..=3 {
            leaves("edge", &known, &done(epoch, "root"));
            leaves("edge", &known, &done(epoch, "middle"));
        }
        let home = Event::HomeUpdate { life: life(1), epoch: 2, to: name("middle") };
        leaves("edge", &known, &home);
        leaves("edge", &known, &Event::HomeExpired { life: life(1), epoch: 2 });
        let home = Event::HomeUpdate { life: life(1), epoch: 5, to: name("middle") };
        let step = at("edge", &known, &home).unwrap();
        assert_eq!(step.slot.record.unwrap().epoch(), 5);
    }
}

#[test]
fn rule_1_a_move_may_end_with_its_own_next_epoch() {
    let step = at("edge", &migrating(3), &done(4, "root")).unwrap();
    assert_eq!(step.payload, Payload::Drop);
    assert!(matches!(step.slot.record, Some(Record::Moved { epoch: 4, .. })));
    // The epoch names one owner: nobody else can own it.
    leaves("edge", &migrating(3), &done(4, "middle"));
    let step = at("edge", &migrating(3), &done(5, "middle")).unwrap();
    assert!(matches!(step.slot.record, Some(Record::Moved { epoch: 5, .. })));
}

#[test]
fn rule_1_owned_never_yields_to_an_install() {
    let pull = pull(life(1), 9);
    for known in [owned(3), agreed(3), migrating(3), unsettled(3)] {
        leaves("root", &known, &Event::OpenPull(pull.clone()));
        let forced = Slot { pull: Some(pull.clone()), ..known };
        leaves("root", &forced, &Event::Install { pull: pull.clone() });
    }
}

#[test]
fn rule_1_an_install_replaces_another_lifes_pointer_but_no_home_pointer() {
    let foreign = Life { home: name("middle"), incarnation: Incarnation(2) };
    let pull = pull(life(1), 4);
    let pointer = Slot { pull: Some(pull.clone()), ..moved(foreign.clone(), 9, "middle") };
    let step = at("root", &pointer, &Event::Install { pull }).unwrap();
    assert_eq!(step.slot.record.unwrap().epoch(), 4);

    let pull = Pull { from: name("edge"), ..self::pull(life(1), 4) };
    let home = moved(foreign, 9, "root");
    let refused = at("middle", &home, &Event::OpenPull(pull.clone()));
    assert_eq!(refused.unwrap_err(), Refusal::OtherLife);
    let forced = Slot { pull: Some(pull.clone()), ..home };
    leaves("middle", &forced, &Event::Install { pull });
}

#[test]
fn rule_1_a_node_that_was_given_up_points_at_what_its_source_had_and_learns_the_rest() {
    let source = name("middle");
    let mut home = unsettled(3);
    if let Some(Record::Owned { untold, .. }) = &mut home.record {
        *untold = false;
    }
    let told = Event::Superseded { epoch: 3, by_epoch: 9, to: source.clone() };
    let done = at("edge", &home, &told).expect("it is told");
    // Under epoch 9 it may be anybody's; middle went on under 4.
    let pointer = Record::Moved { life: life(1), epoch: 4, to: source, since: NOW };
    assert_eq!((&done.slot, done.payload), (&slot(pointer), Payload::SetAside));
    let update = Event::HomeUpdate { life: life(1), epoch: 9, to: name("root") };
    let known = at("edge", &done.slot, &update).expect("the owner tells home").slot;
    let pointer = Record::Moved { life: life(1), epoch: 9, to: name("root"), since: NOW };
    assert_eq!(known, slot(pointer));
    leaves("edge", &known, &told);
}

#[test]
fn rule_2_an_install_needs_its_open_pull() {
    let right = pull(life(1), 4);
    let wrong = [
        Pull { life: life(2), ..right.clone() },
        Pull { next_epoch: 5, ..right.clone() },
        Pull { from: name("edge"), ..right.clone() },
        Pull { nonce: Nonce(8), ..right.clone() },
    ];
    for wrong in wrong {
        let refused = at("root", &open(&right), &Event::Install { pull: wrong });
        assert_eq!(refused.unwrap_err(), Refusal::NoSuchMove);
    }
    let refused = at("root", &Slot::default(), &Event::Install { pull: right.clone() });
    assert_eq!(refused.unwrap_err(), Refusal::NoSuchMove);

    let step = at("root", &open(&right), &Event::Install { pull: right.clone() }).unwrap();
    assert_eq!((step.payload, &step.slot.pull), (Payload::Adopt(right.nonce), &None));
    // Its reply was lost, and it is asked for again.
    let again = at("root", &step.slot, &Event::Install { pull: right }).unwrap();
    assert_eq!((again.reply, again.slot), (Reply::Unchanged, step.slot));
}

#[test]
fn rule_2_a_no_closes_the_pull_and_creates_no_record() {
    let pull = pull(life(1), 4);
    let asked = Transfer { to: name("root"), next_epoch: 4, nonce: pull.nonce };
    let ask = Event::Ask { life: life(1), transfer: asked };
    let step = at("root", &open(&pull), &ask).unwrap();
    assert_eq!((step.reply, step.payload), (Reply::NotInstalled, Payload::DropStage(pull.nonce)));
    assert_eq!(step.slot, Slot::default());
    let late = at("root", &step.slot, &Event::Install { pull });
    assert_eq!(late.unwrap_err(), Refusal::NoSuchMove);
    let again = at("root", &Slot::default(), &ask).unwrap();
    assert_eq!((again.reply, again.slot), (Reply::NotInstalled, Slot::default()));
}

#[test]
fn rule_2_a_yes_stays_a_yes() {
    let transfer = Transfer { to: name("root"), next_epoch: 4, nonce: Nonce(7) };
    let ask = Event::Ask { life: life(1), transfer };
    for known in [unsettled(4), owned(4), migrating(4), moved(life(1), 6, "edge")] {
        let step = at("root", &known, &ask).unwrap();
        assert!(matches!(step.reply, Reply::Installed { .. }), "{known:?}");
        assert_eq!(step.slot, known);
    }
}

#[test]
fn rule_3_after_a_restart_an_intent_counts_as_the_freeze_that_may_be_forgotten() {
    let lease = Some(Lease { id: LeaseId(1), until: NOW + 50 });
    let step = at("edge", &Slot { lease, ..agreed(3) }, &Event::StoreRestarted).unwrap();
    assert_eq!(step.slot, migrating(3));
    for known in [owned(3), migrating(3), unsettled(3), moved(life(1), 3, "root")] {
        leaves("edge", &known, &Event::StoreRestarted);
    }
}

#[test]
fn g2_a_restart_of_the_targets_store_ends_a_pull_that_may_have_lost_pages() {
    let pull = Pull { life: life(1), next_epoch: 4, from: name("edge"), nonce: Nonce(7) };
    let pointer = Slot { pull: Some(pull.clone()), ..moved(life(1), 3, "edge") };
    for known in [open(&pull), pointer] {
        let step = at("root", &known, &Event::StoreRestarted).unwrap();
        assert_eq!(step.slot, Slot { pull: None, ..known });
        assert_eq!(step.payload, Payload::DropStage(pull.nonce));
    }
}

#[test]
fn rule_4_an_unsettled_session_does_not_move_on_and_does_not_expire() {
    let transfer = Transfer { to: name("edge"), next_epoch: 5, nonce: Nonce(8) };
    let agree = Event::Agree { life: life(1), transfer };
    assert_eq!(at("root", &unsettled(4), &agree).unwrap_err(), Refusal::Unsettled);
    let expire = Event::Expire { unused_since: NOW };
    assert_eq!(at("root", &unsettled(4), &expire).unwrap_err(), Refusal::InUse);

    let settled = at("root", &unsettled(4), &Event::Settled { epoch: 4 }).unwrap().slot;
    assert!(at("root", &settled, &agree).is_ok());
    // Home still has to be told.
    assert_eq!(at("root", &settled, &expire).unwrap_err(), Refusal::InUse);
    let told = at("root", &settled, &Event::Told { epoch: 4 }).unwrap().slot;
    let expired = at("root", &told, &expire).unwrap().slot;
    assert!(matches!(expired.record, Some(Record::Expired { epoch: 4, .. })));
}

#[test]
fn rule_4_what_is_asked_about_is_not_forgotten() {
    let expire = Event::Expire { unused_since: NOW };
    for known in [agreed(3), migrating(3)] {
        assert_eq!(at("edge", &known, &expire).unwrap_err(), Refusal::InUse);
    }
    // An acknowledgement of another epoch settles nothing.
    leaves("root", &unsettled(4), &Event::Settled { epoch: 3 });
    leaves("root", &unsettled(4), &Event::Told { epoch: 3 });
}

#[test]
fn rule_4_homes_pointer_goes_with_the_session_and_others_when_home_knows() {
    let age = Event::Age { epoch: 3, since: 0 };
    let pointer = moved(life(1), 3, "root");
    assert_eq!(at("edge", &pointer, &age).unwrap_err(), Refusal::InUse, "home");
    assert_eq!(at("middle", &pointer, &age).unwrap().slot, Slot::default());
    let newer = moved(life(1), 4, "root");
    assert_eq!(at("middle", &newer, &age).unwrap_err(), Refusal::InUse, "judged before");

    let early = Event::HomeExpired { life: life(1), epoch: 2 };
    assert_eq!(at("edge", &pointer, &early).unwrap_err(), Refusal::StaleEpoch { epoch: 3 });
    let ended = Event::HomeExpired { life: life(1), epoch: 3 };
    assert_eq!(at("edge", &pointer, &ended).unwrap().slot, Slot::default());
    leaves("edge", &moved(life(2), 1, "root"), &ended);
}

#[test]
fn rule_5_another_lifes_offer_is_refused() {
    let offered = Event::OpenPull(pull(life(2), 2));
    for known in [owned(3), migrating(3), unsettled(3)] {
        assert_eq!(at("root", &known, &offered).unwrap_err(), Refusal::OtherLife);
    }
    let expired = slot(Record::Expired { life: life(1), epoch: 3 });
    assert_eq!(at("root", &expired, &offered).unwrap_err(), Refusal::OtherLife);
    let agree = Event::Agree { life: life(2), transfer: to_root(4) };
    assert_eq!(at("edge", &owned(3), &agree).unwrap_err(), Refusal::OtherLife);
}

#[test]
fn rule_5_a_question_about_another_life_is_answered_no_without_touching_the_record() {
    let ask = Event::Ask { life: life(2), transfer: to_root(2) };
    for known in [owned(3), migrating(3), unsettled(3), moved(life(1), 3, "edge")] {
        let step = at("root", &known, &ask).unwrap();
        assert_eq!((step.reply, step.slot), (Reply::NotInstalled, known));
    }
    // Nor its pull, which may have the same number by chance.
    let other = open(&pull(life(1), 2));
    assert_eq!(at("root", &other, &ask).unwrap().slot, other);
}

#[test]
fn rule_5_a_node_with_an_open_pull_does_not_create() {
    let ask = BeginAsk {
        access: Access::Write,
        create: Some(Incarnation(5)),
        lease: LeaseId(5),
        lease_ttl: 100,
        frozen_reads: false,
        unsettled_writes: None,
    };
    let arriving = open(&pull(life(1), 4));
    let (after, outcome) = begin(&arriving, &name("edge"), NOW, &ask);
    assert_eq!((after, outcome), (arriving, Begin::Busy(Busy::Arriving)));
    let (after, outcome) = begin(&Slot::default(), &name("edge"), NOW, &ask);
    assert_eq!(outcome, Begin::Run { created: true });
    assert_eq!(after.record.unwrap().epoch(), 1);
}
