//! Somebody moves sessions about: up, down, and chains of both.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use funicular::peers::{PeerCall, WireVersion};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::client::Named;
use crate::world::{World, count};

/// Asks nodes to move sessions until `until`.
pub async fn go_on(world: Arc<World>, sessions: Arc<[Named]>, until: Instant) {
    let chance = Chance::new(world.plan.seed, 21);
    loop {
        sleep(chance.millis(0, world.plan.moves * 2)).await;
        if Instant::now() >= until {
            return;
        }
        let site = chance.index(world.sites.len());
        let named = chance.pick(&sessions);
        let one = chance.hits(400);
        let (endpoint, body) = match chance.between(0, 99) {
            0..55 if one => ("force-offload", json!({"session": named.id.as_str()})),
            0..55 => ("force-offload", json!({})),
            55..92 if one => ("force-onload", json!({"session": named.id.as_str()})),
            55..92 => ("force-onload", json!({"max_sessions": chance.between(1, 4)})),
            92..96 => ("set-offload-status", json!({"status": "reject"})),
            _ => ("set-offload-status", json!({"status": "accept"})),
        };
        let f = chance.index(world.plan.functions.len());
        let call = PeerCall {
            version: WireVersion::NEWEST,
            endpoint,
            query: None,
            body: Bytes::from(body.to_string()),
            timeout: Duration::from_secs(15),
        };
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let asked = world.post((site, site, f), call);
            match tokio::time::timeout(Duration::from_secs(15), asked).await {
                Ok(Some(Ok(_))) => count(&world.counters.moves),
                _ => count(&world.counters.moves_refused),
            }
        });
    }
}
