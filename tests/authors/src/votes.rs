//! Votes are taken at the edge and counted once, in a session on the parent.

use funicular::prelude::*;

/// Takes one vote a session, and has it counted.
pub struct Ballot;

impl Ballot {
    async fn vote(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        let choice = req.param("choice")?;
        if db.get_text("voted").await?.is_some() {
            return Err(Error::conflict("this session has voted"));
        }
        let hierarchy = db.hierarchy();
        let parent = hierarchy
            .parent()
            .ok_or_else(|| Error::unavailable("votes are taken below the root"))?;
        let count = Request::post(format!("/{choice}"));
        let counted = hierarchy.invoke(parent.name.as_str(), "count", "all", count).await?;
        if !counted.status_code().is_success() {
            return Err(Error::unavailable("the votes are not counted right now"));
        }
        let votes: u64 = counted.read_json()?;
        db.set("voted", req.param("choice")?)?;
        Response::json(&votes)
    }
}

/// Counts, one session for everybody.
pub struct Count;

impl Count {
    async fn add(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        let choice = req.param("choice")?;
        let votes = db.get_json::<u64>(choice).await?.unwrap_or(0) + 1;
        db.set_json(choice, &votes)?;
        Response::json(&votes)
    }

    async fn show(&self, req: Request, db: &ReadDb) -> Result<Response> {
        Response::json(&db.get_json::<u64>(req.param("choice")?).await?.unwrap_or(0))
    }
}

pub fn ballot() -> Function {
    Function::routes(Ballot).on("POST /{choice}", Ballot::vote).into()
}

pub fn count() -> Function {
    Function::routes(Count).on("POST /{choice}", Count::add).on("GET /{choice}", Count::show).into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use funicular::testing;

    /// The parent creates sessions too: the one that counts.
    const TREE: &str = "
levels: [city, district]
root:
  name: milan
  gateway: http://milan.test
  entry: true
  children:
    - name: navigli
      gateway: http://navigli.test
    - name: brera
      gateway: http://brera.test
";

    async fn voter(id: &str) -> testing::Session {
        testing::session(ballot()).with("count", count()).tree(TREE).id(id).await.node("navigli")
    }

    #[tokio::test]
    async fn votes_from_all_districts_are_counted_on_the_parent() {
        let ada = voter("ada").await;
        let bob = ada.session("bob").node("brera");
        assert_eq!(ada.request(Request::post("/metro")).await.json::<u64>(), 1);
        assert_eq!(bob.request(Request::post("/metro")).await.json::<u64>(), 2);
        assert_eq!(ada.request(Request::post("/tram")).await.status(), StatusCode::CONFLICT);
        let all = ada.function("count").session("all").node("milan");
        assert_eq!(all.get("/metro").await.json::<u64>(), 2);
        assert_eq!(all.get("/tram").await.json::<u64>(), 0);
    }

    /// The first vote of all is counted, then its handler fails.
    async fn fail_once(
        state: &(Ballot, AtomicBool),
        req: Request,
        db: &mut EdgeDb,
    ) -> Result<Response> {
        let answer = state.0.vote(req, db).await?;
        match state.1.swap(true, Ordering::Relaxed) {
            false => Err(Error::unavailable("try again")),
            true => Ok(answer),
        }
    }

    #[tokio::test]
    async fn g3_a_vote_that_failed_half_way_is_counted_once() {
        let flaky = Function::routes((Ballot, AtomicBool::new(false)));
        let flaky: Function = flaky.on("POST /{choice}", fail_once).into();
        let ada = testing::session(flaky).with("count", count()).tree(TREE).await.node("navigli");
        let vote = Request::post("/metro").request_id("v1").unwrap();
        assert_eq!(ada.request(vote.clone()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        let all = ada.function("count").session("all").node("milan");
        assert_eq!(all.get("/metro").await.json::<u64>(), 1);
        // The repeat starts over, and so does its call: under the same id.
        assert_eq!(ada.request(vote).await.json::<u64>(), 1);
        assert_eq!(all.get("/metro").await.json::<u64>(), 1);
    }
}
