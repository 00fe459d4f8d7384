//! Key files: made once, readable by their owner only, never overwritten, never shown.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use spec::{Address, Signer};
use zeroize::Zeroizing;

use crate::cli::{KeyKind, WalletAddressArgs, WalletNewArgs};

/// `weft wallet new`: writes a new key and prints its address.
pub fn new(args: &WalletNewArgs) -> Result<()> {
    let signer = create(&args.file, args.kind)?;
    println!("{}", signer.address());
    eprintln!(
        "wrote {} (readable by you only); whoever has this file can sign as you",
        args.file.display()
    );
    Ok(())
}

/// `weft wallet address`: the account that a key signs items for.
pub fn address(args: &WalletAddressArgs) -> Result<()> {
    println!("{}", read(&args.file)?.address());
    Ok(())
}

/// The account under which a key posts transactions.
///
/// # Errors
/// A file that is no key, or whose key signs none.
pub fn payer(path: &Path) -> Result<Address> {
    let owner = read(path)?.transaction_owner();
    let owner = owner.with_context(|| {
        format!(
            "{} signs no transactions: it is no RSA or secp256k1 key",
            path.display()
        )
    })?;
    Ok(owner.address())
}

/// Makes a key and writes it to a new file with mode 0600.
pub fn create(path: &Path, kind: KeyKind) -> Result<Signer> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    // The file is claimed first, so that no key is made that cannot be kept.
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{} exists already and keys are never overwritten; choose another name",
                path.display()
            )
        }
        Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
    };
    let written = jwk(kind).and_then(|jwk| {
        file.write_all(jwk.as_bytes())?;
        file.sync_all()?;
        Ok(Signer::from_jwk(&jwk)?)
    });
    if written.is_err() {
        // An empty key file would look like a key at the next start.
        let _ = fs::remove_file(path);
    }
    written.with_context(|| format!("cannot write a key to {}", path.display()))
}

fn jwk(kind: KeyKind) -> Result<Zeroizing<String>> {
    match kind {
        KeyKind::Rsa => Ok(Signer::generate_rsa_jwk()?),
        KeyKind::Ed25519 => {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *seed).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
            Ok(Signer::ed25519_jwk(&seed))
        }
    }
}

/// Reads a key file.
pub fn read(path: &Path) -> Result<Signer> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    let text = text.with_context(|| format!("cannot read the key {}", path.display()))?;
    let signer = Signer::from_jwk(&text).with_context(|| format!("{} is no usable key", path.display()))?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!("{} can be read by others; `chmod 600` it", path.display());
    }
    Ok(signer)
}

/// Copies a key to a new file with mode 0600, durably.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read(from).map(Zeroizing::new);
    let text = text.with_context(|| format!("cannot read the key {}", from.display()))?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(to);
    let mut file = file.with_context(|| format!("cannot create {}", to.display()))?;
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write a key to {}", to.display()))
}

/// Reads a unit's key, making it at the first start.
pub fn read_or_create(path: &Path) -> Result<Signer> {
    match path.exists() {
        true => read(path),
        false => create(path, KeyKind::Ed25519),
    }
}
