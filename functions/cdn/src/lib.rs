//! Files of a session, stored once and read often.
//!
//! - `PUT /any/path` (or `POST`) with a body and its `Content-Type`: 201, or 204
//!   if it replaces a file
//! - `GET /any/path`: the file with its content type, or 404

use funicular::prelude::*;

/// What a file without a content type is.
const BYTES: &str = "application/octet-stream";

async fn store((): &(), req: Request, db: &mut EdgeDb) -> Result<Response> {
    let content_type = req.header("content-type").unwrap_or(BYTES);
    let file = Names::of(&req)?;
    let known = db.get(&file.content_type).await?.is_some();
    db.set(&file.content_type, content_type)?;
    db.set(&file.body, req.body())?;
    Ok(Response::status(if known { StatusCode::NO_CONTENT } else { StatusCode::CREATED }))
}

async fn fetch((): &(), req: Request, db: &ReadDb) -> Result<Response> {
    let file = Names::of(&req)?;
    let Some(content_type) = db.get_text(&file.content_type).await? else {
        return Err(Error::not_found("there is no such file"));
    };
    let body = db.get(&file.body).await?.unwrap_or_default();
    Ok(Response::bytes(content_type, body))
}

/// Under which names a file is kept.
struct Names {
    body: String,
    content_type: String,
}

impl Names {
    fn of(req: &Request) -> Result<Self> {
        let file = req.param("file")?;
        Ok(Self { body: format!("file/{file}"), content_type: format!("type/{file}") })
    }
}

pub fn function() -> Function {
    Function::routes(())
        .on("PUT /{*file}", store)
        .on("POST /{*file}", store)
        .on("GET /{*file}", fetch)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use funicular::testing;

    /// The start of a PNG: not text.
    const PNG: &[u8] = &[0x89, b'P', b'N', b'G', 0, 0xff];

    #[tokio::test]
    async fn a_file_comes_back_as_it_went_in() {
        let files = testing::session(function()).await;
        let put = Request::put("/img/logo%20big.png").body("image/png", PNG).unwrap();
        assert_eq!(files.request(put).await.status(), StatusCode::CREATED);
        let got = files.get("/img/logo%20big.png").await;
        assert_eq!(got.status(), StatusCode::OK);
        assert_eq!(got.header("content-type"), Some("image/png"));
        assert_eq!(got.body(), PNG);
    }

    #[tokio::test]
    async fn a_file_is_replaced_with_its_content_type() {
        let files = testing::session(function()).await;
        for (request, status) in [
            (Request::put("/a").body("image/png", PNG).unwrap(), StatusCode::CREATED),
            (Request::post("/a").text("now a text"), StatusCode::NO_CONTENT),
        ] {
            assert_eq!(files.request(request).await.status(), status);
        }
        let got = files.get("/a").await;
        assert_eq!(got.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(got.text(), "now a text");
        files.request(Request::put("/b")).await;
        let got = files.get("/b").await;
        assert_eq!((got.header("content-type"), got.body().len()), (Some(BYTES), 0));
    }

    #[tokio::test]
    async fn what_is_not_there_is_404() {
        let files = testing::session(function()).await;
        assert_eq!(files.get("/nothing").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(files.get("/").await.status(), StatusCode::NOT_FOUND);
        let long = format!("/{}", "x".repeat(2000));
        assert_eq!(files.get(&long).await.status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn large_files_move_along() {
        let files = testing::session(function()).await;
        let film: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        files.request(Request::put("/film").body("video/mp4", &film).unwrap()).await;
        files.offload().await;
        let got = files.get("/film").await;
        assert_eq!((got.node(), got.body().as_ref()), ("region", film.as_slice()));
    }
}
