//! A cart with a total, as in the README.

use funicular::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    sku: String,
    cents: u64,
}

pub struct Cart {
    max_items: usize,
}

impl Cart {
    async fn list(&self, _req: Request, db: &ReadDb) -> Result<Response> {
        Response::json(&db.get_list_json::<Item>("items").await?)
    }

    async fn add(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        let item: Item = req.json()?;
        if db.list_len("items").await? >= self.max_items {
            return Err(Error::conflict("the cart is full"));
        }
        db.add_to_list_json("items", &item)?;
        // The request sees what it has just written.
        Ok(Response::json(&total(db).await?)?.with_status(StatusCode::CREATED))
    }

    async fn total(&self, _req: Request, db: &ReadDb) -> Result<Response> {
        Response::json(&total(db).await?)
    }
}

/// Takes the handle of either kind of handler.
async fn total(db: &ReadDb) -> Result<u64> {
    Ok(db.get_list_json::<Item>("items").await?.iter().map(|item| item.cents).sum())
}

pub fn function() -> Function {
    Function::routes(Cart { max_items: 3 })
        .on("GET /items", Cart::list)
        .on("POST /items", Cart::add)
        .on("GET /total", Cart::total)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use funicular::testing;
    use serde_json::json;

    #[tokio::test]
    async fn a_cart_knows_its_total() {
        let cart = testing::session(function()).await;
        let first = cart.post("/items", json!({"sku": "apple", "cents": 40})).await;
        assert_eq!((first.status(), first.json::<u64>()), (StatusCode::CREATED, 40));
        cart.post("/items", json!({"sku": "pear", "cents": 60})).await;
        assert_eq!(cart.get("/total").await.json::<u64>(), 100);
        assert_eq!(cart.get("/items").await.json::<Vec<Item>>()[1].sku, "pear");
    }

    #[tokio::test]
    async fn g3_a_request_sent_twice_counts_once() {
        let cart = testing::session(function()).await;
        let add = Request::post("/items").json(&json!({"sku": "apple", "cents": 40})).unwrap();
        let add = add.request_id("b6f1").unwrap();
        let first = cart.request(add.clone()).await;
        cart.offload().await;
        let second = cart.request(add).await;
        assert!(!first.replayed() && second.replayed());
        assert_eq!(second.json::<u64>(), 40);
        assert_eq!(cart.get("/total").await.json::<u64>(), 40);
        let other = Request::post("/items").json(&json!({"sku": "fig", "cents": 1})).unwrap();
        let reused = cart.request(other.request_id("b6f1").unwrap()).await;
        assert_eq!(reused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[tokio::test]
    async fn an_error_writes_nothing() {
        let cart = testing::session(function()).await;
        for _ in 0..4 {
            cart.post("/items", json!({"sku": "apple", "cents": 1})).await;
        }
        assert_eq!(cart.get("/total").await.json::<u64>(), 3);
        assert_eq!(cart.post("/items", json!("apple")).await.status(), StatusCode::BAD_REQUEST);
    }
}
