//! Signed internal calls, and signed answers to them (G8).
//!
//! A call carries one header:
//!
//! ```text
//! X-funicular-signature: v=2;kid=…;role=peer;from=navigli;t=1753000000000;n=…;sig=…
//! ```
//!
//! `sig` is HMAC-SHA256, base64url, over everything that makes the call this
//! call: version, key id, role, caller, function, target node, method, path and
//! query as the function sees them, the body's SHA-256, the time (Unix ms), the
//! nonce, and from version 2 on the session and the request id that an invoked call
//! is for. The key is derived from the secret for one role and one function. An
//! answer carries the same header without `t`, in the version of the call: it names
//! the responder and covers the call's nonce, the status, the body, and from version
//! 2 on the place that a redirect leads to, but no other header: what matters goes
//! into the body. Version 1 has no signed answers to invoked calls.
//!
//! Pure: time and nonces are arguments.
//!
//! ```
//! use funicular::http::signature::{Call, Caller, Keys, NonceCache, Role, Secret};
//! # use funicular::session::{FunctionName, NodeName, Nonce};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let operator = Secret::new(b"0123456789abcdef0123456789abcdef").ok();
//! let keys = Keys { operator, ..Keys::default() }.for_function(&FunctionName::new("cart")?);
//! let (milan, tool) = (NodeName::new("milan")?, NodeName::new("cli")?);
//! let call = Call { method: "GET", path: "/_/status", ..Call::to(&milan) };
//!
//! let caller = Caller { role: Role::Operator, name: tool };
//! let signed = keys.sign(&caller, &call, 1_000, Nonce(7))?;
//! let checked = keys.verify(Some(signed.header()), &call, 1_020, &NonceCache::default())?;
//! assert_eq!(checked.caller(), &caller);
//!
//! let answer = checked.sign_answer(&milan, 200, b"{}");
//! signed.check_answer(Some(&answer), 200, b"{}")?;
//! # Ok(())
//! # }
//! ```

mod header;
mod keys;
mod nonces;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use sha2::{Digest, Sha256};

pub use keys::{
    FunctionKeys, KeyError, Keys, MIN_SECRET, OPERATOR_KEY, PEER_KEY, PREVIOUS_PEER_KEY, PeerKeys,
    Secret,
};
pub use nonces::NonceCache;

use crate::peers::WireVersion;
use crate::session::{FunctionName, NodeName, Nonce};
use header::Header;
use keys::Key;
use nonces::Refused;

/// The header of calls and answers.
pub const SIGNATURE_HEADER: &str = "x-funicular-signature";

/// A call is fresh if its time is at most this far from ours, in ms.
pub const WINDOW_MS: u64 = 60_000;

/// As what somebody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A node of the tree.
    Peer,
    /// A person's tool, the oracle or the dashboard.
    Operator,
}

impl Role {
    /// The word in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Operator => "operator",
        }
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As what.
    pub role: Role,
    /// The calling node; for operators the tool's name.
    pub name: NodeName,
}

/// The parts of a call that its signature covers, besides function and caller.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The node that is called.
    pub target: &'a NodeName,
    /// In upper case.
    pub method: &'a str,
    /// What stands after `/function/<fn>`, with its slash, as it is sent.
    pub path: &'a str,
    /// Without the question mark, as it is sent; empty if there is none.
    pub query: &'a str,
    /// The whole body.
    pub body: &'a [u8],
    /// The value of `X-session`; empty if there is none.
    pub session: &'a str,
    /// The value of `X-session-request-id`; empty if there is none.
    pub request_id: &'a str,
}

impl<'a> Call<'a> {
    /// A call to a node with nothing in it.
    pub fn to(target: &'a NodeName) -> Self {
        Self { target, method: "", path: "", query: "", body: b"", session: "", request_id: "" }
    }
}

