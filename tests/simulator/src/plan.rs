//! What a seed decides before anything runs: the tree, the settings, the clients, and
//! which faults there are.

use std::fmt::Write as _;
use std::time::Duration;

use funicular::node::NodeConfig;
use funicular::session::{FunctionName, NodeName};

use crate::chance::Chance;

/// Every so many seeds, one tree of dozens of nodes and hundreds of sessions.
const LARGE_EVERY: u64 = 64;

/// How often messages go astray, in a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Astray {
    /// Lost on the way there.
    pub lost: u32,
    /// The answer is lost.
    pub unanswered: u32,
    /// Delivered twice.
    pub twice: u32,
    /// Delivered seconds later, when nobody waits any more.
    pub late: u32,
}

/// What goes wrong besides, once in so many milliseconds; zero is never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// A process ends and is started again.
    pub crash: u64,
    /// A store ends, and forgets what was not on disk.
    pub power_loss: u64,
    /// Nodes are cut off from others.
    pub partition: u64,
    /// A node takes long for everything.
    pub slow_node: u64,
    /// A store takes long for everything.
    pub slow_store: u64,
}

/// What a seed stands for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The tree in the topology's form.
    pub tree: String,
    /// The nodes' names, root first.
    pub sites: Vec<NodeName>,
    /// Where sessions are created.
    pub edges: Vec<usize>,
    /// One or two.
    pub functions: Vec<FunctionName>,
    /// Processes of a node that share its store.
    pub replicas: usize,
    /// Session ids.
    pub sessions: usize,
    /// Clients.
    pub clients: usize,
    /// How long clients and faults go on.
    pub lasts: Duration,
    /// A client's longest pause between two requests.
    pub pause: u64,
    /// A move once in so many milliseconds.
    pub moves: u64,
    /// Whether stores write everything at once (`appendfsync always`).
    pub always_synced: bool,
    /// How long a sync takes at most.
    pub sync: u64,
    /// Calls of a store whose outcome stays open, in a thousand.
    pub store_astray: u32,
    /// Messages.
    pub astray: Astray,
    /// What else goes wrong.
    pub mishaps: Mishaps,
    /// Whether a person gives a node up that does not come back for long.
    pub gives_up: bool,
    /// The settings, for the root; `here` and `function` change.
    pub config: NodeConfig,
}

impl Plan {
    /// What `seed` stands for.
    pub fn of(seed: u64) -> Self {
        let chance = Chance::new(seed, 1);
        let large = seed % LARGE_EVERY == LARGE_EVERY - 1;
        let (tree, sites, edges) = tree(&chance, large);
        let two = chance.hits(400);
        let names: &[&str] = if two { &["cart", "digest"] } else { &["cart"] };
        let functions: Vec<FunctionName> =
            names.iter().filter_map(|name| FunctionName::new(name).ok()).collect();
        let calm = chance.hits(125);
        let (astray, mishaps) = match calm {
            true => (Astray::default(), Mishaps::default()),
            false => (astray(&chance), mishaps(&chance)),
        };
        let config = config(&chance, &sites[0], &functions[0]);
        let (sessions, clients) = match large {
            true => (chance.between(200, 400), chance.between(60, 120)),
            false => (chance.between(8, 40), chance.between(4, 16)),
        };
        Self {
            seed,
            tree,
            sites,
            edges,
            functions,
            replicas: if chance.hits(200) { 2 } else { 1 },
            sessions: usize::try_from(sessions).unwrap_or(1),
            clients: usize::try_from(clients).unwrap_or(1),
            lasts: chance.millis(2_000, 8_000),
            pause: *chance.pick(&[60, 200, 600, 1500]),
            moves: *chance.pick(&[25, 80, 200, 500]),
            always_synced: chance.hits(250),
            sync: *chance.pick(&[2, 20, 100, 1000]),
            store_astray: if calm || chance.hits(700) { 0 } else { *chance.pick(&[2, 10, 40]) },
            astray,
            mishaps,
            gives_up: !calm && chance.hits(80),
            config,
        }
    }

    /// Whether nothing goes wrong: then no client may see an error.
    pub fn calm(&self) -> bool {
        self.astray == Astray::default()
            && self.mishaps == Mishaps::default()
            && self.store_astray == 0
            && !self.gives_up
    }

