//! `POST /_/migrate-session`: the steps of a move, between target and source.

use http::header;
use serde::Deserialize;

use super::{Answered, Reply, Signed};
use crate::http::problem::Problem;
use crate::peers::WireVersion;
use crate::peers::messages::{MigrateCall, Phase};
use crate::session::{Page, SessionData, SessionId};

/// The draft's form: only the session is named.
#[derive(Deserialize)]
struct Draft {
    session: SessionId,
}

pub(super) async fn handle(call: &Signed<'_>) -> Answered {
    let accepts = call.incoming.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|accepts| accepts.contains("application/json")) {
        return show(call).await;
    }
    let from = call.peer()?;
    let step: MigrateCall = call.content()?;
    if let Some(v) = step.v.filter(|v| WireVersion::of(*v).is_none()) {
        return Err(Problem::unsupported_version(v, WireVersion::NEWEST.number()).into());
    }
    let node = call.node;
    Ok(match step.phase {
        Phase::Open => Reply::ok(&node.agree(from, &step).await?),
        Phase::Copy => Reply::page(encode(&node.copy(from, &step).await?, &step)),
        Phase::Freeze => Reply::page(encode(&node.freeze(from, &step).await?, &step)),
        Phase::Done => Reply::ok(&node.let_go(from, &step).await?),
        Phase::Ask => Reply::ok(&node.ask(from, &step).await?),
        Phase::Closed => Reply::ok(&node.closed(from, &step).await?),
        Phase::Agreed => Reply::ok(&node.agreed(from, &step).await?),
    })
}

fn encode(page: &Page, step: &MigrateCall) -> Vec<u8> {
    if step.lz4 { page.encode_small() } else { page.encode() }
}

/// The session's data as the draft shows it; nothing moves.
async fn show(call: &Signed<'_>) -> Answered {
    let draft: Draft = call.content()?;
    let fields = call.node.dump(&draft.session).await?;
    Ok(Reply::ok(&SessionData::from_fields(&fields)))
}
