//! A double started by hand: three listeners on loopback, blocks by the real clock, a journal of what was posted.
//!
//! Not here: the command line. The invariant: what the journal holds makes the same double again, up to the time
//! noted last.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::PEERS;
use super::double::Double;
use super::faults::Faults;
use super::http::{Handle, router};
use super::input::Input;
use super::rules::Rules;

/// Journal of this form.
const VERSION: u32 = 1;

/// What a double by hand is made of; the first line of its journal, so that later starts make the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    version: u32,
    /// When its clock begins, ms since 1970.
    pub genesis_ms: u64,
    /// Between blocks, ms.
    pub block_ms: u64,
    /// The seed of its faults; `None`: nothing goes wrong.
    pub seed: Option<u64>,
}

impl Setting {
    /// Of a double that begins now.
    pub fn new(genesis_ms: u64, block_ms: u64, seed: Option<u64>) -> Setting {
        Setting {
            version: VERSION,
            genesis_ms,
            block_ms,
            seed,
        }
    }

    fn double(&self) -> Double {
        let faults = self.seed.map_or(Faults::none(), Faults::seeded);
        Double::new(Rules::by_hand(self.genesis_ms, self.block_ms), faults)
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: u64,
    input: Input,
}

/// The file of inputs, and beside it the time.
pub(super) struct Journal {
    file: File,
    time: PathBuf,
}

fn wrong(text: impl Into<String>) -> std::io::Error {
    std::io::Error::other(text.into())
}

impl Journal {
    pub(super) fn write(&mut self, at: u64, input: &Input) -> std::io::Result<()> {
        let input = input.clone();
        let mut line = serde_json::to_vec(&Line { at, input })?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    pub(super) fn note_time(&mut self, now_ms: u64) -> std::io::Result<()> {
        let new = self.time.with_extension("new");
        std::fs::write(&new, now_ms.to_string())?;
        std::fs::rename(new, &self.time)
    }
}

/// Opens the double of a folder: as it was, or a new one of `setting`.
///
/// # Errors
/// A folder that cannot be used, a journal of another setting or a newer form.
pub fn open(folder: &Path, setting: &Setting) -> std::io::Result<Handle> {
    std::fs::create_dir_all(folder)?;
    let (path, time) = (folder.join("journal.jsonl"), folder.join("time"));
    let mut file = File::options().read(true).append(true).create(true).open(&path)?;
    let mut lines = BufReader::new(file.try_clone()?).lines();
    let double = match lines.next().transpose()? {
        None => {
            let mut line = serde_json::to_vec(setting)?;
            line.push(b'\n');
            file.write_all(&line)?;
            setting.double()
        }
        Some(first) => {
            let held: Setting = serde_json::from_str(&first)?;
            let same = (held.version, held.block_ms, held.seed) == (VERSION, setting.block_ms, setting.seed);
            if !same {
                let text = format!(
                    "{} is of a double with {first}; start it alike, or elsewhere",
                    path.display()
                );
                return Err(wrong(text));
            }
            replay(held.double(), lines, &time)?
        }
    };
    Ok(Handle::of(double, Some(Journal { file, time })))
}

fn replay(
    mut double: Double,
    lines: impl Iterator<Item = std::io::Result<String>>,
    time: &Path,
) -> std::io::Result<Double> {
    for line in lines {
        // A line that a crash cut off was never applied; it would be the last.
        let Ok(line) = serde_json::from_str::<Line>(&line?) else {
            break;
        };
        double.tick(line.at.saturating_sub(double.now_ms()));
        double.apply(&line.input);
    }
    let noted = std::fs::read_to_string(time)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    double.tick(noted.unwrap_or(0).saturating_sub(double.now_ms()));
    Ok(double)
}

/// Listeners on an address and the two ports after it; port 0 takes free ones, which need not be neighbours.
///
/// # Errors
/// A port that is taken; an address that others can reach.
pub async fn listen(address: SocketAddr) -> std::io::Result<Vec<TcpListener>> {
    if !address.ip().is_loopback() {
        return Err(wrong(
            "the double gives money to everybody: it listens on loopback only",
        ));
    }
    let mut listeners = Vec::with_capacity(PEERS);
    for number in 0..PEERS as u16 {
        let port = match address.port() {
            0 => 0,
            first => first
                .checked_add(number)
                .ok_or_else(|| wrong("ports end at 65535"))?,
        };
        listeners.push(TcpListener::bind((address.ip(), port)).await?);
    }
    Ok(listeners)
}

/// Serves a double until `stop` ends; with `block_ms` its clock goes with the real one.
///
/// # Errors
/// A listener that fails, a journal that cannot be written.
pub async fn run(
    handle: Handle,
    listeners: Vec<TcpListener>,
    block_ms: Option<u64>,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let addresses: std::io::Result<Vec<String>> = listeners
        .iter()
        .map(|one| Ok(one.local_addr()?.to_string()))
        .collect();
    handle.lock().addresses = addresses?;
    let mut tasks = tokio::task::JoinSet::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let routes = router(&handle, number);
        tasks.spawn(async move { axum::serve(listener, routes).await });
    }
    if let Some(block_ms) = block_ms {
        tasks.spawn(pace(handle, block_ms));
    }
    tokio::select! {
        () = stop => Ok(()),
        Some(ended) = tasks.join_next() => ended.map_err(std::io::Error::other)?,
    }
}

/// Moves the double's clock with the real one, in quarters of a block.
async fn pace(handle: Handle, block_ms: u64) -> std::io::Result<()> {
    let step_ms = (block_ms / 4).max(1);
    let mut timer = tokio::time::interval(Duration::from_millis(step_ms));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    timer.tick().await;
    loop {
        timer.tick().await;
        handle.tick(step_ms)?;
    }
}
