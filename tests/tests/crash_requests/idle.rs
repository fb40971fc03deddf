//! Nodes that nobody asks for anything.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{SESSION, client, line};

#[tokio::test]
async fn g7_an_idle_node_recovers_its_redis_by_itself() {
    let mut tree = line().start().await;
    client(&tree).write_once("/log", "a", "1", crate::PATIENCE).await.expect(200);
    tree.site("navigli").redis().restart();
    // No client asks; the node looks after itself within the recovery interval.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let known = tree.operator().whereabouts("navigli", SESSION).await.expect("it is there");
    assert_eq!(known.state, "owned");
}

#[tokio::test]
async fn g7_a_question_recovers_a_restarted_redis() {
    let mut tree = line().set("recovery_interval", "60s").start().await;
    client(&tree).write_once("/log", "a", "1", crate::PATIENCE).await.expect(200);
    tree.site("navigli").redis().restart();
    // The first questions may still meet the broken connection; none waits for the
    // recovery loop, which does not come round before the test is over.
    let asked = json!({"session": SESSION});
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = tree.operator().post("navigli", "test-function", &asked).await;
        if answer.status == 200 {
            break;
        }
        assert!(answer.status == 503 && Instant::now() < deadline, "{}", answer.body);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
