//! The bounds that are explored.

use std::str::FromStr;

use crate::actions::Scope;

/// One session, one life; nothing happens to it.
const ONE: Scope = Scope {
    name: "",
    keys: 1,
    always: false,
    moved: false,
    moves: 0,
    writes: 1,
    ids: 1,
    lives: 1,
    crashes: 0,
    stumbles: 0,
    lapses: 0,
    given_up: 0,
    expiry: false,
    pointers: false,
};

/// Clients repeat what they sent while the session moves and leases run out.
pub const REPEATS: Scope = Scope { name: "repeats", moves: 1, writes: 3, ids: 2, lapses: 1, ..ONE };

/// A session moves twice, and a store comes back without its last writes.
pub const CRASHES: Scope = Scope { name: "crashes", moves: 2, crashes: 1, ..ONE };

/// Besides that, a process ends between a step and its sync.
pub const STUMBLES: Scope = Scope {
    name: "stumbles",
    moves: 1,
    writes: 2,
    ids: 2,
    crashes: 1,
    stumbles: 1,
    lapses: 1,
    ..ONE
};

/// A session expires where it was moved to and is created anew; pointers age and are
/// followed.
pub const ENDINGS: Scope = Scope {
    name: "endings",
    moves: 1,
    writes: 2,
    lives: 2,
    crashes: 1,
    expiry: true,
    pointers: true,
    ..ONE
};

/// A session that is away from home moves on, expires, and a store crashes.
pub const AWAY: Scope =
    Scope { name: "away", moved: true, moves: 2, crashes: 1, expiry: true, pointers: true, ..ONE };

/// A session that is away from home moves on, and on again.
pub const TOUR: Scope =
    Scope { name: "tour", always: true, moved: true, moves: 2, pointers: true, ..ONE };

/// Two clients use the same id at two edges, and both sessions move.
pub const HOMES: Scope = Scope { name: "homes", moves: 2, writes: 2, lives: 2, ..ONE };

/// Two sessions share stores that crash.
pub const SESSIONS: Scope =
    Scope { name: "sessions", keys: 2, moves: 1, writes: 2, lives: 2, crashes: 1, ..ONE };

/// A person gives a node up, which then returns.
pub const GIVEN_UP: Scope = Scope { name: "given-up", moves: 2, given_up: 1, ..ONE };

/// A session is written to between its moves.
pub const WRITES: Scope =
    Scope { name: "writes", always: true, moves: 2, writes: 2, ids: 2, ..ONE };

/// What `make test` explores: a minute all in all.
pub const SMALL: &[Scope] =
    &[REPEATS, CRASHES, STUMBLES, ENDINGS, AWAY, TOUR, HOMES, SESSIONS, GIVEN_UP, WRITES];

/// What `make model` explores besides: minutes each.
pub const LARGE: &[Scope] = &[
    Scope { name: "two crashes", crashes: 2, ..CRASHES },
    Scope { name: "two crashes and a stumble", crashes: 2, ..STUMBLES },
    Scope { name: "three moves", always: true, moves: 3, ..ONE },
    Scope { name: "writes between moves and a crash", always: false, crashes: 1, ..WRITES },
    Scope { name: "endings after two moves", moves: 2, ..ENDINGS },
    Scope { name: "homes and a crash", crashes: 1, ..HOMES },
    Scope { name: "sessions that move twice", moves: 2, crashes: 0, ..SESSIONS },
    Scope { name: "given up and a crash", crashes: 1, ..GIVEN_UP },
    // The session came from another node than home, and goes on from there without the
    // node that was given up.
    Scope { name: "given up away from home", always: true, moved: true, moves: 3, ..GIVEN_UP },
];

impl FromStr for Scope {
    type Err = String;

    /// The name of a small scope, perhaps with other bounds: `crashes moves=1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, bounds) = text.split_once(' ').unwrap_or((text, ""));
        let named = SMALL.iter().chain(LARGE).find(|scope| scope.name == name);
        let mut scope = *named.ok_or_else(|| {
            let names: Vec<_> = SMALL.iter().map(|scope| scope.name).collect();
            format!("{name:?} is no scope; there are {}", names.join(", "))
        })?;
        for bound in bounds.split_whitespace() {
            let (what, number) = bound.split_once('=').unwrap_or((bound, ""));
            let number: u8 = number.parse().map_err(|_| format!("{bound:?} has no number"))?;
            let field = match what {
                "always" => {
                    scope.always = number > 0;
                    continue;
                }
                "moved" => {
                    scope.moved = number > 0;
                    continue;
                }
                "moves" => &mut scope.moves,
                "writes" => &mut scope.writes,
                "ids" => &mut scope.ids,
                "lives" => &mut scope.lives,
                "crashes" => &mut scope.crashes,
                "stumbles" => &mut scope.stumbles,
                "lapses" => &mut scope.lapses,
                "given-up" => &mut scope.given_up,
                _ => return Err(format!("{what:?} is no bound of a scope")),
            };
            *field = number;
        }
        Ok(scope)
    }
}
