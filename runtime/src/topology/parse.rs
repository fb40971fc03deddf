//! From values with lines to a tree, or to everything that is wrong with it.

use std::collections::BTreeMap;

use super::yaml::{self, Key, Kind, Value};
use super::{Fault, Node, Place, Topology, TopologyError, address};
use crate::session::NodeName;

const TOP_KEYS: &[&str] = &["levels", "root"];
const NODE_KEYS: &[&str] =
    &["name", "gateway", "internal", "entry", "coordinates", "tags", "children"];

/// Words that make an unknown key look like a secret.
const SECRET_WORDS: &[&str] = &["secret", "password", "passwd", "token", "credential", "key"];

pub(super) fn parse(text: &str) -> Result<Topology, TopologyError> {
    let document = yaml::read(text).map_err(TopologyError::one)?;
    let mut reader = Reader::default();
    match document.filter(|value| !value.is_null()) {
        Some(document) => reader.document(&document),
        None => reader.fault(1, "the topology is empty; it needs `levels` and `root`"),
    }
    reader.finish()
}

/// Gathers nodes and faults on the way through the document.
#[derive(Default)]
struct Reader {
    levels: Option<Vec<String>>,
    places: Vec<Place>,
    entries: usize,
    /// Where each name was given first.
    names: BTreeMap<NodeName, usize>,
    /// Which node has each URL (both kinds), and on which line.
    urls: BTreeMap<String, UrlOwner>,
    faults: Vec<Fault>,
}

struct UrlOwner {
    /// The line the owning node starts on: tells a node's own second URL from another's.
    node_line: usize,
    line: usize,
}

/// A mapping whose keys were checked.
struct Fields<'a> {
    line: usize,
    entries: BTreeMap<&'a str, (usize, &'a Value)>,
}

impl<'a> Fields<'a> {
    /// A value that was given and is not null, with its key's line.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.entries.get(key).map(|(_, value)| *value).filter(|value| !value.is_null())
    }

    /// The line of a key, or of the mapping if the key is not there.
    fn line(&self, key: &str) -> usize {
        self.entries.get(key).map_or(self.line, |(line, _)| *line)
    }

    fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }
}

impl Reader {
    fn fault(&mut self, line: usize, message: impl Into<String>) {
        self.faults.push(Fault::new(line, message));
    }

    fn finish(mut self) -> Result<Topology, TopologyError> {
        if !self.faults.is_empty() {
            self.faults.sort();
            return Err(TopologyError { faults: self.faults });
        }
        Ok(Topology::assemble(self.levels.unwrap_or_default(), self.places))
    }

    fn document(&mut self, document: &Value) {
        let Some(fields) = self.fields(document, "the topology", TOP_KEYS) else { return };
        self.levels = self.read_levels(&fields);
        if let Some(root) = fields.get("root") {
            self.node(root, None, 0);
            if self.faults.is_empty() && self.entries == 0 {
                self.fault(
                    fields.line("root"),
                    "no node may create sessions; set `entry: true` on at least one",
                );
            }
        } else {
            self.fault(fields.line("root"), "`root` is missing; it is the tree's topmost node");
        }
    }

