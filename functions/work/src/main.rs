#[tokio::main]
async fn main() -> std::process::ExitCode {
    funicular::serve(work::function()).await
}
