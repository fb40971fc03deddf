//! A shopping cart. Each session has its own.
//!
//! - `POST /items` with `{"sku":"apple","count":2}`: 201
//! - `GET /items`: all items as a JSON list
//! - `DELETE /items/{n}`: takes out the `n`th, counted from 0: 204, or 404

use funicular::prelude::*;
use serde::{Deserialize, Serialize};

/// Where the items are kept.
const ITEMS: &str = "items";

/// One line of a cart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub sku: String,
    /// How many; 1 unless given.
    #[serde(default = "one")]
    pub count: u32,
}

fn one() -> u32 {
    1
}

/// What all carts have in common.
pub struct Cart {
    max_items: usize,
}

impl Cart {
    async fn list(&self, _req: Request, db: &ReadDb) -> Result<Response> {
        Response::json(&db.get_list_json::<Item>(ITEMS).await?)
    }

    async fn add(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        let item: Item = req.json()?;
        if item.sku.is_empty() || item.count == 0 {
            return Err(Error::bad_request("an item has a `sku` and a `count` of 1 or more"));
        }
        if db.list_len(ITEMS).await? >= self.max_items {
            return Err(Error::conflict("the cart is full"));
        }
        db.add_to_list_json(ITEMS, &item)?;
        Ok(Response::status(StatusCode::CREATED))
    }

    async fn remove(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        let n: usize = req.parse_param("n")?;
        let mut items = db.get_list(ITEMS).await?;
        if n >= items.len() {
            return Err(Error::not_found(format!("the cart has no item {n}")));
        }
        items.remove(n);
        db.set_list(ITEMS, items)?;
        Ok(Response::status(StatusCode::NO_CONTENT))
    }
}

pub fn function() -> Function {
    Function::routes(Cart { max_items: 100 })
        .on("GET /items", Cart::list)
        .on("POST /items", Cart::add)
        .on("DELETE /items/{n}", Cart::remove)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use funicular::testing;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn items_are_added_listed_and_taken_out() {
        let cart = testing::session(function()).await;
        assert_eq!(cart.get("/items").await.json::<Vec<Item>>(), []);
        for item in [json!({"sku": "apple", "count": 2}), json!({"sku": "pear"})] {
            assert_eq!(cart.post("/items", item).await.status(), StatusCode::CREATED);
        }
        assert_eq!(
            cart.get("/items").await.json::<Value>(),
            json!([{"sku": "apple", "count": 2}, {"sku": "pear", "count": 1}])
        );
        assert_eq!(cart.delete("/items/0").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(cart.delete("/items/1").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(cart.delete("/items/x").await.status(), StatusCode::BAD_REQUEST);
        let items: Vec<Item> = cart.get("/items").await.json();
        assert_eq!(items, [Item { sku: "pear".into(), count: 1 }]);
    }

    #[tokio::test]
    async fn a_full_cart_takes_nothing_more() {
        let cart = testing::session(function()).await;
        for _ in 0..100 {
            assert_eq!(cart.post("/items", json!({"sku": "fig"})).await.status(), 201);
        }
        let refused = cart.post("/items", json!({"sku": "fig"})).await;
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        assert_eq!(refused.text(), "the cart is full");
        assert_eq!(cart.get("/items").await.json::<Vec<Item>>().len(), 100);
    }

    #[tokio::test]
    async fn what_is_not_an_item_is_refused() {
        let cart = testing::session(function()).await;
        for bad in [json!({}), json!({"sku": ""}), json!({"sku": "fig", "count": 0}), json!(3)] {
            let refused = cart.post("/items", bad).await;
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{}", refused.text());
        }
        assert_eq!(cart.post("/nothing", json!({})).await.status(), StatusCode::NOT_FOUND);
        let wrong = cart.put("/items", json!({})).await;
        assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn the_cart_moves_along_and_every_session_has_its_own() {
        let cart = testing::session(function()).await;
        cart.post("/items", json!({"sku": "apple"})).await;
        assert_eq!(cart.offload().await, "region");
        assert_eq!(cart.post("/items", json!({"sku": "pear"})).await.node(), "region");
        assert_eq!(cart.get("/items").await.json::<Vec<Item>>().len(), 2);
        assert_eq!(cart.session("another").get("/items").await.text(), "[]");
    }
}
