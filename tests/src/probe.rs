//! A function for the suites: a log that every write appends to, and whatever
//! else a test has to provoke.

use std::time::Duration;

use funicular::prelude::*;

/// - `POST /log` appends the body and answers its position (from 0)
/// - `GET /log` answers the whole log as a JSON list of texts
/// - `PUT /value/{key}` and `GET /value/{key}`: raw values
/// - `POST /many?from=&count=` sets that many small values, from `many-{from}` on
/// - `POST /slow?ms=` appends after a while
/// - `POST /receipt` appends and answers 201 with headers of its own
/// - `POST /large?bytes=` appends and answers that many bytes
/// - `POST /refuse` appends and answers 402 as a response: nothing is written
/// - `GET /slow?ms=` answers the log's length, read before and after a while
/// - `POST /fail` appends and answers 409: nothing is written
/// - `POST /panic` appends and panics: nothing is written
/// - `POST /propagate?levels=&function=` appends and propagates the body, which the receiver
///   appends, unless it is `never`
/// - `POST /traceparent` appends the header of that name
/// - `POST /invoke?node=&function=&path=` invokes with the body, appends the answer
pub fn function() -> Function {
    Function::routes(())
        .on("POST /log", append)
        .on("GET /log", log)
        .on("PUT /value/{key}", put)
        .on("GET /value/{key}", get)
        .on("POST /many", many)
        .on("POST /slow", slow)
        .on("POST /receipt", receipt)
        .on("POST /large", large)
        .on("POST /refuse", refuse)
        .on("GET /slow", slow_read)
        .on("POST /fail", fail)
        .on("POST /panic", panic)
        .on("POST /propagate", propagate)
        .on("POST /invoke", invoke)
        .on("POST /traceparent", traceparent)
        .on_propagate(received)
        .into()
}

async fn add(body: &[u8], db: &mut EdgeDb) -> Result<Response> {
    let position = db.list_len("log").await?;
    db.add_to_list("log", body)?;
    Ok(Response::text(position.to_string()))
}

async fn append(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    add(request.body(), db).await
}

async fn log(_: &(), _: Request, db: &ReadDb) -> Result<Response> {
    let items = db.get_list("log").await?;
    let texts: Vec<_> = items.iter().map(|item| String::from_utf8_lossy(item)).collect();
    Response::json(&texts)
}

async fn put(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    let key = request.param("key")?.to_owned();
    db.set(&key, request.into_body())?;
    Ok(Response::status(StatusCode::NO_CONTENT))
}

async fn get(_: &(), request: Request, db: &ReadDb) -> Result<Response> {
    let value = db.get(request.param("key")?).await?;
    let value = value.ok_or_else(|| Error::not_found("no such value"))?;
    Ok(Response::bytes("application/octet-stream", value))
}

async fn many(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    let number = |name| request.query(name).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    for key in number("from")..number("from") + number("count") {
        db.set(&format!("many-{key}"), key.to_string())?;
    }
    Ok(Response::status(StatusCode::NO_CONTENT))
}

fn while_asked(request: &Request) -> Duration {
    let ms = request.query("ms").and_then(|text| text.parse().ok());
    Duration::from_millis(ms.unwrap_or(0))
}

async fn slow(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    tokio::time::sleep(while_asked(&request)).await;
    add(request.body(), db).await
}

async fn receipt(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    let position = db.list_len("log").await?;
    add(request.body(), db).await?;
    let receipt = Response::json(&serde_json::json!({"position": position}))?;
    let receipt = receipt.with_status(StatusCode::CREATED).header("x-receipt", "0042");
    Ok(receipt.header("location", format!("/log/{position}")))
}

async fn large(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    let bytes: usize = request.query("bytes").and_then(|text| text.parse().ok()).unwrap_or(0);
    add(request.body(), db).await?;
    Ok(Response::text("x".repeat(bytes)))
}

async fn refuse(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    add(request.body(), db).await?;
    Ok(Response::text("no").with_status(StatusCode::PAYMENT_REQUIRED))
}

async fn slow_read(_: &(), request: Request, db: &ReadDb) -> Result<Response> {
    let before = db.list_len("log").await?;
    tokio::time::sleep(while_asked(&request)).await;
    Ok(Response::text(format!("{before} {}", db.list_len("log").await?)))
}

async fn fail(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    add(request.body(), db).await?;
    Err(Error::conflict("as asked"))
}

async fn panic(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    add(request.body(), db).await?;
    panic!("as asked");
}

async fn propagate(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    let levels = request.query("levels").unwrap_or("*").to_owned();
    let function = request.query("function").unwrap_or("probe").to_owned();
    db.propagate(request.body().clone(), &levels, &function)?;
    add(request.body(), db).await
}

async fn invoke(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    let node = request.query("node").unwrap_or_default().to_owned();
    let function = request.query("function").unwrap_or("probe").to_owned();
    let path = request.query("path").unwrap_or("/log").to_owned();
    let session = request.session().to_owned();
    let asked = Request::post(path).body("text/plain", request.body())?;
    let answer = db.hierarchy().invoke(&node, &function, &session, asked).await?;
    let text = format!("{} {}", answer.status_code().as_u16(), answer.read_text()?);
    add(text.as_bytes(), db).await
}

async fn traceparent(_: &(), request: Request, db: &mut EdgeDb) -> Result<Response> {
    add(request.header("traceparent").unwrap_or_default().as_bytes(), db).await
}

async fn received(_: &(), value: Propagated, db: &mut EdgeDb) -> Result<()> {
    if *value.value == *b"never" {
        return Err(Error::conflict("as asked"));
    }
    db.add_to_list("log", &value.value)?;
    Ok(())
}
