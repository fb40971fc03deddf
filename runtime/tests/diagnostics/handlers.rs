use funicular::prelude::*;

struct Cart;

impl Cart {
    async fn no_handle(&self, _req: Request) -> Result<Response> {
        Ok(Response::text("x"))
    }

    async fn shared_edge_db(&self, _req: Request, _db: &EdgeDb) -> Result<Response> {
        Ok(Response::text("x"))
    }

    async fn not_send(&self, _req: Request, db: &ReadDb) -> Result<Response> {
        let shared = std::rc::Rc::new(1);
        db.get("x").await?;
        Ok(Response::text(shared.to_string()))
    }
}

pub fn function() -> Function {
    Function::routes(Cart)
        .on("GET /1", Cart::no_handle)
        .on("GET /2", Cart::shared_edge_db)
        .on("GET /3", Cart::not_send)
        .into()
}
