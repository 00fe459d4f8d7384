//! What an operator can set for the compute unit: bounds and paces, never anything a result depends on.
//!
//! At a bound the unit refuses (busy, or a limit) or evicts; no bound here changes an outcome (invariant 6).

use crate::permanent::Settings;

/// Settings of the compute unit.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads that evaluate; 0 takes one per core.
    pub threads: usize,
    /// Jobs waiting for those threads before new requests are refused as busy.
    pub jobs_max: usize,
    /// Requests waiting for one process before new ones are refused as busy.
    pub requests_max: usize,
    /// Processes kept live in memory; the least recently used beyond it go to their checkpoints.
    pub live_max: usize,
    /// Resident memory of the node, in bytes, above which idle processes are evicted; 0 sets no bound.
    pub resident_bytes_max: u64,
    /// Folder of compiled modules, to be shared by several nodes of one person; by default in the caches.
    pub modules: Option<std::path::PathBuf>,
    /// Modules kept compiled in memory.
    pub modules_max: usize,
    /// Largest module read, in bytes.
    pub module_bytes_max: usize,
    /// Entries of a log read at once.
    pub log_page: usize,
    /// Bytes of messages made ready at once for one process.
    pub log_page_bytes_max: usize,
    /// Evaluations done before a process gives its thread to another.
    pub turn_evaluations_max: usize,
    /// Time after which a process gives its thread to another, in ms.
    pub turn_ms_max: u64,
    /// Evaluations one request may wait for; then it is refused as busy, the work done is kept.
    pub request_evaluations_max: u64,
    /// Evaluations between two checkpoints of a live process.
    pub checkpoint_evaluations: u64,
    /// Evaluation time between two checkpoints of a live process, in ms.
    pub checkpoint_ms: u64,
    /// Slots replayed to answer about a state before the present one; beyond it the question is refused.
    pub replay_slots_max: u64,
    /// Dry runs and state reads at once; 0 leaves one thread to the log.
    pub reads_max: usize,
    /// Dry runs and state reads waiting before new ones are refused as busy.
    pub reads_waiting_max: usize,
    /// Largest memory a process may ask for by `Memory-Limit`, in bytes.
    pub memory_limit_bytes_max: u64,
    /// Largest gas a process may ask for by `Compute-Limit`.
    pub compute_limit_max: u64,
    /// Outcomes on a page of `/results` and `/cron`.
    pub page_max: usize,
    /// Bytes of outcomes after which such a page ends.
    pub page_bytes_max: usize,
    /// Longest message of a dry run, in bytes.
    pub dry_run_bytes_max: usize,
    /// Outcomes held in memory before they are written.
    pub unwritten_max: usize,
    /// Bytes of outcomes held in memory before they are written.
    pub unwritten_bytes_max: usize,
    /// Memory for the cache of the outcome index, in bytes.
    pub index_cache_bytes: usize,
    /// Refuse processes spawned under another engine epoch instead of warning about them.
    pub engine_epoch_strict: bool,
    /// Longest compilation of one module, in ms; beyond it the module is refused.
    pub compile_ms_max: u64,
    /// Permanent checkpoints.
    pub permanent: Settings,
    /// What processes may ask of models.
    pub inference: crate::ai::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            threads: 0,
            jobs_max: 4096,
            requests_max: 256,
            live_max: 64,
            resident_bytes_max: 768 << 20,
            modules: None,
            modules_max: 64,
            module_bytes_max: 32 << 20,
            log_page: 100,
            log_page_bytes_max: 32 << 20,
            turn_evaluations_max: 64,
            turn_ms_max: 50,
            request_evaluations_max: 100_000,
            checkpoint_evaluations: 2_000,
            checkpoint_ms: 10_000,
            replay_slots_max: 20_000,
            reads_max: 0,
            reads_waiting_max: 256,
            memory_limit_bytes_max: 4 << 30,
            compute_limit_max: 9_000_000_000_000,
            page_max: 1000,
            page_bytes_max: 32 << 20,
            dry_run_bytes_max: 10 << 20,
            unwritten_max: 4096,
            unwritten_bytes_max: 32 << 20,
            index_cache_bytes: 32 << 20,
            engine_epoch_strict: false,
            compile_ms_max: 60_000,
            permanent: Settings::default(),
            inference: crate::ai::Settings::default(),
        }
    }
}

impl Config {
    /// The threads to run.
    pub fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(2, usize::from);
        if self.threads == 0 { cores() } else { self.threads }
    }

    /// Dry runs and state reads that may go on at once.
    pub fn read_count(&self) -> usize {
        let all_but_one = || self.thread_count().saturating_sub(1).max(1);
        if self.reads_max == 0 {
            all_but_one()
        } else {
            self.reads_max
        }
    }
}
