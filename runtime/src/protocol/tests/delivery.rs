//! What a node does with a message, and when it looks after its session: the
//! protocol as `node/` executes it, without the network.

use super::world::{Envelope, Message, World};
use crate::protocol::{Event, Refusal, Reply, went_on};
use crate::session::{Epoch, Life, Nonce, Pull, Record, Transfer};

fn transfer(pull: &Pull, to: &crate::session::NodeName) -> Transfer {
    Transfer { to: to.clone(), next_epoch: pull.next_epoch, nonce: pull.nonce }
}

impl World {
    /// A message arrives.
    pub(super) fn deliver(&mut self, envelope: Envelope) {
        let Envelope { from, to: here, message } = envelope;
        match message {
            Message::Offer { .. }
            | Message::Opened(_)
            | Message::Page(..)
            | Message::Install(_)
            | Message::Refused(_)
            | Message::Settled { .. }
            | Message::Superseded { .. }
            | Message::Ask { .. } => self.at_target(from, here, message),
            Message::Open(_)
            | Message::Freeze(_)
            | Message::Done { .. }
            | Message::Answer { .. } => {
                self.at_source(from, here, message);
            }
            _ => self.about_home(from, here, message),
        }
    }

    fn at_target(&mut self, from: usize, here: usize, message: Message) {
        match message {
            Message::Offer { life, epoch } => {
                let nonce = Nonce(u128::from(self.fresh()));
                let source = self.names[from].clone();
                let pull = Pull { life, next_epoch: epoch + 1, from: source, nonce };
                if from != here
                    && !self.barred[here].contains(&from)
                    && let Some(Ok(_)) = self.synced(here, &Event::OpenPull(pull.clone()))
                {
                    self.send(here, from, Message::Open(pull));
                }
            }
            Message::Opened(pull) => self.send(here, from, Message::Freeze(pull)),
            Message::Page(pull, data) => {
                if self.stage(here, &pull, data) {
                    self.send(here, here, Message::Install(pull));
                } else {
                    self.close(here, pull.nonce);
                }
            }
            Message::Install(pull) => {
                match self.synced(here, &Event::Install { pull: pull.clone() }) {
                    Some(Ok(_)) => self.look_after(here),
                    Some(Err(_)) => self.close(here, pull.nonce),
                    None => {}
                }
            }
            Message::Refused(pull) => self.close(here, pull.nonce),
            Message::Settled { epoch } => drop(self.synced(here, &Event::Settled { epoch })),
            Message::Superseded { epoch, by } => {
                let to = self.names[from].clone();
                drop(self.synced(here, &Event::Superseded { epoch, by_epoch: by, to }));
            }
            Message::Ask { life, transfer } if !self.barred[here].contains(&from) => {
                let event = Event::Ask { life, transfer: transfer.clone() };
                if let Some(Ok(reply)) = self.synced(here, &event) {
                    let installed = matches!(reply, Reply::Installed { .. });
                    self.send(here, from, Message::Answer { transfer, installed });
                }
            }
            _ => {}
        }
    }

    fn at_source(&mut self, from: usize, here: usize, message: Message) {
        let barred = self.barred[here].contains(&from);
        match message {
            Message::Open(pull) => {
                let transfer = transfer(&pull, &self.names[from]);
                let event = Event::Agree { life: pull.life.clone(), transfer };
                match self.synced(here, &event) {
                    Some(Ok(_)) if !barred => self.send(here, from, Message::Opened(pull)),
                    Some(_) => self.send(here, from, Message::Refused(pull)),
                    None => {}
                }
            }
            Message::Freeze(pull) if barred => self.send(here, from, Message::Refused(pull)),
            Message::Freeze(pull) => self.freeze(from, here, pull),
            // A node that was given up is told that alone.
            Message::Done { life, epoch } if barred => {
                if let Some(by) = went_on(self.slot(here), &life, epoch) {
                    self.send(here, from, Message::Superseded { epoch, by });
                }
            }
            Message::Done { life, epoch } => {
                let to = self.names[from].clone();
                match self.synced(here, &Event::Done { life, epoch, to }) {
                    Some(Err(Refusal::Superseded { epoch: by })) => {
                        self.send(here, from, Message::Superseded { epoch, by });
                    }
                    Some(Ok(_)) => self.send(here, from, Message::Settled { epoch }),
                    _ => {}
                }
            }
            Message::Answer { transfer, installed } => {
                drop(self.synced(here, &Event::Answer { transfer, installed }));
            }
            _ => {}
        }
    }

    fn freeze(&mut self, from: usize, here: usize, pull: Pull) {
        let event = Event::Freeze { nonce: pull.nonce, wait_until: self.now + 10 };
        // A forgotten freeze is made good by the intent.
        match self.eventual(here, &event) {
            // It stands in line and tries again.
            Ok(Reply::FreezeWaits) => self.send(from, here, Message::Freeze(pull)),
            Ok(_) => {
                let data = self.stores[here].known().data.clone();
                self.send(here, from, Message::Page(pull, data));
            }
            Err(_) => self.send(here, from, Message::Refused(pull)),
        }
    }

