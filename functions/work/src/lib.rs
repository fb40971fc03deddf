//! Takes as long as it is told, and counts: what a node does under load (`max_running`) can be
//! seen without loading the machine.
//!
//! - `POST /?ms=50`: waits for so long, as for a database or a camera, and answers how
//!   often the session has worked
//! - `GET /`: the same number, at once

use std::time::Duration;

use funicular::prelude::*;

/// Where the number is kept.
const DONE: &str = "done";
/// Nobody has to wait longer.
const MOST: Duration = Duration::from_secs(20);

async fn done(db: &ReadDb) -> Result<u64> {
    Ok(db.get_json(DONE).await?.unwrap_or(0))
}

async fn count((): &(), _: Request, db: &ReadDb) -> Result<Response> {
    Response::json(&done(db).await?)
}

async fn work((): &(), req: Request, db: &mut EdgeDb) -> Result<Response> {
    let millis = match req.query("ms") {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            Error::bad_request(format!("`ms` is {text:?}: give whole milliseconds, such as 50"))
        })?,
    };
    let time = Duration::from_millis(millis);
    if time > MOST {
        return Err(Error::bad_request(format!("`ms` is at most {}", MOST.as_millis())));
    }
    tokio::time::sleep(time).await;
    let number = done(db).await? + 1;
    db.set_json(DONE, &number)?;
    Response::json(&number)
}

pub fn function() -> Function {
    Function::routes(()).on("POST /", work).on("GET /", count).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use funicular::testing;

    #[tokio::test]
    async fn it_takes_its_time_and_counts() {
        let session = testing::session(function()).await;
        let began = std::time::Instant::now();
        assert_eq!(session.post("/?ms=30", "").await.json::<u64>(), 1);
        assert!(began.elapsed() >= Duration::from_millis(30));
        session.offload().await;
        assert_eq!(session.post("/", "").await.json::<u64>(), 2);
        assert_eq!(session.get("/").await.json::<u64>(), 2);
    }

    #[tokio::test]
    async fn what_is_no_time_is_refused() {
        let session = testing::session(function()).await;
        for bad in ["/?ms=soon", "/?ms=-1", "/?ms=60000"] {
            let refused = session.post(bad, "").await;
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{}", refused.text());
        }
        assert_eq!(session.get("/").await.json::<u64>(), 0);
    }
}
