//! One function at one node, as a process of its own: what `main` of a function
//! does, with the function chosen by `TEST_FUNCTION`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let function = match std::env::var("TEST_FUNCTION").unwrap_or_default().as_str() {
        "cart" => cart::function(),
        "cdn" => cdn::function(),
        "empty" => empty::function(),
        "probe" => funicular_tests::probe::function(),
        "files" => funicular_author_examples::files::function(),
        other => {
            eprintln!("TEST_FUNCTION is {other:?}, which this process does not have");
            return ExitCode::from(64);
        }
    };
    funicular::serve(function).await
}
