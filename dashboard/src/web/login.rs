//! Who has shown the operators' key. The key itself is compared and forgotten: a browser gets
//! a random token, which means something to this process alone.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use funicular::http::signature::Secret;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pages::Notice;

/// How long a login lasts at most, and how long unused.
const LASTS: Duration = Duration::from_secs(8 * 3600);
const UNUSED: Duration = Duration::from_secs(3600);
/// So many at once; the one that was unused for the longest time goes.
const MOST: usize = 64;
/// So many wrong keys in a row, then one in such a time.
const TRIES: u32 = 5;
const ONE_IN: Duration = Duration::from_secs(5);

/// Why a key did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is another one.
    Wrong,
    /// There were too many wrong ones of late; try again then.
    Later(Duration),
}

/// Who may act.
pub(super) struct Logins {
    key: Option<Secret>,
    cookie: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashMap<String, Login>,
    wrong: u32,
    last_wrong: Option<Instant>,
}

struct Login {
    since: Instant,
    used: Instant,
    notice: Option<Notice>,
}

impl Logins {
    /// With the operators' key; without one nobody is. Cookies do not tell ports apart, so
    /// that `port` is part of the name.
    pub(super) fn new(key: Option<Secret>, port: u16) -> Self {
        Self { key, cookie: format!("funicular-operator-{port}"), state: Mutex::default() }
    }

    /// Whether there is a key that could be shown.
    pub(super) fn possible(&self) -> bool {
        self.key.is_some()
    }

    /// Somebody shows a key; what is returned is the cookie to set.
    pub(super) fn open(&self, given: &str) -> Result<String, Refused> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(last) = state.last_wrong {
            // Each while without a wrong one makes up for one.
            let passed = u32::try_from(last.elapsed().as_secs() / ONE_IN.as_secs());
            let passed = passed.unwrap_or(u32::MAX);
            if passed > 0 {
                state.wrong = state.wrong.saturating_sub(passed);
                state.last_wrong = Some(now);
            }
            if state.wrong >= TRIES {
                return Err(Refused::Later(ONE_IN.saturating_sub(last.elapsed())));
            }
        }
        if !self.key.as_ref().is_some_and(|key| key.is(given.as_bytes())) {
            state.wrong += 1;
            state.last_wrong = Some(now);
            return Err(Refused::Wrong);
        }
        state.forget_old(now);
        if state.open.len() >= MOST
            && let Some(oldest) = state.open.iter().min_by_key(|(_, login)| login.used)
        {
            let oldest = oldest.0.clone();
            state.open.remove(&oldest);
        }
        let token = token();
        state.open.insert(token.clone(), Login { since: now, used: now, notice: None });
        Ok(self.set_cookie(&token, LASTS))
    }

    /// Ends a login; what is returned is the cookie to set.
    pub(super) fn close(&self, headers: &HeaderMap) -> String {
        if let Some(token) = self.token(headers) {
            self.state.lock().open.remove(token);
        }
        self.set_cookie("", Duration::ZERO)
    }

    /// Whether whoever sends this has shown the key.
    pub(super) fn is_operator(&self, headers: &HeaderMap) -> bool {
        self.with(headers, |_| ()).is_some()
    }

    /// The same, for a page that is open anyway: that is no use of the login.
    pub(super) fn is_still_operator(&self, headers: &HeaderMap) -> bool {
        let Some(token) = self.token(headers) else { return false };
        let mut state = self.state.lock();
        state.forget_old(Instant::now());
        state.open.contains_key(token)
    }

    /// Keeps what became of something until the next page is shown.
    pub(super) fn leave(&self, headers: &HeaderMap, notice: Notice) {
        self.with(headers, |login| login.notice = Some(notice));
    }

    /// What was left, once.
    pub(super) fn left(&self, headers: &HeaderMap) -> Option<Notice> {
        self.with(headers, |login| login.notice.take())?
    }

    fn with<T>(&self, headers: &HeaderMap, what: impl FnOnce(&mut Login) -> T) -> Option<T> {
        let token = self.token(headers)?;
        let now = Instant::now();
        let mut state = self.state.lock();
        state.forget_old(now);
        let login = state.open.get_mut(token)?;
        login.used = now;
        Some(what(login))
    }

    fn token<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies = cookies.filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';'));
        pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.cookie).then_some(value)
        })
    }

    fn set_cookie(&self, value: &str, lasts: Duration) -> String {
        let (name, seconds) = (&self.cookie, lasts.as_secs());
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}")
    }
}

