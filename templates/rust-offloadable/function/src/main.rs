#[tokio::main]
async fn main() -> std::process::ExitCode {
    funicular::serve(handler::function()).await
}
