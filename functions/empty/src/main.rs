#[tokio::main]
async fn main() -> std::process::ExitCode {
    funicular::serve(empty::function()).await
}
