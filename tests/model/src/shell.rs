//! What a node does with a message, and when it looks after its session: the
//! protocol as the runtime's `node/` executes it, without the network.

use crate::messages::{Envelope, Message};
use crate::protocol::{Event, Refusal, Reply, went_on};
use crate::session::{Epoch, Life, NodeName, Nonce, Pull, Record, Transfer};
use crate::world::{NOW, SOON, Said, World, index, name};

fn transfer(pull: &Pull, to: &NodeName) -> Transfer {
    Transfer { to: to.clone(), next_epoch: pull.next_epoch, nonce: pull.nonce }
}

impl World {
    /// A target begins to pull a life that a source owned under `epoch`: it was
    /// offered, now or long ago.
    pub fn pull(&mut self, key: usize, (from, to): (usize, usize), life: &Life, epoch: Epoch) {
        let nonce = Nonce(u128::from(self.used.moves) + 1);
        let from_name = name(from).clone();
        let pull = Pull { life: life.clone(), next_epoch: epoch + 1, from: from_name, nonce };
        if !self.barred[to].contains(&from)
            && let Ok(Reply::Changed) = self.synced(to, key, &Event::OpenPull(pull.clone()))
        {
            self.used.moves += 1;
            self.send(key, to, from, Message::Open(pull));
        }
    }

    /// A message arrives.
    pub fn deliver(&mut self, envelope: &Envelope) {
        match &envelope.message {
            Message::Opened(_)
            | Message::Page(..)
            | Message::Install(_)
            | Message::Refused(_)
            | Message::Settled { .. }
            | Message::Superseded { .. }
            | Message::Ask { .. } => self.at_target(envelope),
            Message::Open(_)
            | Message::Freeze(_)
            | Message::Done { .. }
            | Message::Answer { .. } => self.at_source(envelope),
            _ => self.about_home(envelope),
        }
    }

    fn at_target(&mut self, envelope: &Envelope) {
        let Envelope { key, from, to: here, message } = envelope;
        let (key, from, here) = (*key, *from, *here);
        match message.clone() {
            Message::Opened(pull) => self.send(key, here, from, Message::Freeze(pull)),
            Message::Page(pull, data) => {
                if self.stage(here, key, &pull, data) {
                    self.send(key, here, here, Message::Install(pull));
                } else {
                    self.close(here, key, pull.nonce);
                }
            }
            Message::Install(pull) => {
                match self.synced(here, key, &Event::Install { pull: pull.clone() }) {
                    Ok(_) if !self.stumbles => self.look_after(here, key),
                    Ok(_) => {}
                    Err(_) => self.close(here, key, pull.nonce),
                }
            }
            Message::Refused(pull) => self.close(here, key, pull.nonce),
            Message::Settled { epoch } => {
                let _ = self.synced(here, key, &Event::Settled { epoch });
            }
            Message::Superseded { epoch, by } => {
                let to = name(from).clone();
                let _ = self.synced(here, key, &Event::Superseded { epoch, by_epoch: by, to });
            }
            Message::Ask { life, transfer } if !self.barred[here].contains(&from) => {
                let event = Event::Ask { life, transfer: transfer.clone() };
                if let Ok(reply) = self.synced(here, key, &event) {
                    let installed = matches!(reply, Reply::Installed { .. });
                    self.send(key, here, from, Message::Answer { transfer, installed });
                }
            }
            _ => {}
        }
    }

