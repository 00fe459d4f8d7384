//! `weft keys succeed`: a new key takes the scheduler's place.
//!
//! Not here: what the log and its readers make of it (`su::resume`, `spec::continuity`). The
//! invariant: at every moment `DATA/keys` holds a key that the log leads to, and no key is lost.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use spec::Signer;

use crate::cli::{KeyKind, SucceedArgs};
use crate::wallet;

/// Writes the succession, then puts the new key in the old one's place.
pub fn succeed(args: &SucceedArgs) -> Result<()> {
    let keys = args.data.join("keys");
    let (old_file, next_file) = (keys.join("su.json"), keys.join("su.next.json"));
    if !old_file.exists() {
        bail!(
            "{} is missing: the scheduler's key must lie in the data folder to be replaced",
            old_file.display()
        );
    }
    let old = wallet::read(&old_file)?;
    let new = next_key(args, &next_file)?;
    // The log names the new key below: its file must outlive a power cut by then.
    fs::File::open(&next_file)?.sync_all()?;
    fs::File::open(&keys)?.sync_all()?;
    if new.address() == old.address() {
        // Interrupted after the last step but the draft's removal.
        fs::remove_file(&next_file)?;
        bail!(
            "{} is the scheduler's key already; nothing was done",
            new.address()
        );
    }
    let weave = weave::Weave::open(weave::Config::default(), &args.data)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let config = su::Config::default();
    let written = runtime.block_on(su::resume::succeed(
        &config,
        &args.data,
        &**weave.log(),
        &old,
        new.address(),
    ));
    let link = written?;
    runtime.block_on(weave.close());
    let kept = keys.join(format!("su.{}.json", old.address()));
    if !kept.exists() {
        fs::hard_link(&old_file, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
    }
    fs::rename(&next_file, &old_file).with_context(|| format!("cannot replace {}", old_file.display()))?;
    fs::File::open(&keys)?.sync_all()?;
    println!("{}", link.to);
    eprintln!(
        "{} signs for the scheduler from now on; {} said so in {} and is kept as {}",
        link.to,
        link.from,
        link.item,
        kept.display()
    );
    Ok(())
}

/// The key that follows, in a file of the folder: the same one if this was interrupted before.
fn next_key(args: &SucceedArgs, file: &Path) -> Result<Signer> {
    match &args.new_key {
        None if file.exists() => wallet::read(file),
        Some(given) if file.exists() => {
            let (left, signer) = (wallet::read(file)?, wallet::read(given)?);
            if left.address() != signer.address() {
                bail!(
                    "{} is left from a succession to {}, which the log may name already; finish it without --new-key, or name that key",
                    file.display(),
                    left.address()
                );
            }
            Ok(left)
        }
        None => wallet::create(file, KeyKind::Ed25519),
        Some(given) => {
            let signer = wallet::read(given)?;
            wallet::copy(given, file)?;
            Ok(signer)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

    use super::*;

    #[test]
    fn what_an_interrupted_succession_left_is_not_taken_for_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let (left, given) = (
            folder.path().join("su.next.json"),
            folder.path().join("given.json"),
        );
        let first = wallet::create(&left, KeyKind::Ed25519).unwrap();
        wallet::create(&given, KeyKind::Ed25519).unwrap();
        let mut args = SucceedArgs {
            data: folder.path().into(),
            new_key: Some(given),
        };
        let refused = next_key(&args, &left).err().unwrap().to_string();
        assert!(refused.contains(&first.address().to_string()), "{refused}");
        args.new_key = Some(left.clone());
        assert_eq!(next_key(&args, &left).unwrap().address(), first.address());
        args.new_key = None;
        assert_eq!(next_key(&args, &left).unwrap().address(), first.address());
    }
}
