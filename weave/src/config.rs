//! Every limit of the weave, with its default.

/// Configuration of the weave. It may refuse work; it never changes what is stored.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A segment of class local is sealed once it has grown to this.
    pub segment_bytes_max: u64,
    /// A segment of class permanent is sealed once it has grown to this: it is one bundle then.
    pub seal_bytes_max: u64,
    /// Disk space is reserved in steps of this size, so that syncing need not grow the file.
    pub preallocate_bytes: u64,
    /// Groups waiting for the writer; beyond it appends are refused as busy.
    pub queue_groups_max: usize,
    /// Payload bytes waiting for the writer; beyond it appends are refused as busy.
    pub queue_bytes_max: u64,
    /// A batch (one write, one fdatasync) is closed once it holds this many bytes.
    pub batch_bytes_max: u64,
    /// Largest payload of one record.
    pub record_bytes_max: u64,
    /// Most records of one group.
    pub group_records_max: usize,
    /// Records that wait for the index at most; beyond it the log waits.
    pub index_backlog_records_max: usize,
    /// Their bytes at most.
    pub index_backlog_bytes_max: u64,
    /// The index takes what is new once it is this many records ...
    pub index_flush_records: usize,
    /// ... or after this long.
    pub index_flush_ms: u64,
    /// The index is made durable this often; a crash costs re-reading so much of the log.
    pub index_sync_ms: u64,
    /// Memory for the index's pages.
    pub index_cache_bytes: usize,
    /// Most values of all conditions of a query together.
    pub query_values_max: usize,
    /// Most steps through the index that a query may take.
    pub query_steps_max: usize,
    /// A page of hits ends early once its items have this many bytes.
    pub query_bytes_max: u64,
    /// Longest manifest that is resolved, in bytes.
    pub manifest_bytes_max: usize,
    /// Longest GraphQL request, in bytes.
    pub graphql_bytes_max: usize,
    /// Deepest nesting of a GraphQL query.
    pub graphql_depth_max: usize,
    /// Fields of a GraphQL query at most; a list counts 50 besides its fields.
    pub graphql_complexity_max: usize,
    /// Longest data of a transaction that is posted chunk by chunk, in bytes.
    pub posted_bytes_max: u64,
    /// Most items of a bundle that is posted, those of bundles inside it included.
    pub unfold_items_max: usize,
    /// Blocks looked through, from the newest back, for a block's id.
    pub block_search_max: usize,
    /// Milliseconds between blocks of the dev chain; fixed when a data folder is made.
    pub chain_interval_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_bytes_max: 256 << 20,
            seal_bytes_max: 8 << 20,
            preallocate_bytes: 16 << 20,
            queue_groups_max: 16_384,
            queue_bytes_max: 256 << 20,
            batch_bytes_max: 8 << 20,
            record_bytes_max: 256 << 20,
            group_records_max: 16_384,
            index_backlog_records_max: 262_144,
            index_backlog_bytes_max: 256 << 20,
            index_flush_records: 16_384,
            index_flush_ms: 200,
            index_sync_ms: 5_000,
            index_cache_bytes: 64 << 20,
            query_values_max: 1_000,
            query_steps_max: 200_000,
            query_bytes_max: 64 << 20,
            manifest_bytes_max: 8 << 20,
            graphql_bytes_max: 256 << 10,
            graphql_depth_max: 16,
            graphql_complexity_max: 1_000,
            posted_bytes_max: 256 << 20,
            unfold_items_max: 10_000,
            block_search_max: 100_000,
            chain_interval_ms: 10_000,
        }
    }
}
