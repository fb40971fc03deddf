//! What goes wrong by itself: processes and stores end, the tree is cut in two, nodes
//! and stores are slow, and a person gives a node up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::world::{World, count};

/// Starts everything that goes wrong until `until`, as the plan has it.
pub fn begin(world: &Arc<World>, until: Instant) -> Vec<tokio::task::JoinHandle<()>> {
    let mishaps = world.plan.mishaps;
    let chance = |stream| Chance::new(world.plan.seed, stream);
    let mut tasks = Vec::new();
    if mishaps.crash > 0 {
        tasks.push(tokio::spawn(crashes(Arc::clone(world), chance(11), until)));
    }
    if mishaps.power_loss > 0 {
        tasks.push(tokio::spawn(power_losses(Arc::clone(world), chance(12), until)));
    }
    if mishaps.partition > 0 {
        tasks.push(tokio::spawn(partitions(Arc::clone(world), chance(13), until)));
    }
    if mishaps.slow_node > 0 {
        tasks.push(tokio::spawn(slow_nodes(Arc::clone(world), chance(14), until)));
    }
    if mishaps.slow_store > 0 {
        tasks.push(tokio::spawn(slow_stores(Arc::clone(world), chance(15), until)));
    }
    if world.plan.gives_up {
        tasks.push(tokio::spawn(give_up(Arc::clone(world), chance(16), until)));
    }
    tasks
}

/// Waits for the next time, once in `often` milliseconds; `false` if it is over.
async fn next(chance: &Chance, often: u64, until: Instant) -> bool {
    sleep(chance.millis(1, often * 2)).await;
    Instant::now() < until
}

async fn crashes(world: Arc<World>, chance: Chance, until: Instant) {
    while next(&chance, world.plan.mishaps.crash, until).await {
        let (site, replica) = (chance.index(world.sites.len()), chance.index(world.plan.replicas));
        world.kill(site, replica);
        let (world, away) = (Arc::clone(&world), away(&chance));
        tokio::spawn(async move {
            sleep(away).await;
            world.reasons.note();
            world.start_process(site, replica);
        });
    }
}

/// How long something is away: mostly a moment, sometimes long.
fn away(chance: &Chance) -> Duration {
    match chance.hits(250) {
        true => chance.millis(1000, 4000),
        false => chance.millis(1, 300),
    }
}

async fn power_losses(world: Arc<World>, chance: Chance, until: Instant) {
    while next(&chance, world.plan.mishaps.power_loss, until).await {
        let site = chance.index(world.sites.len());
        world.stop_stores(site);
        // Half the time the store alone is restarted.
        let all = chance.hits(500);
        if all {
            for replica in 0..world.plan.replicas {
                world.kill(site, replica);
            }
        }
        // One at a time: a server that is away is not restarted by somebody else.
        sleep(away(&chance)).await;
        world.start_stores(site);
        if all {
            for replica in 0..world.plan.replicas {
                world.start_process(site, replica);
            }
        }
    }
}

async fn partitions(world: Arc<World>, chance: Chance, until: Instant) {
    while next(&chance, world.plan.mishaps.partition, until).await {
        let sides: Vec<u8> = match chance.hits(500) {
            // One is cut off from all others.
            true => {
                let alone = chance.index(world.sites.len());
                (0..world.sites.len()).map(|site| u8::from(site == alone)).collect()
            }
            false => (0..world.sites.len()).map(|_| u8::from(chance.hits(500))).collect(),
        };
        let long = chance.millis(50, 3500);
        world.reasons.lasts(long);
        count(&world.counters.partitions);
        world.cut(&sides);
        sleep(long).await;
        world.cut(&vec![0; world.sites.len()]);
    }
}

async fn slow_nodes(world: Arc<World>, chance: Chance, until: Instant) {
    while next(&chance, world.plan.mishaps.slow_node, until).await {
        world.slow(chance.index(world.sites.len()), chance.millis(100, 4000));
    }
}

async fn slow_stores(world: Arc<World>, chance: Chance, until: Instant) {
    while next(&chance, world.plan.mishaps.slow_store, until).await {
        let (site, long) = (chance.index(world.sites.len()), chance.millis(100, 3000));
        world.reasons.lasts(long);
        world.disks[site].iter().for_each(|disk| disk.slow(Instant::now() + long));
        world.trace.step((site, long), || format!("the stores of {site} are slow for {long:?}"));
    }
}

/// A node does not come back, a person gives it up at all others; then it comes back
/// after all, and is readmitted.
async fn give_up(world: Arc<World>, chance: Chance, until: Instant) {
    sleep(chance.millis(500, 3000)).await;
    let lost = chance.index(world.sites.len());
    let name = world.plan.sites[lost].clone();
    world.trace.step(lost, || format!("{name} will not come back"));
    let away = chance.millis(1500, 4000);
    world.reasons.lasts(away + Duration::from_secs(4));
    world.hold_down(lost, true);
    sleep(chance.millis(300, 1500)).await;
    everywhere_else(&world, lost, true).await;
    count(&world.counters.given_up);
    sleep(away).await;
    world.reasons.note();
    world.hold_down(lost, false);
    sleep(chance.millis(0, 500)).await;
    let _ = until;
    everywhere_else(&world, lost, false).await;
    world.reasons.lasts(Duration::from_secs(2));
}

/// Tells every other node, as often as it takes.
async fn everywhere_else(world: &Arc<World>, lost: usize, gone: bool) {
    let name = world.plan.sites[lost].clone();
    for site in (0..world.sites.len()).filter(|site| *site != lost) {
        for f in 0..world.plan.functions.len() {
            loop {
                // As long as that takes, the lost one is away, or turned away by some.
                world.reasons.note();
                if let Some(process) = world.process(site) {
                    let node = &process.nodes[f];
                    let told = async {
                        match gone {
                            true => node.give_up_node(&name).await.map(drop),
                            false => node.readmit_node(&name).await,
                        }
                    };
                    // A process that ends meanwhile does not answer.
                    let told = tokio::time::timeout(Duration::from_secs(3), told).await;
                    if matches!(told, Ok(Ok(()))) {
                        break;
                    }
                }
                sleep(Duration::from_millis(50)).await;
            }
            world.trace.step((site, f, gone), || {
                let said = if gone { "gives up" } else { "readmits" };
                format!("{}/{f} {said} {name}", world.plan.sites[site])
            });
        }
    }
}