    fn at_source(&mut self, envelope: &Envelope) {
        let Envelope { key, from, to: here, message } = envelope;
        let (key, from, here) = (*key, *from, *here);
        let barred = self.barred[here].contains(&from);
        match message.clone() {
            Message::Open(pull) => {
                let transfer = transfer(&pull, name(from));
                let event = Event::Agree { life: pull.life.clone(), transfer };
                let agreed = self.synced(here, key, &event);
                let answer = match agreed {
                    Ok(_) if !barred => Message::Opened(pull),
                    _ => Message::Refused(pull),
                };
                self.send(key, here, from, answer);
            }
            Message::Freeze(pull) if barred => {
                self.send(key, here, from, Message::Refused(pull));
            }
            Message::Freeze(pull) => self.freeze(key, from, here, pull),
            // A node that was given up is told that alone.
            Message::Done { life, epoch } if barred => {
                if let Some(by) = went_on(self.slot(here, key), &life, epoch) {
                    self.send(key, here, from, Message::Superseded { epoch, by });
                }
            }
            Message::Done { life, epoch } => {
                let to = name(from).clone();
                match self.synced(here, key, &Event::Done { life, epoch, to }) {
                    Err(Refusal::Superseded { epoch: by }) => {
                        self.send(key, here, from, Message::Superseded { epoch, by });
                    }
                    Ok(_) => self.send(key, here, from, Message::Settled { epoch }),
                    Err(_) => {}
                }
            }
            Message::Answer { transfer, installed } => {
                let _ = self.synced(here, key, &Event::Answer { transfer, installed });
            }
            _ => {}
        }
    }

    fn freeze(&mut self, key: usize, from: usize, here: usize, pull: Pull) {
        let event = Event::Freeze { nonce: pull.nonce, wait_until: SOON };
        // A forgotten freeze is made good by the intent.
        match self.eventual(here, key, &event) {
            // It stands in line and comes again.
            Ok(Reply::FreezeWaits) => {}
            Ok(_) => {
                let data = self.known(here, key).data.clone();
                self.send(key, here, from, Message::Page(pull, data));
            }
            Err(_) => self.send(key, here, from, Message::Refused(pull)),
        }
    }

    fn about_home(&mut self, envelope: &Envelope) {
        let Envelope { key, from, to: here, message } = envelope;
        let (key, from, here) = (*key, *from, *here);
        let barred = self.barred[here].contains(&from);
        match message.clone() {
            Message::Update { life, epoch, at } if !barred => {
                let to = name(at).clone();
                let event = Event::HomeUpdate { life: life.clone(), epoch, to };
                match self.synced(here, key, &event) {
                    Err(Refusal::StaleEpoch { epoch: by }) if by > epoch && at == from => {
                        self.send(key, here, from, Message::Superseded { epoch, by });
                    }
                    Err(Refusal::StaleEpoch { epoch: known }) if known < epoch => {}
                    Ok(_) | Err(Refusal::StaleEpoch { .. }) => {
                        self.send(key, here, from, Message::Updated { life, epoch });
                    }
                    Err(_) => {}
                }
            }
            Message::Updated { life, epoch } => self.updated(here, key, &life, epoch),
            Message::Expired { life, epoch } if !barred => {
                match self.synced(here, key, &Event::HomeExpired { life, epoch }) {
                    Err(Refusal::StaleEpoch { epoch: known }) if known < epoch => {}
                    Ok(_) | Err(Refusal::StaleEpoch { .. }) => {
                        self.send(key, here, from, Message::ExpiryTaken { epoch });
                    }
                    Err(_) => {}
                }
            }
            Message::ExpiryTaken { epoch } => {
                let _ = self.eventual(here, key, &Event::ExpiryTold { epoch });
            }
            Message::Confirm { life, epoch } if self.slot(here, key).record.is_none() => {
                self.send(key, here, from, Message::Gone { life, epoch });
            }
            // An owner forgets last: what it does not know any more has ended.
            Message::Gone { life, epoch } => {
                let _ = self.synced(here, key, &Event::HomeExpired { life, epoch });
            }
            Message::Whereabouts { life, epoch } => {
                if let Some(record) = &self.slot(here, key).record
                    && *record.life() == life
                    && record.epoch() >= epoch
                {
                    let at = match record {
                        Record::Moved { to, .. } => index(to),
                        _ => here,
                    };
                    let place = Message::Place { life, epoch: record.epoch(), at };
                    self.send(key, here, from, place);
                }
            }
            Message::Place { life, epoch, at } if at != here => {
                let to = name(at).clone();
                let _ = self.eventual(here, key, &Event::Refresh { life, epoch, to });
            }
            _ => {}
        }
    }

    /// Home knows: an owner has told it; a pointer of that age may go.
    fn updated(&mut self, here: usize, key: usize, life: &Life, epoch: Epoch) {
        let event = match &self.slot(here, key).record {
            Some(Record::Moved { life: own, epoch: known, since, .. })
                if own == life && *known == epoch =>
            {
                Event::Age { epoch, since: *since }
            }
            _ => Event::Told { epoch },
        };
        let _ = self.eventual(here, key, &event);
    }