    /// A mapping's entries, each key known and given once.
    fn fields<'a>(&mut self, value: &'a Value, what: &str, known: &[&str]) -> Option<Fields<'a>> {
        let Kind::Map(entries) = &value.kind else {
            self.fault(
                value.line,
                format!(
                    "{what} is {}; it needs to be a mapping with {}",
                    value.describe(),
                    listed(known)
                ),
            );
            return None;
        };
        let mut fields = Fields { line: value.line, entries: BTreeMap::new() };
        for (key, value) in entries {
            if !known.contains(&key.name.as_str()) {
                self.unknown(key, what, known);
            } else if fields.has(&key.name) {
                let first = fields.line(&key.name);
                self.fault(
                    key.line,
                    format!("`{}` was given on line {first} already; keep one", key.name),
                );
            } else {
                fields.entries.insert(&key.name, (key.line, value));
            }
        }
        Some(fields)
    }

    fn unknown(&mut self, key: &Key, what: &str, known: &[&str]) {
        let name = key.name.to_ascii_lowercase();
        let message = if SECRET_WORDS.iter().any(|word| name.contains(word)) {
            format!(
                "`{}` looks like a secret, and topologies are no secret; \
                 move it to the function's secrets",
                key.name
            )
        } else {
            format!("`{}` is not known here; {what} has {}", key.name, listed(known))
        };
        self.fault(key.line, message);
    }

    fn read_levels(&mut self, fields: &Fields<'_>) -> Option<Vec<String>> {
        let example = "write them from the root down, like `levels: [country, city, district]`";
        let Some(value) = fields.get("levels") else {
            self.fault(fields.line("levels"), format!("`levels` is missing; {example}"));
            return None;
        };
        let Kind::List(items) = &value.kind else {
            self.fault(
                value.line,
                format!("`levels` is {}, not a list; {example}", value.describe()),
            );
            return None;
        };
        if items.is_empty() {
            self.fault(value.line, format!("`levels` is empty; {example}"));
            return None;
        }
        let mut levels: Vec<String> = Vec::new();
        for item in items {
            match self.text(item, "a level's name") {
                Some(level) if levels.contains(&level) => self.fault(
                    item.line,
                    format!("the level `{level}` is there twice; give each level its own name"),
                ),
                // A level that does not read still counts, or every node below
                // would be reported as too deep.
                level => levels.push(level.unwrap_or_default()),
            }
        }
        Some(levels)
    }

    fn node(&mut self, value: &Value, parent: Option<usize>, depth: usize) {
        let Some(fields) = self.fields(value, "a node", NODE_KEYS) else { return };
        let level = self.level(&fields, depth);
        let name = self.name(&fields);
        let gateway = self.url(&fields, "gateway");
        let internal = fields.get("internal").and_then(|_| self.url(&fields, "internal"));
        if fields.has("internal") && fields.get("internal").is_none() {
            self.fault(fields.line("internal"), "`internal` is empty; give a URL or leave it out");
        }
        if gateway.is_none() && fields.get("gateway").is_none() {
            self.fault(
                fields.line("gateway"),
                "`gateway` is missing; give the node's public URL, \
                 like `gateway: http://127.0.0.1:8081`",
            );
        }
        let children = self.children(&fields);
        let entry = self.entry(&fields).unwrap_or(children.is_empty());
        self.entries += usize::from(entry);
        let coordinates = self.coordinates(&fields);
        let tags = self.tags(&fields);
        let index = self.places.len();
        let complete = match (name, gateway) {
            (Some(name), Some(gateway)) => {
                let node = Node { name, gateway, internal, entry, coordinates, tags, level, depth };
                self.places.push(Place { node, parent, end: index + 1 });
                Some(index)
            }
            // There is a fault already: the tree will not be put together.
            _ => None,
        };
        for child in children {
            self.node(child, complete, depth + 1);
        }
    }

    fn level(&mut self, fields: &Fields<'_>, depth: usize) -> String {
        let Some(levels) = &self.levels else { return String::new() };
        if let Some(level) = levels.get(depth) {
            return level.clone();
        }
        let message = format!(
            "this node is {} deep, but only {} levels are named; add a level or move the node up",
            depth + 1,
            levels.len()
        );
        self.fault(fields.line, message);
        String::new()
    }

    fn name(&mut self, fields: &Fields<'_>) -> Option<NodeName> {
        let Some(value) = fields.get("name") else {
            self.fault(
                fields.line("name"),
                "`name` is missing; give the node a name of its own, like `name: milan`",
            );
            return None;
        };
        let text = self.text(value, "`name`")?;
        let name = match NodeName::new(&text) {
            Ok(name) => name,
            Err(error) => {
                self.fault(value.line, format!("{error}; rename the node"));
                return None;
            }
        };
        if let Some(first) = self.names.get(&name) {
            let message =
                format!("the name `{name}` was given on line {first} already; rename one of them");
            self.fault(value.line, message);
            return None;
        }
        self.names.insert(name.clone(), value.line);
        Some(name)
    }

    fn url(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let value = fields.get(key)?;
        let text = self.text(value, &format!("`{key}`"))?;
        let url = match address::normalize(&text) {
            Ok(url) => url,
            Err(why) => {
                self.fault(value.line, format!("`{key}`: {why}"));
                return None;
            }
        };
        match self.urls.get(&url) {
            Some(owner) if owner.node_line != fields.line => {
                let message = format!(
                    "`{key}`: {url} is another node's URL already (line {}); \
                     every node needs its own",
                    owner.line
                );
                self.fault(value.line, message);
                None
            }
            _ => {
                let owner = UrlOwner { node_line: fields.line, line: value.line };
                self.urls.insert(url.clone(), owner);
                Some(url)
            }
        }
    }

    fn children<'a>(&mut self, fields: &Fields<'a>) -> &'a [Value] {
        match fields.get("children").map(|value| (value, &value.kind)) {
            Some((_, Kind::List(items))) if !items.is_empty() => items,
            Some((value, kind)) if !matches!(kind, Kind::List(_)) => {
                self.fault(
                    value.line,
                    format!(
                        "`children` is {}, not a list; start each child with `- name: …`",
                        value.describe()
                    ),
                );
                &[]
            }
            None if !fields.has("children") => &[],
            _ => {
                self.fault(
                    fields.line("children"),
                    "`children` is empty; a node without children leaves it out",
                );
                &[]
            }
        }
    }

    fn entry(&mut self, fields: &Fields<'_>) -> Option<bool> {
        if !fields.has("entry") {
            return None;
        }
        match fields.get("entry").map(|value| &value.kind) {
            Some(Kind::Scalar { text, quoted: false }) if text == "true" => Some(true),
            Some(Kind::Scalar { text, quoted: false }) if text == "false" => Some(false),
            _ => {
                self.fault(
                    fields.line("entry"),
                    "`entry` is neither `true` nor `false`; it says whether sessions may be \
                     created here (leaves: true by default)",
                );
                None
            }
        }
    }

    fn coordinates(&mut self, fields: &Fields<'_>) -> Option<(f64, f64)> {
        if !fields.has("coordinates") {
            return None;
        }
        let numbers: Vec<Option<f64>> = match fields.get("coordinates").map(|value| &value.kind) {
            Some(Kind::List(items)) => items.iter().map(number).collect(),
            _ => Vec::new(),
        };
        match numbers[..] {
            [Some(latitude), Some(longitude)]
                if latitude.abs() <= 90.0 && longitude.abs() <= 180.0 =>
            {
                Some((latitude, longitude))
            }
            _ => {
                self.fault(
                    fields.line("coordinates"),
                    "`coordinates` are not a latitude (-90 to 90) and a longitude (-180 to 180); \
                     write them like `coordinates: [45.45, 9.17]`",
                );
                None
            }
        }
    }

    fn tags(&mut self, fields: &Fields<'_>) -> Vec<String> {
        if !fields.has("tags") {
            return Vec::new();
        }
        if let Some(Value { kind: Kind::List(items), .. }) = fields.get("tags") {
            return items.iter().filter_map(|item| self.text(item, "a tag")).collect();
        }
        self.fault(fields.line("tags"), "`tags` are not a list; write them like `tags: [gpu]`");
        Vec::new()
    }

    /// A single, non-empty value.
    fn text(&mut self, value: &Value, what: &str) -> Option<String> {
        match &value.kind {
            Kind::Scalar { text, .. } if !value.is_null() && !text.trim().is_empty() => {
                Some(text.clone())
            }
            _ => {
                let found = value.describe();
                self.fault(value.line, format!("{what} is {found}; write a plain word there"));
                None
            }
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    match &value.kind {
        Kind::Scalar { text, quoted: false } => {
            text.parse().ok().filter(|number: &f64| number.is_finite())
        }
        _ => None,
    }
}

fn listed(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
