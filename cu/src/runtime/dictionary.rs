//! A module's dictionary: the pages that images of its processes are stored against.
//!
//! It is the state after the boot message of a reference process: kept once per module, never stored, made again when
//! needed. Not here: how a state is written down (`image`, `packed`).
//! Invariant: a dictionary is a function of the module and the engine epoch.

use super::anchor::Anchor;
use super::host::HostState;
use super::layout::Base;
use super::machine::Machine;
use super::module::{Module, boot_limits};
use super::pages::{PAGE, Run, push_page};
use super::{Error, frame};

/// Pages of the dictionary that stand before and from a chunk's first page on, as far as lz4 can look back.
const CONTEXT_BEFORE: usize = 6;
const CONTEXT_FROM: usize = 9;

/// The reference process whose boot gives the dictionary.
const REFERENCE_ENV: &str = r#"{"Process":{"Id":"PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP","Owner":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Tags":[{"name":"Data-Protocol","value":"ao"},{"name":"Variant","value":"ao.TN.1"},{"name":"Type","value":"Process"},{"name":"Module","value":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"},{"name":"Scheduler","value":"SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"},{"name":"Name","value":"reference"}]},"Module":{"Id":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM","Owner":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Tags":[]}}"#;
const REFERENCE_BOOT: &str = r#"{"Id":"PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP","Signature":"","Data":" ","Owner":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Target":"PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP","Anchor":null,"From":"OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO","Tags":[{"name":"Data-Protocol","value":"ao"},{"name":"Variant","value":"ao.TN.1"},{"name":"Type","value":"Process"},{"name":"Module","value":"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"},{"name":"Scheduler","value":"SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"},{"name":"Name","value":"reference"}],"Epoch":0,"Nonce":0,"Timestamp":1700000000000,"Block-Height":1500000,"Hash-Chain":"","Cron":false,"Read-Only":false}"#;

/// The pages that a module's images are stored against.
pub struct Dictionary {
    /// Runs of pages, and for each where its bytes start in `bytes`.
    runs: Vec<(Run, usize)>,
    bytes: Vec<u8>,
    pub hash: [u8; 32],
    /// The same pages, to stand on.
    pub anchor: Anchor,
}

impl Dictionary {
    /// Boots the reference process. A module that cannot boot it has its own boot state as dictionary.
    pub fn of(module: &Module) -> Result<Dictionary, Error> {
        let mut machine = Machine::start(module, boot_limits(module.format()))?;
        let [boot, env] = [REFERENCE_BOOT, REFERENCE_ENV].map(|text| match module.format() {
            format if format.is_lua() => frame::of_json(text.as_bytes()).expect("our own JSON"),
            _ => text.into(),
        });
        match machine.call(&boot, &env)? {
            Ok(_) => machine.commit()?,
            Err(_) => machine.roll_back()?,
        }
        let (live, anchor) = machine.parts();
        let (mut runs, mut bytes) = (Vec::<Run>::new(), Vec::new());
        live.for_nonzero_pages(&anchor.live_runs(live), |page, data| {
            push_page(&mut runs, page);
            bytes.extend_from_slice(data);
        });
        let starts = runs
            .iter()
            .scan(0, |at, r| Some(std::mem::replace(at, *at + r.len * PAGE)));
        let starts: Vec<usize> = starts.collect();
        let runs: Vec<(Run, usize)> = runs.into_iter().zip(starts).collect();
        let mut hasher = blake3::Hasher::new();
        for (run, _) in &runs {
            hasher
                .update(&(run.start as u64).to_le_bytes())
                .update(&(run.len as u64).to_le_bytes());
        }
        let hash = *hasher.update(&bytes).finalize().as_bytes();
        let (memory_bytes, globals) = (live.memory_bytes(), live.globals());
        let mut dictionary = Dictionary {
            runs,
            bytes,
            hash,
            anchor: anchor.clone(),
        };
        let pages = dictionary
            .pages()
            .filter_map(|page| Some((page, dictionary.page(page)?)));
        dictionary.anchor = Anchor::from_pages(memory_bytes, globals, HostState::default(), pages)?;
        Ok(dictionary)
    }

    /// What lz4 may refer to when it packs the chunk that starts at `page`.
    pub fn context(&self, page: usize) -> Vec<u8> {
        let around = page.saturating_sub(CONTEXT_BEFORE)..page + CONTEXT_FROM;
        let mut context = Vec::with_capacity((CONTEXT_BEFORE + CONTEXT_FROM) * PAGE);
        around
            .filter_map(|p| self.page(p))
            .for_each(|page| context.extend_from_slice(page));
        context
    }
}

impl Base for Dictionary {
    fn page(&self, page: usize) -> Option<&[u8]> {
        let i = self.runs.partition_point(|(r, _)| r.end() <= page);
        let (run, at) = self.runs.get(i).filter(|(r, _)| r.start <= page)?;
        let at = at + (page - run.start) * PAGE;
        Some(&self.bytes[at..at + PAGE])
    }

    fn pages(&self) -> impl Iterator<Item = usize> + '_ {
        self.runs.iter().flat_map(|(r, _)| r.start..r.end())
    }
}
