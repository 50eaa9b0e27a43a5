//! What is done from time to time: retention, checkpoints, forgetting.

use std::sync::Arc;
use std::time::Duration;

use ottla_metadata::admin::purge_config_changes;
use ottla_runtime::{Spawner, Task, task, time};
use tracing::error;

use crate::dispatch::Services;

/// How often idle producers are looked for (`producer.id.expiration.check.interval.ms` of Kafka).
const PRODUCER_CHECK: Duration = Duration::from_secs(600);

/// How often deleted logs are looked at for those whose `file.delete.delay.ms` has passed.
const DELETION_CHECK: Duration = Duration::from_secs(1);

/// How often notes of changed configs are looked at for those that are read by all.
const CONFIG_CHANGES_CHECK: Duration = Duration::from_secs(300);

/// Starts the tasks on the present runtime. They end when they are dropped.
pub(crate) fn start(services: &Arc<Services>) -> Vec<Task<()>> {
    let storage = &services.config.storage;
    let retention = Duration::from_millis(storage.log_retention_check_interval_ms.unsigned_abs());
    let checkpoint = storage
        .log_flush_offset_checkpoint_interval_ms
        .min(storage.log_flush_start_offset_checkpoint_interval_ms);
    // An interval of 0 would spin; Kafka's scheduler takes it as "as often as you can".
    let checkpoint = Duration::from_millis(u64::from(checkpoint.unsigned_abs()).max(100));
    let expiration_ms = i64::from(storage.producer_id_expiration_ms);
    vec![
        every(services, "log-retention", retention, |services| services.logs.delete_old_segments()),
        every(services, "log-checkpoint", checkpoint, |services| {
            if let Err(error) = services.logs.checkpoint() {
                error!(%error, "could not write checkpoints");
            }
        }),
        every(services, "producer-expiry", PRODUCER_CHECK, move |services| {
            services.logs.expire_producers(expiration_ms);
        }),
        every(services, "log-delete", DELETION_CHECK, |services| services.logs.unlink_deleted()),
        Spawner::current().spawn(purge_config_notes(services.clone())),
    ]
}

/// Runs `job` on a thread called `name` whenever `interval` has passed since it last ended.
fn every(
    services: &Arc<Services>,
    name: &'static str,
    interval: Duration,
    job: impl Fn(&Services) + Clone + Send + 'static,
) -> Task<()> {
    let services = services.clone();
    Spawner::current().spawn(async move {
        loop {
            time::sleep(interval).await;
            let (services, job) = (services.clone(), job.clone());
            if let Err(error) = task::blocking(name, move || job(&services)).await {
                error!(task = name, %error, "housekeeping failed");
            }
        }
    })
}

async fn purge_config_notes(services: Arc<Services>) {
    loop {
        time::sleep(CONFIG_CHANGES_CHECK).await;
        let now_ms = services.world.clock.wall_ms();
        if let Err(error) = purge_config_changes(&**services.cluster.tree(), now_ms).await {
            error!(%error, "could not purge notes of changed configs");
        }
    }
}
