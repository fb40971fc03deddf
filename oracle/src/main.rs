//! The oracle of one node, as a process.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    funicular_oracle::run::main().await
}
