//! The codes: each has a status, a title and a page in `docs/errors/`.

use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// What went wrong, as programs read it. Codes never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes, by status.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code itself, kebab-case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status it is sent with.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The same few words every time.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// A repeat whose first reply was too large to keep.
    ReplyNotKept = "reply-not-kept", ALREADY_REPORTED, "The first reply was not kept";

    /// No `X-session`.
    MissingSession = "missing-session", BAD_REQUEST, "No session was named";
    /// An `X-session` that is none.
    MalformedSession = "malformed-session", BAD_REQUEST, "The session id is malformed";
    /// An `X-session-request-id` that is none.
    MalformedRequestId = "malformed-request-id", BAD_REQUEST, "The request id is malformed";
    /// An `X-session-token` that does not read.
    BadToken = "bad-token", BAD_REQUEST, "The session token does not read";
    /// A body other than its `Content-Digest` says.
    DigestMismatch = "digest-mismatch", BAD_REQUEST, "The body is not what its digest says";
    /// Anything else in the request that does not read.
    BadRequest = "bad-request", BAD_REQUEST, "The request does not read";
    /// An internal call of a release too far away.
    UnsupportedVersion = "unsupported-version", BAD_REQUEST, "The releases are too far apart";

    /// An internal call without a signature that reads.
    Unsigned = "unsigned", UNAUTHORIZED, "The call is not signed";
    /// A signature by an unknown key, or that does not fit.
    BadSignature = "bad-signature", UNAUTHORIZED, "The signature does not fit";
    /// A signature too far from this node's time.
    StaleSignature = "stale-signature", UNAUTHORIZED, "The signature is not fresh";
    /// A signature that was seen already.
    ReplayedCall = "replayed-call", UNAUTHORIZED, "The call was made already";

    /// A node that this session was recovered from.
    Barred = "barred", FORBIDDEN, "The node is barred";
    /// A node that this one's topology does not have.
    UnknownPeer = "unknown-peer", FORBIDDEN, "The node is not in the topology here";
    /// A well-signed call by somebody who may not make it.
    WrongRole = "wrong-role", FORBIDDEN, "The caller may not do this";

    /// A tool asks about a session that is not known here.
    NoSuchSession = "no-such-session", NOT_FOUND, "There is no such session";
    /// No endpoint of this path.
    NoSuchRoute = "no-such-route", NOT_FOUND, "There is nothing at this path";
    /// The node's gateway has no such function.
    NoSuchFunction = "no-such-function", NOT_FOUND, "The node does not have the function";
    /// An endpoint of this path, but not with this method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed";

    /// The message speaks of an older epoch.
    StaleEpoch = "stale-epoch", CONFLICT, "The session has gone on";
    /// Another session of the same id.
    OtherLife = "other-life", CONFLICT, "Another session has this id here";
    /// A move is under way.
    MoveOpen = "move-open", CONFLICT, "Another move is under way";
    /// The last move is not acknowledged.
    Unsettled = "unsettled", CONFLICT, "The last move is not settled";
    /// Nobody knows this move here.
    NoSuchMove = "no-such-move", CONFLICT, "There is no such move";
    /// Nobody knows this copy here.
    NoSuchCopy = "no-such-copy", CONFLICT, "There is no such copy";
    /// The session is elsewhere.
    NotOwner = "not-owner", CONFLICT, "The session is elsewhere";
    /// A request runs, or messages wait.
    InUse = "in-use", CONFLICT, "The session is in use";
    /// A node that came back after its sessions were recovered elsewhere.
    Superseded = "superseded", CONFLICT, "The session went on without this node";
    /// The root cannot reject.
    RootAccepts = "root-accepts", CONFLICT, "The root cannot reject";
    /// The root cannot be drained.
    RootStays = "root-stays", CONFLICT, "The root cannot be drained";
    /// A restore would begin by mistake, or undo what it decided.
    RestoreRefused = "restore-refused", CONFLICT, "The restore does not begin like this";
    /// A node that sends its sessions away takes none.
    Draining = "draining", CONFLICT, "The node is being drained";
    /// The target's function is older than the session.
    OlderSchema = "older-schema", CONFLICT, "The function here is too old for the session";

    /// A body above `max_body`.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// A session above `max_session_bytes`.
    SessionTooLarge = "session-too-large", PAYLOAD_TOO_LARGE, "The session would be too large";

    /// A new session on a node that may not create any.
    UnknownSession = "unknown-session", MISDIRECTED_REQUEST, "The session is not known here";
    /// One id for two requests.
    RequestIdReused = "request-id-reused", UNPROCESSABLE_ENTITY, "The request id was used already";
    /// The receiving handler refused a propagated value.
    NotTaken = "not-taken", UNPROCESSABLE_ENTITY, "The value was not taken";
    /// The exclusive turn ran out.
    LeaseLost = "lease-lost", LOCKED, "The request lost its turn";

    /// `max_inflight` is reached, or `max_waiting` by one session.
    TooManyRequests = "too-many-requests", TOO_MANY_REQUESTS, "Too many requests at once";
    /// The creation rate is reached.
    TooManyNewSessions = "too-many-new-sessions", TOO_MANY_REQUESTS, "Too many new sessions";
    /// As many moves wait as may.
    TooManyMoves = "too-many-moves", TOO_MANY_REQUESTS, "Too many moves at once";

    /// The author's handler panicked or failed.
    HandlerFailed = "handler-failed", INTERNAL_SERVER_ERROR, "The function failed";
    /// What the store holds does not read.
    StoreCorrupt = "store-corrupt", INTERNAL_SERVER_ERROR, "The stored session does not read";

    /// Others use the session, or it moves, for longer than `session_wait`.
    Busy = "busy", SERVICE_UNAVAILABLE, "The session is busy";
    /// The store does not answer.
    StoreUnavailable = "store-unavailable", SERVICE_UNAVAILABLE, "The store does not answer";
    /// The store was restarted.
    StoreRecovering = "store-recovering", SERVICE_UNAVAILABLE, "The store is recovering";
    /// The store was put back to a backup.
    Restoring = "restoring", SERVICE_UNAVAILABLE, "The node is being restored";
    /// The commit's reply was lost.
    OutcomeUnknown = "outcome-unknown", SERVICE_UNAVAILABLE, "The outcome is not known";
    /// A node that has to be asked does not answer.
    PeerUnreachable = "peer-unreachable", SERVICE_UNAVAILABLE, "Another node does not answer";
    /// A move broke off.
    MoveFailed = "move-failed", SERVICE_UNAVAILABLE, "The move did not end well";

    /// The author's handler took too long.
    HandlerTimeout = "handler-timeout", GATEWAY_TIMEOUT, "The function took too long";
    /// No room for a session or its data.
    NoRoom = "no-room", INSUFFICIENT_STORAGE, "There is no room";
}

impl Code {
    /// The code of this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// The URI that identifies it, which is also its page.
    pub fn page(self) -> String {
        format!("https://funicular-edge.github.io/errors/{}", self.as_str())
    }
}
