#![allow(clippy::unused_async, reason = "handlers are async whether they wait or not")]

use http::StatusCode;

use super::*;
use crate::edge_db::tests::{edge_db, place, read_dbs};
use crate::session::{FunctionName, NodeName};

struct Cart {
    max: usize,
}

impl Cart {
    async fn list(&self, _req: Request, db: &ReadDb) -> Result<Response> {
        Response::json(&db.get_list_json::<String>("items").await?)
    }

    async fn add(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
        let item: String = req.json()?;
        if db.list_len("items").await? >= self.max {
            return Err(Error::conflict("the cart is full"));
        }
        db.add_to_list_json("items", &item)?;
        Ok(Response::status(StatusCode::CREATED))
    }

    async fn item(&self, req: Request, db: &ReadDb) -> Result<Response> {
        let items = db.get_list("items").await?;
        let n: usize = req.parse_param("n")?;
        let item = items.get(n).ok_or_else(|| Error::not_found("no such item"))?;
        Ok(Response::bytes("application/json", item))
    }

    async fn taken(&self, value: Propagated, db: &mut EdgeDb) -> Result<()> {
        db.set("from", value.from.as_str())?;
        db.set("value", value.value)
    }
}

async fn free(_: &Cart, _: Request, _: &ReadDb) -> Result<Response> {
    Ok(Response::text("free"))
}

fn cart() -> Function {
    Function::routes(Cart { max: 2 })
        .on("GET /items", Cart::list)
        .on("POST /items", Cart::add)
        .on("GET /items/{n}", Cart::item)
        .on("GET /free", free)
        .on("GET /closure", |_: &Cart, req: Request, _: &ReadDb| async move {
            Ok(Response::text(req.path()))
        })
        .on("PUT /files/{*path}", |_: &Cart, req: Request, _: &mut EdgeDb| {
            let answer = req.param("path").map(Response::text);
            async move { answer }
        })
        .on_propagate(Cart::taken)
        .session_schema(3)
        .into()
}

async fn read(function: &Function, db: &ReadDb, path: &str) -> Result<String> {
    let matched = function.resolve(&Method::GET, path).unwrap();
    assert_eq!(matched.access, Access::Read);
    let answer = function.run_read(&matched, Request::get(path).into(), db).await?;
    Ok(answer.read_text()?.to_owned())
}

async fn write(
    function: &Function,
    db: &mut EdgeDb,
    request: impl Into<Request>,
) -> Result<Response> {
    let request = request.into();
    let matched = function.resolve(request.method(), request.path()).unwrap();
    assert_eq!(matched.access, Access::Write);
    function.run_write(&matched, request, db).await
}