    /// Whether stores may forget.
    pub fn forgets(&self) -> bool {
        self.mishaps.power_loss > 0 && !self.always_synced
    }
}

fn astray(chance: &Chance) -> Astray {
    let often = |most: &[u32]| if chance.hits(500) { *chance.pick(most) } else { 0 };
    Astray {
        lost: often(&[2, 10, 50, 150]),
        unanswered: often(&[2, 10, 50, 150]),
        twice: often(&[2, 20, 100]),
        late: often(&[2, 10, 30]),
    }
}

fn mishaps(chance: &Chance) -> Mishaps {
    let once_in = |often: &[u64]| if chance.hits(450) { *chance.pick(often) } else { 0 };
    Mishaps {
        crash: once_in(&[150, 400, 1000, 3000]),
        power_loss: once_in(&[200, 500, 1500, 4000]),
        partition: once_in(&[500, 2000, 5000]),
        slow_node: once_in(&[500, 2000]),
        slow_store: once_in(&[500, 2000]),
    }
}

fn config(chance: &Chance, here: &NodeName, function: &FunctionName) -> NodeConfig {
    let mut config = NodeConfig::new(here.clone(), function.clone());
    config.recovery_interval = Duration::from_millis(*chance.pick(&[1000, 2000, 2000]));
    config.leaving_reads = Duration::from_millis(*chance.pick(&[0, 100, 1000, 1000]));
    config.pointer_fresh = Duration::from_millis(*chance.pick(&[0, 200, 2000, 10_000]));
    config.inline_max = *chance.pick(&[0, 64, 16 * 1024]);
    if chance.hits(250) {
        config.pointer_ttl = chance.millis(800, 4000);
        // Who follows a fresh pointer finds the next one there.
        config.pointer_fresh = config.pointer_fresh.min(config.pointer_ttl / 2);
    }
    if chance.hits(150) {
        config.session_ttl = chance.millis(1500, 5000);
    }
    if chance.hits(200) {
        config.max_moves_in = 1;
        config.max_moves_out = 2;
        config.max_moves_pair = 1;
    }
    // Sessions are small here: most are copied ahead all the same.
    config.precopy_min = *chance.pick(&[0, 0, 64, 64 * 1024]);
    config
}

/// A tree of two to four levels, the sites root first.
fn tree(chance: &Chance, large: bool) -> (String, Vec<NodeName>, Vec<usize>) {
    let levels = chance.between(2, 4);
    let (most, width) = if large { (48, 6) } else { (chance.between(3, 12), 3) };
    let mut yaml = String::from("levels: [");
    let names: Vec<String> = (0..levels).map(|level| format!("level-{level}")).collect();
    let _ = writeln!(yaml, "{}]\nroot:", names.join(", "));
    let mut grown = Grown { chance, levels, most, width, names: Vec::new(), edges: Vec::new() };
    grown.node(&mut yaml, 0);
    (yaml, grown.names, grown.edges)
}

struct Grown<'a> {
    chance: &'a Chance,
    levels: u64,
    most: u64,
    width: u64,
    names: Vec<NodeName>,
    edges: Vec<usize>,
}

impl Grown<'_> {
    /// Writes a node and what is below it; the first line is indented by the caller.
    fn node(&mut self, yaml: &mut String, level: u64) {
        let number = self.names.len();
        let name = format!("n{number}");
        let indent = "    ".repeat(usize::try_from(level).unwrap_or(0));
        let first = if level == 0 { "  ".to_owned() } else { String::new() };
        let _ = writeln!(yaml, "{first}name: {name}");
        let _ = writeln!(yaml, "{indent}  gateway: http://{name}.test");
        self.names.extend(NodeName::new(&name));
        if level + 1 == self.levels {
            self.edges.push(number);
            return;
        }
        let _ = writeln!(yaml, "{indent}  children:");
        let children = self.chance.between(1, self.width);
        for child in 0..children {
            if child > 0 && self.names.len() as u64 >= self.most {
                break;
            }
            let _ = write!(yaml, "{indent}    - ");
            self.node(yaml, level + 1);
        }
    }
}