/// Why a call was refused; each says what to do. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No header.
    #[error("the call is not signed; make it with `funicular` or through a node")]
    Unsigned,
    /// A header that does not read.
    #[error("the signature does not read ({0}); see whether a proxy rewrites headers")]
    Malformed(&'static str),
    /// Another version.
    #[error(
        "the call has version {found} and this node reads up to {newest}; \
         bring both to releases next to each other"
    )]
    UnknownVersion {
        /// The version it names.
        found: String,
        /// The newest that is read.
        newest: WireVersion,
    },
    /// A key this node does not hold.
    #[error(
        "the {} key {id} is not one of this node's for this function; while keys rotate keep \
         the old one as `session-peer-key-previous`, else give both sides the same secret",
        role.as_str()
    )]
    UnknownKey {
        /// As what the caller signed.
        role: Role,
        /// The key it named.
        id: String,
    },
    /// Nothing to sign with.
    #[error("there is no {} key to sign with; put its secret in place", .0.as_str())]
    NoKey(Role),
    /// The signature does not fit.
    #[error(
        "the signature does not fit the call; it was changed on its way or meant for another \
         node: compare `LOCATION_ID` and gateways with the topology"
    )]
    Bad,
    /// Too old, or from the future.
    #[error(
        "the call is {} s {} this node's clock and at most {} s are accepted; \
         set both clocks (NTP) and call again",
        .skew_ms.unsigned_abs().div_ceil(1000),
        if *.skew_ms < 0 { "behind" } else { "ahead of" },
        WINDOW_MS / 1000
    )]
    Stale {
        /// The caller's time minus ours, in ms.
        skew_ms: i64,
    },
    /// The same signature again.
    #[error("the call was made already; sign a new one")]
    Replayed,
    /// So many calls came since that it may have been made already.
    #[error("the call is too old for how many came since; sign a new one")]
    Crowded,
}

/// Why an answer does not count. The call may have been carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No header.
    #[error("the answer is not signed; something between here and the node answered instead")]
    Unsigned,
    /// A header that does not read, or of another version.
    #[error("the answer's signature does not read; bring both sides to the same release")]
    Malformed,
    /// It is another node's, another call's, or was changed.
    #[error(
        "the answer's signature does not fit; another node answered or it was changed on its \
         way: compare the gateway with the topology"
    )]
    Bad,
}

impl FunctionKeys {
    /// The function these keys are for.
    pub fn function(&self) -> &FunctionName {
        &self.function
    }

    /// Signs a call to this function in the version that every node reads, which is
    /// what tools do. `time` is now, in Unix ms; `nonce` is random and never used
    /// again. Fails only without a key of the caller's role.
    pub fn sign(
        &self,
        caller: &Caller,
        call: &Call<'_>,
        time: u64,
        nonce: Nonce,
    ) -> Result<SignedCall, SignatureError> {
        self.sign_in(WireVersion::OLDEST, caller, call, time, nonce)
    }

    /// The same in a version that is known to be read.
    pub fn sign_in(
        &self,
        version: WireVersion,
        caller: &Caller,
        call: &Call<'_>,
        time: u64,
        nonce: Nonce,
    ) -> Result<SignedCall, SignatureError> {
        let key = self.signing(caller.role).ok_or(SignatureError::NoKey(caller.role))?;
        let exchange =
            Exchange { version, key: key.clone(), function: self.function.clone(), nonce };
        let mac = exchange.call_mac(caller, call, time);
        let header = format!(
            "v={version};kid={};role={};from={};t={time};n={nonce};sig={}",
            key.id,
            caller.role.as_str(),
            caller.name,
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()),
        );
        Ok(SignedCall { header, exchange, target: call.target.clone() })
    }

    /// Checks a call that reached `call.target`, which is this node and reads versions
    /// up to `newest`. `now` is in Unix ms. Lets each signature through once.
    pub fn verify_up_to(
        &self,
        newest: WireVersion,
        header: Option<&str>,
        call: &Call<'_>,
        now: u64,
        seen: &NonceCache,
    ) -> Result<Verified, SignatureError> {
        let header = Header::parse(header.ok_or(SignatureError::Unsigned)?, newest)?;
        let time = header.time.ok_or(SignatureError::Malformed("`t` is missing"))?;
        let Header { version, caller, nonce, .. } = header;
        let key = self.named(caller.role, header.key_id).ok_or_else(|| {
            SignatureError::UnknownKey { role: caller.role, id: header.key_id.to_owned() }
        })?;
        let exchange =
            Exchange { version, key: key.clone(), function: self.function.clone(), nonce };
        exchange
            .call_mac(&caller, call, time)
            .verify_slice(&header.signature)
            .map_err(|_| SignatureError::Bad)?;
        // Only now is the time the caller's own.
        if time.abs_diff(now) > WINDOW_MS {
            let skew_ms = i64::try_from(i128::from(time) - i128::from(now)).unwrap_or(i64::MAX);
            return Err(SignatureError::Stale { skew_ms });
        }
        seen.admit(time, nonce, now).map_err(|refused| match refused {
            Refused::Replayed => SignatureError::Replayed,
            Refused::TooOld => SignatureError::Crowded,
        })?;
        Ok(Verified { caller, exchange })
    }

    /// The same at a node that reads all that this release does.
    pub fn verify(
        &self,
        header: Option<&str>,
        call: &Call<'_>,
        now: u64,
        seen: &NonceCache,
    ) -> Result<Verified, SignatureError> {
        self.verify_up_to(WireVersion::NEWEST, header, call, now, seen)
    }
}

