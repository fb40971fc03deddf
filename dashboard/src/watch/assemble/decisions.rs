//! What oracles say, and what they have decided.

use std::collections::BTreeMap;

use funicular::session::NodeName;

use super::{Memory, turned};
use crate::watch::DECISIONS;
use crate::watch::answers::{DecisionSaid, OracleSaid};
use crate::watch::ask::DECISIONS as TOLD;
use crate::watch::view::{DecisionView, OracleView, Reach, SignalView, StandView, What};

impl Memory {
    pub(super) fn take_oracle(
        &mut self,
        node: &NodeName,
        at_ms: u64,
        said: Option<Result<OracleSaid, String>>,
    ) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        let Some(said) = said else { return };
        let reach = turned(&known.oracle.reach, at_ms, said.as_ref().err());
        match said {
            Err(_) => known.oracle = OracleView { reach, ..OracleView::default() },
            Ok(said) => {
                known.oracle = oracle_view(reach, &said);
                // The earliest first; nothing is news that was decided before we looked.
                let first = !self.decided.contains_key(node);
                let before = self.decided.get(node);
                let goes_on = said.decisions.iter().any(|decision| {
                    before.is_some_and(|told| told.contains_key(&(decision.id, decision.time_ms)))
                });
                if !goes_on && said.decisions.len() >= TOLD {
                    known.untold_ms = said.decisions.last().map(|earliest| earliest.time_ms);
                }
                let mut told = BTreeMap::new();
                for decision in said.decisions.iter().rev() {
                    let number = self.take_decision(node, decision, at_ms, first);
                    told.insert((decision.id, decision.time_ms), number);
                }
                self.decided.insert(node.clone(), told);
            }
        }
    }

    /// Keeps a decision, or what became of it since; returns its number here.
    fn take_decision(
        &mut self,
        node: &NodeName,
        said: &DecisionSaid,
        at_ms: u64,
        first: bool,
    ) -> u64 {
        let key = (said.id, said.time_ms);
        if let Some(number) = self.decided.get(node).and_then(|told| told.get(&key)).copied() {
            if let Some(known) = self.decisions.iter_mut().find(|known| known.number == number) {
                known.outcome.clone_from(&said.outcome);
                known.detail.clone_from(&said.detail);
            }
            return number;
        }
        let number = self.decisions_seen;
        self.decisions_seen += 1;
        let decision = DecisionView {
            number,
            node: node.clone(),
            at_ms: said.time_ms,
            function: said.decision.function.clone(),
            action: said.decision.action.word().to_owned(),
            session: said.decision.action.session.clone(),
            rule: said.decision.rule.clone(),
            why: said.decision.why.clone(),
            outcome: said.outcome.clone(),
            detail: said.detail.clone(),
        };
        if !first {
            let DecisionView { node, function, action, why, .. } = decision.clone();
            self.happened(at_ms, What::Decided { node, function, action, why });
        }
        let later = |other: &DecisionView| other.at_ms > decision.at_ms;
        let place = self.decisions.iter().position(|other| !later(other));
        self.decisions.insert(place.unwrap_or(self.decisions.len()), decision);
        self.decisions.truncate(DECISIONS);
        number
    }
}

fn oracle_view(reach: Reach, said: &OracleSaid) -> OracleView {
    let silent = said.sources.iter().filter_map(|it| Some((it.source.clone(), it.error.clone()?)));
    OracleView {
        reach,
        mode: Some(said.mode.clone()),
        functions: said
            .functions
            .iter()
            .map(|stand| StandView {
                function: stand.function.clone(),
                phase: stand.phase.clone(),
                why: stand.why.clone(),
                would_change: stand.would_change.clone(),
            })
            .collect(),
        signals: said
            .signals
            .iter()
            .map(|signal| SignalView {
                function: signal.function.clone(),
                name: signal.signal.clone(),
                value: signal.value,
            })
            .collect(),
        silent: silent.collect(),
    }
}
