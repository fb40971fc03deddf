//! Answers 200 to everything and stores nothing: what the platform itself costs.

use funicular::prelude::*;

struct Empty;

impl Offloadable for Empty {
    async fn handle_offload(&self, _req: Request, _db: &mut EdgeDb) -> Result<Response> {
        Ok(Response::status(StatusCode::OK))
    }
}

pub fn function() -> Function {
    Function::offloadable(Empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use funicular::testing;

    #[tokio::test]
    async fn every_request_is_answered_wherever_the_session_is() {
        let empty = testing::session(function()).await;
        for request in [Request::get("/"), Request::delete("/any/path"), Request::post("")] {
            let answer = empty.request(request).await;
            assert_eq!((answer.status(), answer.body().len()), (StatusCode::OK, 0));
        }
        empty.offload().await;
        assert_eq!(empty.get("/").await.node(), "region");
    }
}
