//! The messenger's configuration: every limit it keeps, in one place.
//!
//! Not here: addresses, keys and folders, which the node hands in.

use std::time::Duration;

/// All limits of the messenger. Units stand last in each name.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest item accepted or sent, in bytes.
    pub item_bytes_max: usize,
    /// How many pushes a message of a user (or a cron's) may be away from it; deeper ones are dropped.
    pub depth_max: u32,
    /// Most messages, spawns and assignments sent from one outcome; the rest is dropped.
    pub fan_out_max: usize,
    /// Most deliveries caused by one message of a user (or a cron's); the rest is dropped.
    pub origin_total_max: u64,
    /// How long the count of an origin is kept after its last delivery, in ms.
    pub origin_keep_ms: u64,
    /// Processes evaluated at once.
    pub cranks_max: usize,
    /// Deliveries under way at once.
    pub deliveries_max: usize,
    /// Deliveries of one process that may be under way before its next slot waits.
    pub window_max: usize,
    /// Deliveries of one process, those to failing receivers included, before its next slot waits.
    pub waiting_max: usize,
    /// Undelivered deliveries kept in the queue's file; beyond it senders wait.
    pub pending_max: u64,
    /// Slots read from a log at once.
    pub page_slots: usize,
    /// Attempts at one delivery before it is dropped.
    pub attempts_max: u32,
    /// Wait before the second attempt, in ms; doubles with each further one.
    pub retry_first_ms: u64,
    /// Longest wait between attempts, in ms.
    pub retry_most_ms: u64,
    /// How long one attempt may take before it counts as failed, in ms.
    pub attempt_timeout_ms: u64,
    /// How often monitored processes are asked for outcomes of crons, in ms.
    pub monitor_interval_ms: u64,
    /// Outcomes of crons read at once.
    pub cron_page: usize,
    /// Most monitored processes.
    pub monitors_max: usize,
    /// Traces kept in memory.
    pub traces_max: usize,
    /// How often cursors are written to the queue's file while there is work, in ms.
    pub flush_interval_ms: u64,
    /// Memory the queue's file may use for pages, in bytes.
    pub queue_cache_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            item_bytes_max: 10 * 1024 * 1024,
            depth_max: 1_000,
            fan_out_max: 10_000,
            origin_total_max: 10_000,
            origin_keep_ms: 24 * 3600 * 1000,
            cranks_max: 256,
            deliveries_max: 256,
            window_max: 1_024,
            waiting_max: 16_384,
            pending_max: 100_000,
            page_slots: 32,
            attempts_max: 1_000,
            retry_first_ms: 100,
            retry_most_ms: 60_000,
            attempt_timeout_ms: 30_000,
            monitor_interval_ms: 2_000,
            cron_page: 50,
            monitors_max: 10_000,
            traces_max: 10_000,
            flush_interval_ms: 500,
            queue_cache_bytes: 16 * 1024 * 1024,
        }
    }
}

impl Config {
    /// The wait before the attempt that follows `attempts` failed ones.
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doubled = self
            .retry_first_ms
            .saturating_mul(1 << attempts.saturating_sub(1).min(32));
        Duration::from_millis(doubled.min(self.retry_most_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let config = Config::default();
        let waits: Vec<_> = [1, 2, 3, 90].map(|n| config.backoff(n).as_millis()).into();
        assert_eq!(waits, [100, 200, 400, 60_000]);
    }
}
