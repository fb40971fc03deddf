#[tokio::main]
async fn main() -> std::process::ExitCode {
    funicular::serve(cart::function()).await
}