impl State {
    fn forget_old(&mut self, now: Instant) {
        self.open.retain(|_, login| {
            now.duration_since(login.since) < LASTS && now.duration_since(login.used) < UNUSED
        });
    }
}

/// 256 bits that nobody guesses.
fn token() -> String {
    let mut text = String::with_capacity(64);
    for byte in rand::random::<[u8; 32]>() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "the operators' own secret";

    fn logins() -> Logins {
        Logins::new(Secret::new(KEY.as_bytes()).ok(), 8080)
    }

    fn sends(cookie: &str) -> HeaderMap {
        let pair = cookie.split(';').next().unwrap();
        let cookies = format!("other=1; {pair}").parse().unwrap();
        HeaderMap::from_iter([(header::COOKIE, cookies)])
    }

    #[tokio::test(start_paused = true)]
    async fn g8_the_key_opens_and_a_token_keeps_open() {
        let logins = logins();
        let cookie = logins.open(&format!(" {KEY}\n")).unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains(KEY), "{cookie}");
        assert!(logins.is_operator(&sends(&cookie)));
        assert!(!logins.is_operator(&HeaderMap::new()));
        assert!(!logins.is_operator(&sends("funicular-operator-8080=")));
        assert!(!logins.is_operator(&sends(&format!("funicular-operator-8080={KEY}"))));
        logins.close(&sends(&cookie));
        assert!(!logins.is_operator(&sends(&cookie)));
    }

    #[tokio::test(start_paused = true)]
    async fn g8_a_login_ends_unused_and_at_last() {
        let logins = logins();
        let cookie = sends(&logins.open(KEY).unwrap());
        for _ in 0..8 {
            assert!(logins.is_operator(&cookie));
            tokio::time::advance(UNUSED / 10 * 9).await;
        }
        assert!(logins.is_operator(&cookie));
        tokio::time::advance(UNUSED / 10 * 9).await;
        assert!(!logins.is_operator(&cookie));
        let cookie = sends(&logins.open(KEY).unwrap());
        tokio::time::advance(UNUSED).await;
        assert!(!logins.is_operator(&cookie));
    }

    #[tokio::test(start_paused = true)]
    async fn g8_a_forgotten_page_keeps_no_login() {
        let logins = logins();
        let cookie = sends(&logins.open(KEY).unwrap());
        for _ in 0..9 {
            tokio::time::advance(UNUSED / 10).await;
            assert!(logins.is_still_operator(&cookie));
        }
        tokio::time::advance(UNUSED / 10).await;
        assert!(!logins.is_still_operator(&cookie) && !logins.is_operator(&cookie));
        assert!(!logins.is_still_operator(&HeaderMap::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn g8_keys_cannot_be_tried_one_after_the_other() {
        let logins = logins();
        for _ in 0..TRIES {
            assert_eq!(logins.open("wrong"), Err(Refused::Wrong));
        }
        assert!(matches!(logins.open(KEY), Err(Refused::Later(wait)) if wait <= ONE_IN));
        tokio::time::advance(ONE_IN).await;
        assert_eq!(logins.open("wrong"), Err(Refused::Wrong));
        assert!(matches!(logins.open(KEY), Err(Refused::Later(_))));
        tokio::time::advance(ONE_IN).await;
        assert!(logins.open(KEY).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn g8_without_a_key_nobody_is_an_operator() {
        let logins = Logins::new(None, 1);
        assert!(!logins.possible());
        assert_eq!(logins.open(""), Err(Refused::Wrong));
    }

    #[tokio::test(start_paused = true)]
    async fn what_became_of_something_is_told_once_and_logins_are_few() {
        let logins = logins();
        let first = sends(&logins.open(KEY).unwrap());
        let notice = Notice { good: true, text: "done".to_owned() };
        logins.leave(&first, notice.clone());
        assert_eq!((logins.left(&first), logins.left(&first)), (Some(notice), None));
        for _ in 0..MOST {
            tokio::time::advance(Duration::from_secs(1)).await;
            logins.open(KEY).unwrap();
        }
        assert!(!logins.is_operator(&first));
    }
}
