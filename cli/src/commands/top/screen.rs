//! The terminal, and everything that waits: keys, views, answers, signals.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use funicular::topology::Topology;
use funicular_dashboard::watch::Watcher;
use funicular_dashboard::watch::view::View;
use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, KeyEventKind};
use ratatui::crossterm::execute;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::act::perform;
use super::draw::{Theme, draw};
use super::state::{Action, Said, State};
use super::update::{Effect, Event, update};
use crate::client::Client;
use crate::exit::Failure;

/// Views are drawn no more often than this; a key's effect is seen at once.
const FRAME: Duration = Duration::from_millis(100);

/// Shows the tree until somebody wants no more.
pub(super) async fn run(watcher: &Watcher, topology: &Topology, client: Client) -> Result<()> {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut waiting = Waiting {
        keys: keys(),
        views: watcher.subscribe(),
        not_before: Instant::now(),
        calls: JoinSet::new(),
        ends: [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
            .into_iter()
            .map(signal)
            .collect::<Result<_, _>>()?,
    };
    let mut screen = Screen::open()?;
    let (mut state, mut view) = (State::default(), watcher.latest());
    (state, _) = update(state, &view, Event::View);
    loop {
        screen.0.draw(|frame| draw(frame, &view, &state, Theme { colour }))?;
        let event = waiting.next(&mut view).await?;
        let (next, effects) = update(state, &view, event);
        state = next;
        for effect in effects {
            match effect {
                Effect::Quit => return Ok(()),
                Effect::Act(action) => waiting.call(topology, &client, action),
            }
        }
    }
}

/// The terminal, which is given back as it was: at the end, and when something panics.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self> {
        let terminal = ratatui::try_init().context("the terminal cannot be used")?;
        // What is pasted is text: its letters are no keys that move something.
        execute!(std::io::stdout(), EnableBracketedPaste)?;
        let restoring = std::panic::take_hook();
        // A task's panic would leave the program drawing over what it says.
        std::panic::set_hook(Box::new(move |info| {
            restoring(info);
            let _ = execute!(std::io::stdout(), DisableBracketedPaste, Show);
            std::process::exit(101);
        }));
        Ok(Self(terminal))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
        // Nobody is left to tell if the terminal has gone.
        let _ = execute!(std::io::stdout(), DisableBracketedPaste);
        let _ = self.0.show_cursor();
    }
}

/// Everything that may happen.
struct Waiting {
    keys: mpsc::UnboundedReceiver<std::io::Result<event::Event>>,
    views: watch::Receiver<Arc<View>>,
    /// The next view is taken then.
    not_before: Instant,
    calls: JoinSet<Said>,
    ends: Vec<Signal>,
}

impl Waiting {
    /// What happens next.
    async fn next(&mut self, view: &mut Arc<View>) -> Result<Event> {
        let Self { keys, views, not_before, calls, ends } = self;
        loop {
            let new_view = async {
                tokio::time::sleep_until(*not_before).await;
                views.changed().await
            };
            let end =
                futures_util::future::select_all(ends.iter_mut().map(|end| Box::pin(end.recv())));
            tokio::select! {
                key = keys.recv() => match key.context("no more keys can be read")?? {
                    event::Event::Key(key) if key.kind != KeyEventKind::Release => {
                        return Ok(Event::Key(key));
                    }
                    event::Event::Paste(text) => return Ok(Event::Pasted(text)),
                    event::Event::Resize(..) => return Ok(Event::Resized),
                    _ => {}
                },
                changed = new_view => {
                    changed.context("nobody watches the tree any more")?;
                    *view = Arc::clone(&views.borrow_and_update());
                    *not_before = Instant::now() + FRAME;
                    return Ok(Event::View);
                }
                Some(said) = calls.join_next() => return Ok(Event::Done(said?)),
                _ = end => {
                    return Err(Failure::Interrupted("it was told to end".to_owned()).into());
                }
            }
        }
    }

    fn call(&mut self, topology: &Topology, client: &Client, action: Action) {
        let (node, client) = (topology.node(&action.node).cloned(), client.clone());
        self.calls.spawn(async move {
            match node {
                Some(node) => perform(&client, &node, &action).await,
                // A view only has nodes of the tree; a session's home may have left it.
                None => Said::bad(format!("`{}` is not in the tree", action.node)),
            }
        });
    }
}

/// What is typed, from a thread of its own: it waits in the system, not in a task.
fn keys() -> mpsc::UnboundedReceiver<std::io::Result<event::Event>> {
    let (say, typed) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let last = event.is_err();
            if say.send(event).is_err() || last {
                return;
            }
        }
    });
    typed
}