#[tokio::test]
async fn the_signature_decides_whether_a_route_reads_or_writes() {
    let function = cart();
    assert_eq!(function.check(), Ok(()));
    assert_eq!(function.schema(), 3);
    let mut db = edge_db().await;
    for item in ["apple", "pear"] {
        let add = Request::post("/items").json(item).unwrap();
        let answer = write(&function, &mut db, add).await.unwrap();
        assert_eq!(answer.status_code(), StatusCode::CREATED);
    }
    let third = Request::post("/items").json("fig").unwrap();
    let error = write(&function, &mut db, third).await.unwrap_err();
    assert_eq!(error.status_code(), StatusCode::CONFLICT);
    assert_eq!(read(&function, &db, "/items").await.unwrap(), r#"["apple","pear"]"#);
    assert_eq!(read(&function, &db, "/items/1").await.unwrap(), r#""pear""#);
    assert_eq!(read(&function, &db, "/items/9").await.unwrap_err().status_code(), 404);
    assert_eq!(read(&function, &db, "/items/x").await.unwrap_err().status_code(), 400);
    assert_eq!(read(&function, &db, "/free").await.unwrap(), "free");
    assert_eq!(read(&function, &db, "/closure").await.unwrap(), "/closure");
    let put = write(&function, &mut db, Request::put("/files/a/b%20c")).await.unwrap();
    assert_eq!(put.read_text().unwrap(), "a/b c");
}

#[test]
fn a_path_that_exists_says_which_methods_it_takes() {
    let function = cart();
    let no = |method: Method, path| function.resolve(&method, path).unwrap_err();
    assert_eq!(no(Method::GET, "/nothing"), NoRoute::NotFound);
    assert_eq!(no(Method::GET, ""), NoRoute::NotFound);
    assert_eq!(
        no(Method::OPTIONS, "/items"),
        NoRoute::MethodNotAllowed(vec![Method::GET, Method::POST, Method::HEAD])
    );
    assert_eq!(no(Method::GET, "/files/x"), NoRoute::MethodNotAllowed(vec![Method::PUT]));
    assert_eq!(function.resolve(&Method::HEAD, "/items").unwrap().access, Access::Read);
    assert!(function.resolve(&Method::HEAD, "/files/x").is_err());
}

#[test]
fn faults_of_the_routes_are_found_before_anything_is_served() {
    let faults = |pattern: &str| {
        let function: Function =
            Function::routes(Cart { max: 0 }).on("GET /items/{n}", free).on(pattern, free).into();
        function.check()
    };
    for bad in [
        "GET",
        "/items",
        "GETT /x",
        "get /x",
        "GET x",
        "GET /_/health",
        "GET /items/{m}",
        "GET /items/{n}",
        "GET /{",
        "GET /{*rest}/x",
        "",
    ] {
        let why = faults(bad).unwrap_err();
        assert!(why.contains(&format!("{bad:?}")), "{why}");
    }
    for good in ["GET /items/{n}/parts", "POST /items/{m}", "GET /items/all", "HEAD /items/{n}"] {
        assert_eq!(faults(good), Ok(()), "{good}");
    }
    let empty: Function = Function::routes(()).into();
    assert!(empty.check().is_err());
}

struct Twice;

impl crate::Offloadable for Twice {
    async fn handle_offload(&self, request: Request, db: &mut EdgeDb) -> Result<Response> {
        db.set("path", request.path())?;
        Ok(Response::text(request.text()?.repeat(2)))
    }
}

impl crate::ReadOnly for Twice {
    async fn handle_read(&self, request: Request, _db: &ReadDb) -> Result<Response> {
        Ok(Response::text(request.path().repeat(2)))
    }
}

#[tokio::test]
async fn one_handler_takes_every_method_and_path() {
    let mut db = edge_db().await;
    let function = Function::offloadable(Twice);
    let answer = write(&function, &mut db, Request::patch("/any").text("ab")).await.unwrap();
    assert_eq!(answer.read_text().unwrap(), "abab");
    let error = function.run_propagate(propagated(), &mut db).await.unwrap_err();
    assert_eq!(error.status_code(), StatusCode::NOT_FOUND);
    let function = Function::read_only(Twice);
    assert_eq!(read(&function, &db, "/x").await.unwrap(), "/x/x");
    // The wrong way round is an error, not a panic.
    let matched = function.resolve(&Method::GET, "/").unwrap();
    let error = function.run_write(&matched, Request::get("/").into(), &mut db).await.unwrap_err();
    assert_eq!(error.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
}

fn propagated() -> Propagated {
    Propagated {
        value: "42".into(),
        from: NodeName::new("brera").unwrap(),
        function: FunctionName::new("cart").unwrap(),
        session: place("milan").session,
    }
}

#[tokio::test]
async fn propagated_values_have_their_own_handler() {
    let mut db = edge_db().await;
    cart().run_propagate(propagated(), &mut db).await.unwrap();
    assert_eq!(db.get_text("value").await.unwrap().as_deref(), Some("42"));
    assert_eq!(db.get_text("from").await.unwrap().as_deref(), Some("brera"));
    assert_eq!(propagated().json::<u8>().unwrap(), 42);
    let without: Function = Function::routes(()).on("GET /", nothing).into();
    assert!(without.run_propagate(propagated(), &mut db).await.is_err());
}

async fn nothing((): &(), _: Request, _: &ReadDb) -> Result<Response> {
    Ok(Response::status(StatusCode::NO_CONTENT))
}

async fn careless((): &(), _: Request, db: &ReadDb) -> Result<Response> {
    let value = db.get("x").await.ok().flatten();
    Ok(Response::bytes("text/plain", value.unwrap_or_default()))
}

#[tokio::test]
async fn g5_a_handler_cannot_hide_a_stale_read() {
    let function: Function = Function::routes(()).on("GET /", careless).into();
    let (fresh, stale) = read_dbs().await;
    assert_eq!(read(&function, &fresh, "/").await.unwrap(), "1");
    assert!(read(&function, &stale, "/").await.unwrap_err().is_stale_read());
}

#[test]
fn a_function_is_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Send>(_: T) {}
    let function = cart();
    shared(&function);
    sent(async move {
        let mut db = edge_db().await;
        let matched = function.resolve(&Method::POST, "/items").unwrap();
        let _ = function.run_write(&matched, Request::post("/items").into(), &mut db).await;
    });
}
