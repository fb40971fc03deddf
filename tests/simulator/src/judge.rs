//! The verdict: each life's history against its list at the end.
//!
//! A session is a list that each write appends a token of its own to, and each answer
//! shows the list. So the list at the end is the one order in which writes took effect;
//! a history is linearizable if all answers show a beginning of it, longer ones never
//! before shorter ones, and nobody sees less than had been answered before he asked.
//! What a store was allowed to forget stands aside.

use std::collections::{BTreeMap, BTreeSet};

use crate::function::{CALLED, GOT, LOG, Token, Tokens};
use crate::shadow::{LifeKey, Refused, Seen, Story};

/// What there was, and what is there at the end.
pub struct Evidence {
    /// What was seen to happen.
    pub stories: BTreeMap<LifeKey, Story>,
    /// Requests that were answered with "nothing was written".
    pub refused: BTreeSet<Refused>,
    /// Propagated values, and to how many nodes.
    pub sent: BTreeMap<Token, u64>,
    /// What owners have at the end.
    pub lists: BTreeMap<LifeKey, Tokens>,
    /// A node was given up for a while: what was sent to it may have been dropped.
    pub gives_up: bool,
}

impl Evidence {
    /// Everything that is wrong, one sentence each.
    pub fn judge(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (key, story) in &self.stories {
            if !story.forked {
                let ended = story.ended.as_ref();
                let list = self.lists.get(key).or(ended).and_then(|lists| lists.get(LOG));
                let name = format!("{} of {:?}", key.1, key.2);
                judge_life(&name, story, list.map_or(&[], Vec::as_slice), &mut wrong);
            }
        }
        for (f, id, token) in &self.refused {
            if self.times(*f, id.as_str(), LOG, *token) > 0 {
                wrong.push(format!("{id} kept {token}, though its writer was told it did not"));
            }
        }
        self.judge_messages(&mut wrong);
        wrong
    }

    fn times(&self, f: usize, id: &str, list: &str, token: Token) -> usize {
        let lives =
            self.lists.iter().filter(|((g, session, _), _)| *g == f && session.as_str() == id);
        lives
            .map(|(_, lists)| {
                lists.get(list).map_or(0, |all| all.iter().filter(|one| **one == token).count())
            })
            .sum()
    }

    /// Propagated and passed on values were taken once by each receiver.
    fn judge_messages(&self, wrong: &mut Vec<String>) {
        let mut found: BTreeMap<(&str, Token), Vec<&LifeKey>> = BTreeMap::new();
        let ended =
            self.stories.iter().filter_map(|(key, story)| Some((key, story.ended.as_ref()?)));
        for (key, lists) in self.lists.iter().chain(ended) {
            for list in [GOT, CALLED] {
                for token in lists.get(list).into_iter().flatten() {
                    found.entry((list, *token)).or_default().push(key);
                }
            }
        }
        // A life that ended, or that a person split, took its memory along.
        if self.stories.values().any(|story| story.ended.is_some() || story.forked) {
            return;
        }
        let shaken: BTreeSet<Token> = self
            .stories
            .values()
            .flat_map(|story| &story.shaken)
            .map(|(_, token)| *token)
            .collect();
        for ((list, token), holders) in &found {
            let most = if *list == GOT { self.sent.get(token).copied().unwrap_or(16) } else { 1 };
            let times = taken(holders);
            if times > most && !shaken.contains(token) {
                wrong.push(format!("G3: {token} was taken {times} times, not {most}"));
            }
        }
        for (token, targets) in &self.sent {
            let times = found.get(&(GOT, *token)).map_or(0, |holders| holders.len() as u64);
            if times < *targets && !self.gives_up && !shaken.contains(token) {
                wrong.push(format!("G2: {token} was taken {times} times, not {targets}"));
            }
        }
    }
}

/// How often a value was taken by lives of these ids. A message names an id: a repeat of
/// it that meets another life of the id than the first time is new to that life, so
/// that each id counts as often as the life that has the value most often.
fn taken(holders: &[&LifeKey]) -> u64 {
    let mut each: BTreeMap<&LifeKey, u64> = BTreeMap::new();
    for key in holders {
        *each.entry(key).or_default() += 1;
    }
    let mut ids: BTreeMap<_, u64> = BTreeMap::new();
    for ((function, id, _), times) in each {
        let most = ids.entry((function, id)).or_default();
        *most = times.max(*most);
    }
    ids.values().sum()
}

fn judge_life(name: &str, story: &Story, list: &[Token], wrong: &mut Vec<String>) {
    let mut places: BTreeMap<Token, usize> = BTreeMap::new();
    let aside = |token: &Token| story.shaken.contains(&(LOG, *token));
    let firm: Vec<Token> = list.iter().filter(|token| !aside(token)).copied().collect();
    for (place, token) in list.iter().enumerate() {
        if places.insert(*token, place).is_some() {
            wrong.push(format!("G3: {name} holds {token} twice: {list:?}"));
        }
    }
    for seen in &story.seen {
        if let Some(token) = seen.wrote
            && !places.contains_key(&token)
            && !story.forgotten.contains(&(LOG, token))
            && !story.vanished
        {
            wrong.push(format!("G2: {name} lost {token}, acknowledged at {:?}", seen.ended));
        }
        let saw: Vec<Token> = seen.list.iter().filter(|token| !aside(token)).copied().collect();
        if !firm.starts_with(&saw) && !story.vanished {
            wrong.push(format!("{name} was never {saw:?}; it is {firm:?}"));
        }
    }
    judge_time(name, story, aside, wrong);
}

/// Who asks after somebody was answered sees no less than he did.
fn judge_time(name: &str, story: &Story, aside: impl Fn(&Token) -> bool, wrong: &mut Vec<String>) {
    let len = |seen: &Seen| seen.list.iter().filter(|token| !aside(token)).count();
    let mut asked: Vec<&Seen> = story.seen.iter().collect();
    let mut answered = asked.clone();
    asked.sort_by_key(|seen| seen.began);
    answered.sort_by_key(|seen| seen.ended);
    let mut answered = answered.into_iter().peekable();
    let mut most: Option<&Seen> = None;
    for seen in asked {
        while let Some(done) = answered.next_if(|done| done.ended < seen.began) {
            if most.is_none_or(|most| len(most) < len(done)) {
                most = Some(done);
            }
        }
        if let Some(most) = most.filter(|most| len(most) > len(seen)) {
            wrong.push(format!(
                "G5: {name} was {:?} to one who asked at {:?}, though {:?} was answered at {:?}",
                seen.list, seen.began, most.list, most.ended
            ));
        }
    }
}
