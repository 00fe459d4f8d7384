//! Every limit and interval of the uploader, with its default.

/// Winston in an AR.
const WINSTON_PER_AR: u64 = 1_000_000_000_000;

/// Configuration of the uploader. It decides when and where something goes, never what is stored.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The open permanent segment is sealed once it holds this many bytes and nothing is ahead of it. On the base
    /// layer so much is the natural unit: less costs the same.
    pub seal_bytes_min: u64,
    /// ... or once its oldest record is this old, where the first route is the base layer.
    pub seal_age_l1_ms: u64,
    /// ... or this old, where it is a bundler.
    pub seal_age_bundler_ms: u64,
    /// Bytes bundled a second on average, at most: hashing competes with scheduling. More only once the spool is high.
    pub bundle_bytes_per_s_max: u64,
    /// Bytes of class permanent that are not permanent upstream, at most; beyond it the log refuses more as busy.
    pub spool_bytes_max: u64,
    /// Blocks from its own to the newest at which a transaction is permanent, if its data is proved.
    pub confirmations: u64,
    /// A transaction that is not mined in so many blocks never will be, and is signed again.
    pub expiry_blocks: u64,
    /// A transaction that no peer knows is posted again after so many blocks.
    pub repost_blocks: u64,
    /// If a route takes nothing for so long, the next one is tried.
    pub patience_ms: u64,
    /// So many blocks before a bundler's deadline the next route is taken.
    pub deadline_margin_blocks: u64,
    /// A bundler that gave no deadline is given so many blocks.
    pub deadline_blocks: u64,
    /// An item that a bundler lost is posted to it again after so many blocks.
    pub bundler_repost_blocks: u64,
    /// Chunks are posted to so many peers, when there are.
    pub seed_peers: usize,
    /// Peers of the peers that take chunks and prove them, too, at most; 0: only those named here are asked.
    pub guests_max: usize,
    /// Between questions for them.
    pub guests_ms: u64,
    /// Routes taken at once for each carrier; the others are for falling back.
    pub routes_at_once: usize,
    /// Carriers on their way through bundlers at once.
    pub in_flight_max: usize,
    /// Carriers in blocks that are looked at in one turn: a node that was rebuilt has all of its log to look at.
    pub tended_max: usize,
    /// Chunks of a carrier that are proved at most, chosen by its id; with fewer, all are.
    pub proof_chunks_max: usize,
    /// A chunk that was proved is not asked for again for so many blocks.
    pub proof_blocks: u64,
    /// Longest table of a bundler's bundle that is read to find ours in it, in bytes.
    pub table_bytes_max: u64,
    /// Confirmations at which the data is proved once more, and then archived.
    pub archive_confirmations: u64,
    /// Between audits of carriers that are permanent, one at a time, the longest unseen first.
    pub audit_ms: u64,
    /// Between looks at what is on its way.
    pub poll_ms: u64,
    /// After a failure; doubled with each further one ...
    pub retry_ms: u64,
    /// ... up to this.
    pub retry_ms_max: u64,
    /// Added to the price that peers name, in percent: prices move between signing and mining.
    pub price_margin_percent: u64,
    /// Winston signed for at most on one day (UTC, by the log's times, which never go back); `None`: no bound. An AR
    /// unless said otherwise: whoever reaches the node has a say in what goes up.
    pub budget_winston_per_day: Option<u64>,
    /// Nothing is sealed, signed or posted: prices are asked, and reports tell what would happen.
    pub dry_run: bool,
    /// An alarm is raised if something waits and no peer has answered for so long.
    pub alarm_silent_ms: u64,
    /// ... or if something waits for so long.
    pub alarm_age_ms: u64,
    /// ... or if the spool is so full, in percent.
    pub alarm_spool_percent: u64,
    /// The ledger is written to the cache after so many notes; a start reads the log from there.
    pub snapshot_notes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seal_bytes_min: 256 << 10,
            seal_age_l1_ms: 60 * 60 * 1000,
            seal_age_bundler_ms: 60 * 1000,
            bundle_bytes_per_s_max: 8 << 20,
            spool_bytes_max: 16 << 30,
            confirmations: 18,
            expiry_blocks: 50,
            repost_blocks: 3,
            patience_ms: 60 * 60 * 1000,
            deadline_margin_blocks: 50,
            deadline_blocks: 200,
            bundler_repost_blocks: 125,
            seed_peers: 3,
            guests_max: 8,
            guests_ms: 10 * 60 * 1000,
            routes_at_once: 1,
            in_flight_max: 256,
            tended_max: 32,
            proof_chunks_max: 64,
            proof_blocks: 6,
            table_bytes_max: 64 << 20,
            archive_confirmations: 720,
            audit_ms: 60_000,
            poll_ms: 20_000,
            retry_ms: 5_000,
            retry_ms_max: 5 * 60 * 1000,
            price_margin_percent: 5,
            budget_winston_per_day: Some(WINSTON_PER_AR),
            dry_run: false,
            alarm_silent_ms: 60_000,
            alarm_age_ms: 6 * 60 * 60 * 1000,
            alarm_spool_percent: 80,
            snapshot_notes: 256,
        }
    }
}
