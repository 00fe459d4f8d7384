//! The scheduler's configuration: every limit has its name here.
//!
//! Not here: the log's own limits. The invariant: a value may refuse a request or page an answer,
//! it never changes what an assignment says once it is made.

/// Bounds and defaults of a scheduler.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Refuse to make a process whose `Scheduler` tag is not this scheduler's address. Off by
    /// default: the field's clients set a fixed scheduler, whichever node they speak to.
    pub strict_scheduler: bool,
    /// Requests waiting for the writer; at the bound new ones are refused as busy.
    pub queue_max: usize,
    /// Bytes of items waiting for the writer; at the bound new ones are refused as busy.
    pub queue_bytes_max: usize,
    /// A batch is closed once its items have this many bytes.
    pub batch_bytes_max: usize,
    /// Requests given their slots in one batch, and so made durable by one flush of the disk.
    pub batch_max: usize,
    /// Processes whose heads are kept in memory; others are read from the log when needed.
    pub heads_max: usize,
    /// Assignments kept in memory before they go to the index on disk.
    pub unflushed_max: usize,
    /// Memory of the index's page cache, in bytes.
    pub index_cache_bytes: usize,
    /// Entries of a page when the client asks for no number.
    pub page_entries: usize,
    /// Most entries of a page, whatever the client asks for.
    pub page_entries_max: usize,
    /// A page ends early once its items have this many bytes.
    pub page_bytes_max: usize,
    /// Entries read without leaving the caller's thread; longer pages are read by a helper thread.
    pub inline_entries_max: usize,
    /// Items with more data than this are verified on a helper thread, in bytes.
    pub inline_verify_bytes_max: usize,
    /// How far ahead of a tick the promise about ticks is written, in ms: one write covers all
    /// ticks until then. After a crash timestamps go on from there.
    pub lease_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            strict_scheduler: false,
            queue_max: 4096,
            queue_bytes_max: 256 << 20,
            batch_bytes_max: 8 << 20,
            batch_max: 256,
            heads_max: 65_536,
            unflushed_max: 32_768,
            index_cache_bytes: 64 << 20,
            page_entries: 100,
            page_entries_max: 5000,
            page_bytes_max: 64 << 20,
            inline_entries_max: 16,
            inline_verify_bytes_max: 64 << 10,
            lease_ms: 2000,
        }
    }
}
