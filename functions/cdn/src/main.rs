#[tokio::main]
async fn main() -> std::process::ExitCode {
    funicular::serve(cdn::function()).await
}
