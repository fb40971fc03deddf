//! YAML with lines: text to a small tree in which every value knows where it
//! stands, so that every fault can name its line.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::Fault;

/// Deeper texts are refused, so that no recursion over the tree runs out of stack.
const MAX_DEPTH: usize = 200;

/// One value and the line it starts on (from 1).
#[derive(Debug)]
pub(super) struct Value {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// `quoted` tells `"true"` from `true`.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Value>),
    /// In the order of the text.
    Map(Vec<(Key, Value)>),
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) name: String,
}

impl Value {
    /// Whether nothing was written: empty, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { text, quoted: false } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// What was found, for "…, not a list".
    pub(super) fn describe(&self) -> &'static str {
        match &self.kind {
            _ if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// A container that is still open.
enum Open {
    List(Vec<Value>),
    Map { entries: Vec<(Key, Value)>, key: Option<Key> },
}

/// Reads one document. An empty text is `None`.
pub(super) fn read(text: &str) -> Result<Option<Value>, Fault> {
    let mut stack: Vec<(usize, Open)> = Vec::new();
    let mut root = None;
    let mut documents = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            Fault::new(
                error.marker().line(),
                format!(
                    "the YAML does not read here: {}; check indentation, colons and quotes",
                    error.info()
                ),
            )
        })?;
        let line = span.start.line();
        let done = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(Fault::new(
                        line,
                        "a second document starts here; keep one tree a file",
                    ));
                }
                None
            }
            Event::Alias(_) => {
                return Err(Fault::new(
                    line,
                    "aliases (`*name`) are not read; write the value out",
                ));
            }
            Event::Scalar(text, style, ..) => {
                let quoted = style != ScalarStyle::Plain;
                Some(Value { line, kind: Kind::Scalar { text: text.into_owned(), quoted } })
            }
            Event::SequenceStart(..) => {
                open(&mut stack, span, Open::List(Vec::new()))?;
                None
            }
            Event::MappingStart(..) => {
                open(&mut stack, span, Open::Map { entries: Vec::new(), key: None })?;
                None
            }
            Event::SequenceEnd | Event::MappingEnd => stack.pop().map(|(line, open)| match open {
                Open::List(items) => Value { line, kind: Kind::List(items) },
                Open::Map { entries, .. } => Value { line, kind: Kind::Map(entries) },
            }),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => None,
        };
        if let Some(value) = done {
            put(&mut stack, &mut root, value)?;
        }
    }
    Ok(root)
}

fn open(stack: &mut Vec<(usize, Open)>, span: Span, open: Open) -> Result<(), Fault> {
    let line = span.start.line();
    if stack.len() == MAX_DEPTH {
        return Err(Fault::new(
            line,
            format!("nested deeper than {MAX_DEPTH}; a tree has a handful of levels"),
        ));
    }
    stack.push((line, open));
    Ok(())
}

/// Puts a finished value where it belongs: a list's next item, a mapping's key
/// or its value, or the document itself.
fn put(stack: &mut [(usize, Open)], root: &mut Option<Value>, value: Value) -> Result<(), Fault> {
    match stack.last_mut() {
        None => *root = Some(value),
        Some((_, Open::List(items))) => items.push(value),
        Some((_, Open::Map { entries, key })) => match key.take() {
            Some(key) => entries.push((key, value)),
            None => match value.kind {
                Kind::Scalar { text, .. } => *key = Some(Key { line: value.line, name: text }),
                _ => {
                    return Err(Fault::new(
                        value.line,
                        "a key here is a list or a mapping; keys are plain words",
                    ));
                }
            },
        },
    }
    Ok(())
}
