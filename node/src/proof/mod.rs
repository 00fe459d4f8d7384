//! `weft prove` and `weft verify`: proof files made from what gateways hold, and read by anybody.
//!
//! Not here: what a proof is (`spec::proof`). The invariant: a file is written only after it verified as a stranger
//! would verify it.

pub mod args;
mod find;
mod make;
mod report;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use aos_shell::error::Problem;
use bytes::Bytes;
use spec::fraud::{self, Fraud};
use spec::proof::Proof;

use crate::client::{Done, Outlet};
use crate::gateways;
use args::{ProveArgs, VerifyArgs};

/// Longest small proof, in bytes; a whole one, and one through a bundler, may be longer.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// `weft prove`
pub async fn prove(args: &ProveArgs, outlet: &Outlet) -> Done {
    let peers = gateways::named_or_the_nodes(&args.from, &args.node).await?;
    let making = make::proof(&peers, args.id, args.carrier, args.full);
    let proof = outlet.wait("reading the weave", making).await?;
    let file = proof.encode();
    // Whoever gets the file has nothing but the file.
    let (_, shown) = Proof::read_verified(&file).map_err(report::refused)?;
    let path = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.proof", args.id)));
    std::fs::write(&path, &file)
        .map_err(|error| Problem::new("proof-file", format!("{}: {error}", path.display())))?;
    match args.json {
        true => outlet.json(&report::written(&path, file.len(), &shown)),
        false => {
            outlet.note(&report::text(&shown, &[]));
            if file.len() > SMALL_BYTES_MAX && !args.full {
                outlet.note(&format!(
                    "{} bytes: spec/proof.md says why it is longer than 64 KiB",
                    file.len()
                ));
            }
            outlet.value(&path.display().to_string());
        }
    }
    Ok(0)
}

/// `weft verify`
pub async fn verify(args: &VerifyArgs, outlet: &Outlet) -> Done {
    if let Some(process) = args.process {
        return crate::follow::audit::verify(process, args, outlet).await;
    }
    let path = args
        .file
        .as_deref()
        .ok_or_else(|| Problem::new("nothing-to-verify", "neither a FILE nor --process was named"))?;
    let file = read(path)?;
    if file.starts_with(fraud::MAGIC) {
        return verify_fraud(&file, args, outlet);
    }
    let (proof, shown) = Proof::read_verified(&file).map_err(report::refused)?;
    let mut agreed = Vec::new();
    for peer in gateways::named(&args.from)? {
        let asked = outlet.wait("asking the gateway", make::compare(&peer, &proof));
        agreed.push(asked.await?);
    }
    match args.json {
        true => outlet.json(&report::verified(&shown, &agreed)),
        false => outlet.value(&report::text(&shown, &agreed)),
    }
    Ok(0)
}

/// A fraud file shows what it shows; no gateway has anything to add.
fn verify_fraud(file: &Bytes, args: &VerifyArgs, outlet: &Outlet) -> Done {
    let fraud = Fraud::read_verified(file);
    let fraud = fraud.map_err(|error| Problem::new("proof-refused", error.to_string()))?;
    match args.json {
        true => outlet.json(&report::fraud_json(&fraud)),
        false => outlet.value(&report::fraud_text(&fraud)),
    }
    Ok(0)
}

/// The file's bytes; nothing longer than any proof is read.
fn read(path: &Path) -> Result<Bytes, Problem> {
    let problem = |why: String| Problem::new("proof-file", format!("{}: {why}", path.display()));
    let file = std::fs::metadata(path).map_err(|error| problem(error.to_string()))?;
    if file.len() > spec::proof::FILE_LEN_MAX as u64 {
        return Err(problem("longer than any proof (256 MiB)".into()));
    }
    let bytes = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
    Ok(bytes.into())
}
