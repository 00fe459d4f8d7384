//! Every limit of the weave, with its default.

/// Configuration of the weave. It may refuse work; it never changes what is stored.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A segment is sealed once it has grown to this.
    pub segment_bytes_max: u64,
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
    /// Milliseconds between blocks of the dev chain; fixed when a data folder is made.
    pub chain_interval_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_bytes_max: 256 << 20,
            preallocate_bytes: 16 << 20,
            queue_groups_max: 16_384,
            queue_bytes_max: 256 << 20,
            batch_bytes_max: 8 << 20,
            record_bytes_max: 256 << 20,
            group_records_max: 16_384,
            chain_interval_ms: 10_000,
        }
    }
}
