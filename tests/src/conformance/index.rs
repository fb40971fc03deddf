//! What a store lists, and what it keeps beside its sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use funicular::session::{NodeName, SessionId};

use crate::bench::{Bench, Move, node, session, set};

async fn residents(bench: &Bench, homes: Option<&[NodeName]>, limit: usize) -> Vec<SessionId> {
    let found = bench.store.residents(homes, limit).await.unwrap();
    found.into_iter().map(|resident| resident.session).collect()
}

pub async fn residents_are_listed_by_last_use(bench: &Bench, other: &Bench) {
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|id| session(id)).collect();
    for id in &ids {
        bench.write(id, vec![set("k", "12345")]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let foreign = session("foreign");
    other.write(&foreign, vec![set("k", "v")]).await;
    Move::whole(other, bench, &foreign).await;
    let all = [ids.clone(), vec![foreign.clone()]].concat();
    bench
        .soon("four residents", async || {
            let mut listed = residents(bench, None, 10).await;
            listed.sort();
            (listed == all).then_some(())
        })
        .await;
    let ours = [bench.node.clone()];
    assert_eq!(residents(bench, Some(&ours), 10).await, ids);
    assert_eq!(residents(bench, Some(&ours), 2).await, ids[..2]);
    assert_eq!(residents(bench, Some(&ours), 0).await, []);
    assert_eq!(
        residents(bench, Some(std::slice::from_ref(&other.node)), 10).await,
        std::slice::from_ref(&foreign)
    );
    assert_eq!(residents(bench, Some(&[node("nobody")]), 10).await, []);
    assert_eq!(residents(bench, Some(&[]), 10).await, []);
    let found = bench.store.residents(Some(&ours), 1).await.unwrap().remove(0);
    assert_eq!((found.home, found.bytes), (bench.node.clone(), 7));
    assert_eq!(found.used, bench.snapshot(&ids[0]).await.slot.used);
    assert_eq!(bench.store.counts().await.unwrap().resident, 4);

    Move::whole(bench, other, &ids[1]).await;
    assert_eq!(residents(bench, Some(&ours), 10).await, [ids[0].clone(), ids[2].clone()]);
    assert_eq!(bench.store.counts().await.unwrap().resident, 3);
}

pub async fn g7_the_pending_are_never_missed(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("k", "v")]).await;
    let pending = async |bench: &Bench| bench.store.pending(10).await.unwrap() == [id.clone()];
    assert!(!pending(source).await);
    let moving = Move::agree(source, target, &id).await;
    assert!(pending(source).await && pending(target).await);
    moving.freeze(source).await;
    moving.carry(source, target, 1).await;
    assert!(pending(source).await && pending(target).await);
    moving.install(target).await.unwrap();
    assert!(pending(source).await && pending(target).await);
    moving.settle(source, target).await;
    assert!(!pending(source).await && !pending(target).await);
    assert_eq!(source.store.pending(0).await.unwrap(), []);
}

pub async fn g4_old_pointers_are_listed(source: &Bench, target: &Bench) {
    let id = session("s");
    source.write(&id, vec![set("k", "v")]).await;
    Move::whole(source, target, &id).await;
    let later = source.now().await + 1000;
    assert_eq!(source.store.old_pointers(later, 10).await.unwrap(), std::slice::from_ref(&id));
    assert_eq!(source.store.old_pointers(later, 0).await.unwrap(), []);
    assert_eq!(source.store.old_pointers(1, 10).await.unwrap(), []);
    Move::whole(target, source, &id).await;
    assert_eq!(source.store.old_pointers(later, 10).await.unwrap(), []);
}

pub async fn settings_are_kept(bench: &Bench) {
    let store = &bench.store;
    assert_eq!(store.setting("status").await.unwrap(), None);
    assert_eq!(store.set_setting("status", Some("accept")).await.unwrap(), None);
    let old = store.set_setting("status", Some("reject")).await.unwrap();
    assert_eq!(old.as_deref(), Some("accept"));
    store.set_setting("barred:a", Some("1")).await.unwrap();
    store.set_setting("barred:b", Some("")).await.unwrap();
    assert_eq!(store.setting("status").await.unwrap().as_deref(), Some("reject"));
    let barred = BTreeMap::from([
        ("barred:a".to_owned(), "1".to_owned()),
        ("barred:b".to_owned(), String::new()),
    ]);
    assert_eq!(store.settings("barred:").await.unwrap(), barred);
    assert_eq!(store.settings("").await.unwrap().len(), 3);
    assert_eq!(store.set_setting("status", None).await.unwrap().as_deref(), Some("reject"));
    assert_eq!(store.set_setting("status", None).await.unwrap(), None);
    assert_eq!(store.setting("status").await.unwrap(), None);
}

pub async fn the_clock_goes_on(bench: &Bench) {
    let before = bench.now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let after = bench.now().await;
    assert!(after >= before + 20 && after < before + 10_000);
}
