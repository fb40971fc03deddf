//! The oracle of one node, as it is shipped, beside the sites of a test tree.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    funicular_oracle::run::main().await
}
