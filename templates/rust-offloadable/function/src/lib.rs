//! Greets, and counts how often: each session has a counter of its own.

use funicular::prelude::*;

async fn greet(_: &(), req: Request, db: &mut EdgeDb) -> Result<Response> {
    let times = db.get_json::<u64>("times").await?.unwrap_or(0) + 1;
    db.set_json("times", &times)?;
    let name = req.query("name").unwrap_or("stranger");
    Ok(Response::text(format!("Hello {name}! This is greeting {times}, from {}", db.location())))
}

pub fn function() -> Function {
    Function::routes(()).on("POST /", greet).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use funicular::testing;

    #[tokio::test]
    async fn it_counts_and_the_count_moves_along() {
        let session = testing::session(function()).await;
        let greeting = session.post("/?name=Ada", ()).await.text();
        assert_eq!(greeting, "Hello Ada! This is greeting 1, from edge");
        session.offload().await;
        let greeting = session.post("/?name=Ada", ()).await.text();
        assert_eq!(greeting, "Hello Ada! This is greeting 2, from region");
    }
}
