//! Upload and download in one function, with a listing.

use funicular::prelude::*;

pub struct Files;

impl Files {
    async fn upload(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        let name = req.param("name")?.to_owned();
        if req.body().is_empty() {
            return Err(Error::bad_request("send the file as the body"));
        }
        db.set(&name, req.into_body())?;
        Ok(Response::status(StatusCode::CREATED).header("Location", format!("/files/{name}")))
    }

    async fn download(&self, req: Request, db: &ReadDb) -> Result<Response> {
        let file = db.get(req.param("name")?).await?;
        let file = file.ok_or_else(|| Error::not_found("no such file; upload it first"))?;
        Ok(Response::bytes("application/octet-stream", file))
    }

    async fn list(&self, _req: Request, db: &ReadDb) -> Result<Response> {
        Response::json(&db.keys().await?)
    }

    async fn remove(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        db.delete(req.param("name")?)?;
        Ok(Response::status(StatusCode::NO_CONTENT))
    }
}

pub fn function() -> Function {
    Function::routes(Files)
        .on("GET /files", Files::list)
        .on("PUT /files/{name}", Files::upload)
        .on("GET /files/{name}", Files::download)
        .on("DELETE /files/{name}", Files::remove)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use funicular::testing;

    #[tokio::test]
    async fn what_was_uploaded_is_downloaded_on_any_node() {
        let files = testing::session(function()).await;
        let content: Vec<u8> = (0..=255).collect();
        let upload = Request::put("/files/all").body("image/x", &content).unwrap();
        let stored = files.request(upload).await;
        assert_eq!(stored.header("location"), Some("/files/all"));
        assert_eq!(files.get("/files/all").await.body(), content.as_slice());
        files.offload().await;
        assert_eq!(files.node("cloud").get("/files/all").await.status(), 421);
        assert_eq!(files.node("edge").get("/files/all").await.body(), content.as_slice());
    }

    #[tokio::test]
    async fn files_are_listed_and_removed() {
        let files = testing::session(function()).await;
        for name in ["b", "a"] {
            files.request(Request::put(format!("/files/{name}")).text("x")).await;
        }
        assert_eq!(files.get("/files").await.json::<Vec<String>>(), ["a", "b"]);
        files.delete("/files/a").await;
        assert_eq!(files.get("/files").await.json::<Vec<String>>(), ["b"]);
        assert_eq!(files.get("/files/a").await.status(), StatusCode::NOT_FOUND);
        let nothing = files.request(Request::put("/files/c")).await;
        assert_eq!(nothing.text(), "send the file as the body");
    }
}