/// A call with its signature; checks the answer to it.
#[derive(Debug, Clone)]
pub struct SignedCall {
    header: String,
    exchange: Exchange,
    target: NodeName,
}

impl SignedCall {
    /// The value of [`SIGNATURE_HEADER`].
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Checks that the called node gave this answer to this call.
    pub fn check_answer(
        &self,
        header: Option<&str>,
        status: u16,
        body: &[u8],
    ) -> Result<(), AnswerError> {
        self.check_response(header, status, "", body)
    }

    /// The same of an answer that leads to a place: the value of its `Location`.
    pub fn check_response(
        &self,
        header: Option<&str>,
        status: u16,
        place: &str,
        body: &[u8],
    ) -> Result<(), AnswerError> {
        let header = header.ok_or(AnswerError::Unsigned)?;
        let version = self.exchange.version;
        let header = Header::parse(header, version).map_err(|_| AnswerError::Malformed)?;
        if header.version != version {
            return Err(AnswerError::Malformed);
        }
        // What else the header says is the responder's word: the signature is
        // checked against what this call expects.
        self.exchange
            .answer_mac(&self.target, status, place, body)
            .verify_slice(&header.signature)
            .map_err(|_| AnswerError::Bad)
    }
}

/// A call that was checked; signs the answer to it.
#[derive(Debug, Clone)]
pub struct Verified {
    caller: Caller,
    exchange: Exchange,
}

impl Verified {
    /// Who called.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The version that the call was made in.
    pub fn version(&self) -> WireVersion {
        self.exchange.version
    }

    /// The value of [`SIGNATURE_HEADER`] for the answer, with the key the caller
    /// used: it may not know a newer one yet.
    pub fn sign_answer(&self, responder: &NodeName, status: u16, body: &[u8]) -> String {
        self.sign_response(responder, status, "", body)
    }

    /// The same for an answer that leads to a place: the value of its `Location`.
    pub fn sign_response(
        &self,
        responder: &NodeName,
        status: u16,
        place: &str,
        body: &[u8],
    ) -> String {
        let Exchange { version, key, nonce, .. } = &self.exchange;
        let mac = self.exchange.answer_mac(responder, status, place, body);
        format!(
            "v={version};kid={};role={};from={responder};n={nonce};sig={}",
            key.id,
            key.role.as_str(),
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()),
        )
    }
}

/// What a call and its answer share.
#[derive(Debug, Clone)]
struct Exchange {
    version: WireVersion,
    key: Key,
    function: FunctionName,
    nonce: Nonce,
}

type MacState = hmac::Hmac<Sha256>;

impl Exchange {
    fn call_mac(&self, caller: &Caller, call: &Call<'_>, time: u64) -> MacState {
        let version = self.version.number().to_be_bytes();
        let (digest, time) = (Sha256::digest(call.body), time.to_be_bytes());
        let nonce = self.nonce.0.to_be_bytes();
        let covered: [&[u8]; 15] = [
            b"funicular call",
            &version,
            self.key.id.as_bytes(),
            caller.role.as_str().as_bytes(),
            caller.name.as_str().as_bytes(),
            self.function.as_str().as_bytes(),
            call.target.as_str().as_bytes(),
            call.method.as_bytes(),
            call.path.as_bytes(),
            call.query.as_bytes(),
            &digest,
            &time,
            &nonce,
            call.session.as_bytes(),
            call.request_id.as_bytes(),
        ];
        let count = match self.version {
            WireVersion::V1 => 13,
            WireVersion::V2 => 15,
        };
        self.key.over(&covered[..count])
    }

    fn answer_mac(&self, responder: &NodeName, status: u16, place: &str, body: &[u8]) -> MacState {
        let version = self.version.number().to_be_bytes();
        let (status, digest) = (status.to_be_bytes(), Sha256::digest(body));
        let nonce = self.nonce.0.to_be_bytes();
        let covered: [&[u8]; 10] = [
            b"funicular answer",
            &version,
            self.key.id.as_bytes(),
            self.key.role.as_str().as_bytes(),
            responder.as_str().as_bytes(),
            self.function.as_str().as_bytes(),
            &nonce,
            &status,
            &digest,
            place.as_bytes(),
        ];
        let count = match self.version {
            WireVersion::V1 => 9,
            WireVersion::V2 => 10,
        };
        self.key.over(&covered[..count])
    }
}
