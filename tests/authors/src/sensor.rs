//! Readings stay at the edge; every ancestor keeps the highest of them.

use funicular::prelude::*;

/// Takes readings at the edge and sends them up. An [`Offloadable`]: one handler.
pub struct Sensor;

impl Offloadable for Sensor {
    async fn handle_offload(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        let reading: i64 = req.json()?;
        db.add_to_list_json("readings", &reading)?;
        let told = db.propagate(reading.to_string(), "*", "maximum")?;
        Response::json(&told)
    }
}

/// Keeps the highest reading that it was told of, and from where.
pub struct Maximum;

impl Maximum {
    async fn told(&self, value: Propagated, db: &mut EdgeDb) -> Result<()> {
        let reading: i64 = value.json()?;
        let highest: Option<i64> = db.get_json("highest").await?;
        if highest.is_none_or(|highest| reading > highest) {
            db.set_json("highest", &reading)?;
            db.set("from", value.from.as_str())?;
        }
        Ok(())
    }

    async fn show(&self, _req: Request, db: &ReadDb) -> Result<Response> {
        let highest: Option<i64> = db.get_json("highest").await?;
        let from = db.get_text("from").await?;
        Response::json(&(highest, from))
    }
}

pub fn sensor() -> Function {
    Function::offloadable(Sensor)
}

pub fn maximum() -> Function {
    Function::routes(Maximum).on("GET /", Maximum::show).on_propagate(Maximum::told).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use funicular::testing;

    #[tokio::test]
    async fn every_ancestor_learns_the_highest_reading() {
        let sensor = testing::session(sensor()).with("maximum", maximum()).await;
        for reading in [18, 31, 24] {
            assert_eq!(sensor.post("/", reading).await.json::<usize>(), 2);
        }
        sensor.settled().await;
        for node in ["region", "cloud"] {
            let told = sensor.function("maximum").node(node).get("/").await;
            assert_eq!(told.json::<(i64, String)>(), (31, "edge".to_owned()), "{node}");
        }
    }

    #[tokio::test]
    async fn g3_a_repeated_reading_is_told_once() {
        let sensor = testing::session(sensor()).with("maximum", maximum()).await;
        let post = Request::post("/").json(&7).unwrap().request_id("reading-7").unwrap();
        for _ in 0..3 {
            sensor.request(post.clone()).await;
        }
        sensor.settled().await;
        let told = sensor.function("maximum").node("cloud").get("/").await;
        assert_eq!(told.json::<(i64, String)>(), (7, "edge".to_owned()));
    }

    #[tokio::test]
    async fn an_ancestor_is_tested_on_its_own() {
        let top = testing::session(maximum()).await.node("cloud");
        assert_eq!(top.propagated("12").await.status(), StatusCode::OK);
        assert_eq!(top.propagated("9").await.status(), StatusCode::OK);
        assert_eq!(top.get("/").await.json::<(i64, String)>(), (12, "region".to_owned()));
        let refused = top.propagated("warm").await;
        assert!(refused.status().is_client_error(), "{}", refused.text());
    }
}