    fn stage(&mut self, node: usize, key: usize, pull: &Pull, data: Vec<u8>) -> bool {
        let known = self.known(node, key);
        let open = known.slot.pull.as_ref() == Some(pull);
        if open {
            let mut next = known.clone();
            next.stages.insert(pull.nonce, data);
            self.write(node, key, next);
        }
        open
    }

    /// A target gives a pull up.
    pub fn close(&mut self, node: usize, key: usize, nonce: Nonce) {
        let _ = self.synced(node, key, &Event::ClosePull { nonce });
    }

    /// An idle session ends.
    pub fn expire(&mut self, node: usize, key: usize) {
        let event = Event::Expire { unused_since: NOW };
        if let Ok(Reply::Changed) = self.synced(node, key, &event)
            && !self.stumbles
        {
            self.look_after(node, key);
        }
    }

    /// Whoever is in doubt asks, whoever has to tell something tells it.
    pub fn look_after(&mut self, node: usize, key: usize) {
        // Rule 3: what is said here may have been written by somebody who could not
        // wait for the disk.
        if !matches!(self.omits.sync, Some(Said::Yes | Said::Expiry)) {
            self.sync(node);
        }
        match self.slot(node, key).record.clone() {
            Some(
                Record::Migrating { life, transfer, .. }
                | Record::Owned { life, intent: Some(transfer), .. },
            ) => {
                let to = index(&transfer.to);
                if self.barred[node].contains(&to) {
                    let lost = transfer.to.clone();
                    let _ = self.synced(node, key, &Event::Abandon { lost });
                } else {
                    self.send(key, node, to, Message::Ask { life, transfer });
                }
            }
            Some(Record::Owned { life, epoch, unsettled, untold, .. }) => {
                if let Some(from) = unsettled {
                    let from = index(&from);
                    self.send(key, node, from, Message::Done { life: life.clone(), epoch });
                }
                if untold {
                    let home = index(&life.home);
                    self.send(key, node, home, Message::Update { life, epoch, at: node });
                }
            }
            Some(Record::Expired { life, epoch }) => {
                let home = index(&life.home);
                self.send(key, node, home, Message::Expired { life, epoch });
            }
            Some(Record::Moved { .. }) | None => {}
        }
    }

    /// A pointer is old. Away from home it asks home whether it may go; at home it
    /// asks where it leads whether there is anything left.
    pub fn age(&mut self, node: usize, key: usize) {
        let Some(Record::Moved { life, epoch, to, .. }) = self.slot(node, key).record.clone()
        else {
            return;
        };
        let (home, at) = (index(&life.home), index(&to));
        if home == node {
            self.send(key, node, at, Message::Confirm { life, epoch });
        } else {
            self.send(key, node, home, Message::Update { life, epoch, at });
        }
    }

    /// A pointer away from home is followed, and asks home on the way.
    pub fn follow(&mut self, node: usize, key: usize) {
        if let Some(Record::Moved { life, epoch, .. }) = self.slot(node, key).record.clone()
            && life.home != *name(node)
        {
            let home = index(&life.home);
            self.send(key, node, home, Message::Whereabouts { life, epoch });
        }
    }

    /// A person gives up the node that `node` waits for.
    pub fn abandon(&mut self, node: usize, key: usize) {
        let lost = match &self.slot(node, key).record {
            Some(
                Record::Migrating { transfer, .. } | Record::Owned { intent: Some(transfer), .. },
            ) => transfer.to.clone(),
            Some(Record::Owned { unsettled: Some(from), .. }) => from.clone(),
            _ => return,
        };
        let lost_node = index(&lost);
        // Two nodes that are given up for each other both go on; the docs say so.
        if self.ghost.given_up.iter().any(|known| *known != lost_node) {
            return;
        }
        self.used.given_up += 1;
        self.barred[node].insert(lost_node);
        self.happened().given_up.insert(lost_node);
        let _ = self.synced(node, key, &Event::Abandon { lost });
    }
}