    fn about_home(&mut self, from: usize, here: usize, message: Message) {
        let barred = self.barred[here].contains(&from);
        match message {
            Message::Update { life, epoch, at } if !barred => {
                let to = self.names[at].clone();
                let event = Event::HomeUpdate { life: life.clone(), epoch, to };
                match self.synced(here, &event) {
                    Some(Err(Refusal::StaleEpoch { epoch: by })) if by > epoch && at == from => {
                        self.send(here, from, Message::Superseded { epoch, by });
                    }
                    Some(Err(Refusal::StaleEpoch { epoch: known })) if known < epoch => {}
                    Some(Ok(_) | Err(Refusal::StaleEpoch { .. })) => {
                        self.send(here, from, Message::Updated { life, epoch });
                    }
                    _ => {}
                }
            }
            Message::Updated { life, epoch } => self.updated(here, &life, epoch),
            Message::Expired { life, epoch } if !barred => {
                match self.synced(here, &Event::HomeExpired { life, epoch }) {
                    Some(Err(Refusal::StaleEpoch { epoch: known })) if known < epoch => {}
                    Some(Ok(_) | Err(Refusal::StaleEpoch { .. })) => {
                        self.send(here, from, Message::ExpiryTaken { epoch });
                    }
                    _ => {}
                }
            }
            Message::ExpiryTaken { epoch } => {
                drop(self.eventual(here, &Event::ExpiryTold { epoch }));
            }
            Message::Whereabouts { life, epoch } => {
                if let Some(record) = self.record(here)
                    && *record.life() == life
                    && record.epoch() >= epoch
                {
                    let at = match record {
                        Record::Moved { to, .. } => to.clone(),
                        _ => self.names[here].clone(),
                    };
                    let place = Message::Place { life, epoch: record.epoch(), at };
                    self.send(here, from, place);
                }
            }
            Message::Place { life, epoch, at } if at != self.names[here] => {
                drop(self.eventual(here, &Event::Refresh { life, epoch, to: at }));
            }
            _ => {}
        }
    }

    /// Home knows: an owner has told it; a pointer of that age may go.
    fn updated(&mut self, here: usize, life: &Life, epoch: Epoch) {
        let event = match self.record(here) {
            Some(Record::Moved { life: own, epoch: known, since, .. })
                if own == life && *known == epoch =>
            {
                Event::Age { epoch, since: *since }
            }
            _ => Event::Told { epoch },
        };
        drop(self.eventual(here, &event));
    }

    pub(super) fn close(&mut self, node: usize, nonce: Nonce) {
        drop(self.synced(node, &Event::ClosePull { nonce }));
    }

    /// Whoever is in doubt asks, whoever has to tell something tells it.
    pub(super) fn look_after(&mut self, node: usize) {
        // Rule 3: what is said here may have been written by somebody who could not
        // wait for the disk.
        self.sync(node);
        match self.record(node).cloned() {
            Some(
                Record::Migrating { life, transfer, .. }
                | Record::Owned { life, intent: Some(transfer), .. },
            ) => {
                let to = self.index(&transfer.to);
                if self.barred[node].contains(&to) {
                    let lost = transfer.to.clone();
                    drop(self.synced(node, &Event::Abandon { lost }));
                } else {
                    self.send(node, to, Message::Ask { life, transfer });
                }
            }
            Some(Record::Owned { life, epoch, unsettled, untold, .. }) => {
                if let Some(from) = unsettled {
                    let from = self.index(&from);
                    self.send(node, from, Message::Done { life: life.clone(), epoch });
                }
                if untold {
                    let home = self.index(&life.home);
                    self.send(node, home, Message::Update { life, epoch, at: node });
                }
            }
            Some(Record::Expired { life, epoch }) => {
                let home = self.index(&life.home);
                self.send(node, home, Message::Expired { life, epoch });
            }
            Some(Record::Moved { .. }) | None => {}
        }
    }

    /// A pointer is old: away from home it asks home whether it may go.
    pub(super) fn age(&mut self, node: usize) {
        if let Some(Record::Moved { life, epoch, to, .. }) = self.record(node).cloned()
            && life.home != self.names[node]
        {
            let (home, at) = (self.index(&life.home), self.index(&to));
            self.send(node, home, Message::Update { life, epoch, at });
        }
    }

    /// A pointer is followed, and asks home on the way.
    pub(super) fn follow(&mut self, node: usize) {
        if let Some(Record::Moved { life, epoch, .. }) = self.record(node).cloned()
            && life.home != self.names[node]
        {
            let home = self.index(&life.home);
            self.send(node, home, Message::Whereabouts { life, epoch });
        }
    }

    /// A person gives up the node that `node` waits for.
    pub(super) fn abandon(&mut self, node: usize) {
        let lost = match self.record(node) {
            Some(
                Record::Migrating { transfer, .. } | Record::Owned { intent: Some(transfer), .. },
            ) => transfer.to.clone(),
            Some(Record::Owned { unsettled: Some(from), .. }) => from.clone(),
            _ => return,
        };
        let index = self.index(&lost);
        // Two nodes that are given up for each other both go on; the docs say so.
        if self.ghost.given_up.iter().any(|known| *known != index) {
            return;
        }
        self.barred[node].insert(index);
        self.ghost.given_up.insert(index);
        drop(self.synced(node, &Event::Abandon { lost }));
    }
}
