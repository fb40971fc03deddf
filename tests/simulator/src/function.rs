//! The functions under simulation: lists of tokens, each sent once, so that loss,
//! repetition and order can be told from the lists.

use std::collections::BTreeMap;
use std::time::Duration;

use funicular::prelude::*;
use funicular::session::fields::{self, FieldMap};

/// A number that one request alone appends.
pub type Token = u64;

/// The lists of a session.
pub const LISTS: [&str; 3] = [LOG, GOT, CALLED];
/// What clients append.
pub const LOG: &str = "log";
/// What other sessions propagate.
pub const GOT: &str = "got";
/// What other sessions append by calling.
pub const CALLED: &str = "called";

/// The tokens of each list.
pub type Tokens = BTreeMap<&'static str, Vec<Token>>;

/// The lists in a session's fields.
pub fn tokens(map: &FieldMap) -> Tokens {
    LISTS
        .into_iter()
        .map(|list| (list, fields::list(map, list).iter().map(|item| number(item)).collect()))
        .collect()
}

fn number(item: &[u8]) -> Token {
    std::str::from_utf8(item).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Reads what `append` and `read` answer.
pub fn listed(body: &[u8]) -> Vec<Token> {
    body.split(|byte| *byte == b',').filter(|item| !item.is_empty()).map(number).collect()
}

fn join(items: &[Bytes]) -> Response {
    let texts: Vec<_> = items.iter().map(|item| String::from_utf8_lossy(item)).collect();
    Response::text(texts.join(","))
}

/// The function. It propagates to `other`, and calls it.
pub fn function(other: &str) -> Function {
    Function::routes(other.to_owned())
        .on("GET /log", read)
        .on("POST /append", append)
        .on("POST /send", send)
        .on("POST /call/{node}", call)
        .on("POST /called", called)
        .on("POST /refuse", refuse)
        .on_propagate(propagated)
        .into()
}

async fn read(_: &String, request: Request, db: &ReadDb) -> Result<Response> {
    let before = db.list_len(LOG).await?;
    rest(&request).await;
    let items = db.get_list(LOG).await?;
    // All reads of one request see one version.
    if before != items.len() {
        return Err(Error::internal("the list changed while it was read"));
    }
    Ok(join(&items))
}

/// A handler that takes its time.
async fn rest(request: &Request) {
    let millis = request.query("rest").and_then(|text| text.parse().ok()).unwrap_or(0);
    if millis > 0 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

async fn appended(request: &Request, db: &mut EdgeDb) -> Result<Response> {
    let token = request.text()?.to_owned();
    rest(request).await;
    db.add_to_list(LOG, token)?;
    Ok(join(&db.get_list(LOG).await?))
}

async fn append(_: &String, request: Request, db: &mut EdgeDb) -> Result<Response> {
    appended(&request, db).await
}

async fn refuse(_: &String, request: Request, db: &mut EdgeDb) -> Result<Response> {
    appended(&request, db).await?;
    Err(Error::conflict("nothing of this is kept"))
}

async fn send(other: &String, request: Request, db: &mut EdgeDb) -> Result<Response> {
    let targets = db.propagate(request.text()?.to_owned(), "*", other)?;
    Ok(appended(&request, db).await?.header("x-targets", targets.to_string()))
}

async fn call(other: &String, request: Request, db: &mut EdgeDb) -> Result<Response> {
    let token = request.text()?.to_owned();
    let node = request.param("node")?.to_owned();
    let session = request.session().to_owned();
    let passed = Request::post("/called").text(token);
    let answer = db.hierarchy().invoke(&node, other, &session, passed).await?;
    if !answer.status_code().is_success() {
        return Err(Error::unavailable("the other function did not take it"));
    }
    appended(&request, db).await
}

async fn called(_: &String, request: Request, db: &mut EdgeDb) -> Result<Response> {
    db.add_to_list(CALLED, request.text()?.to_owned())?;
    Ok(Response::status(StatusCode::CREATED))
}

async fn propagated(_: &String, value: Propagated, db: &mut EdgeDb) -> Result<()> {
    db.add_to_list(GOT, value.value)
}
