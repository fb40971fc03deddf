//! The calls that are tried: small numbers stand for names, so that they meet.

use bytes::Bytes;
use funicular::session::fields::CHUNK;
use funicular::session::{Change, Incarnation, Life, NodeName};
use funicular_tests::bench::{append, clear, delete, node, set};
use proptest::prelude::*;

const NODES: [&str; 3] = ["edge", "middle", "root"];

/// A call, in small numbers that stand for names, so that calls meet.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Begin {
        write: bool,
        create: Option<u8>,
        brief: bool,
        frozen: bool,
        quiet: Option<u8>,
        request: Option<u8>,
        inline: u16,
    },
    Commit {
        turn: u8,
        wrong: u8,
        data: Vec<Change>,
        outbox: u8,
        remember: Option<u8>,
        most: u64,
    },
    Release {
        turn: u8,
    },
    Renew {
        turn: u8,
        brief: bool,
    },
    Read {
        turn: Option<u8>,
        version: u8,
        frozen: bool,
        what: u8,
    },
    Delivered {
        turn: u8,
        index: u8,
    },
    OpenPull {
        life: u8,
        next: u8,
        from: u8,
        nonce: u8,
    },
    ClosePull {
        nonce: u8,
    },
    Agree {
        life: u8,
        to: u8,
        next: Option<u8>,
        nonce: u8,
    },
    Freeze {
        nonce: u8,
        waits: bool,
    },
    Install {
        exact: bool,
    },
    Stage {
        nonce: u8,
        large: bool,
        totals: bool,
        lie: bool,
    },
    Done {
        life: u8,
        epoch: u8,
        to: u8,
    },
    Settled {
        epoch: u8,
    },
    Ask {
        exact: bool,
        life: u8,
        next: u8,
        nonce: u8,
    },
    Answer {
        exact: bool,
        installed: bool,
    },
    Restarted,
    Abandon {
        lost: u8,
    },
    Superseded {
        epoch: u8,
        by: u8,
        to: u8,
    },
    HomeUpdate {
        life: u8,
        epoch: u8,
        to: u8,
    },
    HomeExpired {
        life: u8,
        epoch: u8,
    },
    Told {
        epoch: u8,
    },
    Expire {
        always: bool,
    },
    Rehome {
        life: u8,
        new: u8,
    },
    ExpiryTold {
        epoch: u8,
    },
    Age {
        right: bool,
        epoch: u8,
    },
    Refresh {
        life: u8,
        epoch: u8,
        to: u8,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let key = "[ab]{0,1}";
    let value = prop_oneof![
        4 => "[xyz]{0,5}".prop_map(Bytes::from),
        1 => Just(Bytes::from(vec![7; CHUNK + 1])),
    ];
    prop_oneof![
        3 => (key, value.clone()).prop_map(|(key, value)| set(&key, value)),
        2 => (key, value).prop_map(|(list, value)| append(&list, value)),
        1 => key.prop_map(|key| delete(&key)),
        1 => key.prop_map(|list| clear(&list)),
    ]
}

fn few() -> impl Strategy<Value = u8> {
    0_u8..3
}

fn epoch() -> impl Strategy<Value = u8> {
    1_u8..6
}

pub(crate) fn calls() -> impl Strategy<Value = Call> {
    prop_oneof![3 => requests(), 3 => moves(), 2 => doubts()]
}

fn requests() -> impl Strategy<Value = Call> {
    use proptest::option::of;
    prop_oneof![
        6 => (any::<bool>(), of(few()), prop::bool::weighted(0.2), any::<bool>(), of(epoch()), of(few()), 0_u16..64)
            .prop_map(|(write, create, brief, frozen, quiet, request, inline)| Call::Begin { write, create, brief, frozen, quiet, request, inline }),
        6 => (few(), 0_u8..8, prop::collection::vec(change(), 0..4), 0_u8..2, of(few()), prop_oneof![9 => Just(1 << 40), 1 => 0_u64..20])
            .prop_map(|(turn, wrong, data, outbox, remember, most)| Call::Commit { turn, wrong, data, outbox, remember, most }),
        1 => few().prop_map(|turn| Call::Release { turn }),
        1 => (few(), any::<bool>()).prop_map(|(turn, brief)| Call::Renew { turn, brief }),
        2 => (of(few()), 0_u8..4, any::<bool>(), 0_u8..5)
            .prop_map(|(turn, version, frozen, what)| Call::Read { turn, version, frozen, what }),
        2 => (few(), 0_u8..2).prop_map(|(turn, index)| Call::Delivered { turn, index }),
    ]
}

fn moves() -> impl Strategy<Value = Call> {
    use proptest::option::of;
    prop_oneof![
        3 => (few(), epoch(), 1_u8..3, few()).prop_map(|(life, next, from, nonce)| Call::OpenPull { life, next, from, nonce }),
        1 => few().prop_map(|nonce| Call::ClosePull { nonce }),
        4 => (few(), few(), of(epoch()), few()).prop_map(|(life, to, next, nonce)| Call::Agree { life, to, next, nonce }),
        4 => (few(), any::<bool>()).prop_map(|(nonce, waits)| Call::Freeze { nonce, waits }),
        3 => any::<bool>().prop_map(|exact| Call::Install { exact }),
        4 => (few(), prop::bool::weighted(0.1), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(nonce, large, totals, lie)| Call::Stage { nonce, large, totals, lie }),
        2 => (few(), epoch(), few()).prop_map(|(life, epoch, to)| Call::Done { life, epoch, to }),
        2 => epoch().prop_map(|epoch| Call::Settled { epoch }),
    ]
}

fn doubts() -> impl Strategy<Value = Call> {
    prop_oneof![
        2 => (any::<bool>(), few(), epoch(), few()).prop_map(|(exact, life, next, nonce)| Call::Ask { exact, life, next, nonce }),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(exact, installed)| Call::Answer { exact, installed }),
        1 => Just(Call::Restarted),
        1 => few().prop_map(|lost| Call::Abandon { lost }),
        1 => (epoch(), epoch(), few()).prop_map(|(epoch, by, to)| Call::Superseded { epoch, by, to }),
        2 => (few(), epoch(), few()).prop_map(|(life, epoch, to)| Call::HomeUpdate { life, epoch, to }),
        1 => (few(), epoch()).prop_map(|(life, epoch)| Call::HomeExpired { life, epoch }),
        1 => epoch().prop_map(|epoch| Call::Told { epoch }),
        2 => any::<bool>().prop_map(|always| Call::Expire { always }),
        2 => (few(), few()).prop_map(|(life, new)| Call::Rehome { life, new }),
        1 => epoch().prop_map(|epoch| Call::ExpiryTold { epoch }),
        1 => (any::<bool>(), epoch()).prop_map(|(right, epoch)| Call::Age { right, epoch }),
        1 => (few(), epoch(), few()).prop_map(|(life, epoch, to)| Call::Refresh { life, epoch, to }),
    ]
}

pub(crate) fn life(number: u8) -> Life {
    // Of three lives one is at home elsewhere.
    let home = node(if number == 2 { "middle" } else { "edge" });
    Life { home, incarnation: Incarnation(number.into()) }
}

pub(crate) fn place(number: u8) -> NodeName {
    node(NODES[usize::from(number)])
}
