//! `[upload]` of the configuration and its flags: where a node's permanent log goes, who pays, and within what.
//!
//! Not here: uploading. The invariant: what is checked here can be used, and what cannot is refused with its remedy
//! before anything is opened.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use spec::Signer;

use crate::cli::NodeArgs;
use crate::wallet;

/// Most upstreams, and most bundlers.
const URLS_MAX: usize = 32;

/// The table `[upload]`. Without an upstream nothing is uploaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Arweave nodes or gateways: posted to, seeded to, asked for what is really there.
    #[serde(deserialize_with = "one_or_more")]
    pub upstream: Vec<String>,
    /// Key that signs and pays (JWK): RSA or secp256k1.
    #[serde(alias = "upload_wallet")]
    pub wallet: Option<PathBuf>,
    /// Bundling services that carriers are handed to first.
    #[serde(deserialize_with = "one_or_more")]
    pub bundler: Vec<String>,
    /// How the bundlers are paid, as their routes call it.
    pub bundler_token: String,
    /// Signs and pays nothing: tells only what it would do.
    pub dry_run: bool,
    /// Most winston that are spent from midnight to midnight UTC; no bound where it is not given.
    #[serde(deserialize_with = "winston")]
    pub budget_per_day_winston: Option<u128>,
    /// The open segment is sealed once its oldest record is this old. Default: 60 s with a bundler, else an hour.
    pub seal_age_ms: Option<u64>,
    /// It is sealed earlier once it holds this much and no carrier waits for its first confirmation.
    pub seal_bytes_min: u64,
    /// Most bytes of class permanent that are not permanent yet; beyond it messages are refused.
    pub spool_bytes_max: u64,
    /// Peers beside the one posted to that must take all chunks, where there are so many.
    pub seeds_min: usize,
    /// Confirmations at which a carrier is called permanent, if its data is proved to be there.
    pub confirmations_min: u64,
    /// How often upstreams are asked, ms.
    pub poll_ms: u64,
    /// How long an upstream may take to answer, ms.
    pub timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            upstream: Vec::new(),
            wallet: None,
            bundler: Vec::new(),
            bundler_token: "arweave".into(),
            dry_run: false,
            budget_per_day_winston: None,
            seal_age_ms: None,
            seal_bytes_min: 256 << 10,
            spool_bytes_max: 4 << 30,
            seeds_min: 3,
            confirmations_min: 18,
            poll_ms: 10_000,
            timeout_ms: 30_000,
        }
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        One(String),
        More(Vec<String>),
    }
    Ok(match Form::deserialize(from)? {
        Form::One(one) => vec![one],
        Form::More(more) => more,
    })
}

/// TOML's integers end at 2^63: larger amounts are texts.
fn winston<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u128>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u64),
        Text(String),
    }
    match Form::deserialize(from)? {
        Form::Number(number) => Ok(Some(number.into())),
        Form::Text(text) => {
            let number = text
                .parse()
                .map_err(|_| D::Error::custom("winston are a whole number"));
            number.map(Some)
        }
    }
}

impl Settings {
    /// Puts the flags on top.
    pub fn apply(&mut self, args: &NodeArgs) {
        if !args.upstream.is_empty() {
            self.upstream.clone_from(&args.upstream);
        }
        if args.upload_wallet.is_some() {
            self.wallet.clone_from(&args.upload_wallet);
        }
        if !args.bundler.is_empty() {
            self.bundler.clone_from(&args.bundler);
        }
        self.dry_run |= args.upload_dry_run;
    }

    /// Whether anything is uploaded at all.
    pub fn is_on(&self) -> bool {
        !self.upstream.is_empty()
    }

    /// Whether the settings fit together; opens no file and asks nobody.
    pub fn check(&self) -> Result<()> {
        match (self.is_on(), &self.wallet, self.bundler.is_empty()) {
            (false, None, true) => return Ok(()),
            (false, _, false) => bail!(
                "--bundler without --upstream: what a bundler promises is checked at an Arweave node; name one with --upstream URL"
            ),
            (false, Some(_), _) => {
                bail!("--upload-wallet without --upstream: say where to upload to with --upstream URL")
            }
            (true, None, _) => bail!(
                "--upstream without --upload-wallet: uploads are signed and paid by a key; name its file, or make one with `weft wallet new FILE --type rsa`"
            ),
            (true, Some(_), _) => {}
        }
        check_urls("--upstream", &self.upstream)?;
        check_urls("--bundler", &self.bundler)?;
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_word(&self.bundler_token) {
            bail!(
                "[upload] bundler_token = `{}`: a token is a word such as `arweave`",
                self.bundler_token
            );
        }
        let least = [
            ("seal_bytes_min", self.seal_bytes_min),
            ("spool_bytes_max", self.spool_bytes_max),
            ("confirmations_min", self.confirmations_min),
            ("poll_ms", self.poll_ms),
            ("timeout_ms", self.timeout_ms),
            ("seal_age_ms", self.seal_age_ms.unwrap_or(1)),
        ];
        match least.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => bail!("[upload] {name} = 0: it must be at least 1"),
            None => Ok(()),
        }
    }

    /// Age at which the open segment is sealed, ms.
    pub fn seal_age_ms(&self) -> u64 {
        let usual = if self.bundler.is_empty() {
            3_600_000
        } else {
            60_000
        };
        self.seal_age_ms.unwrap_or(usual)
    }

    /// The key that pays.
    ///
    /// # Errors
    /// A file that is not there, that others can read, or whose key signs no transactions.
    pub fn signer(&self) -> Result<Signer> {
        let path = self.wallet.as_deref().context("the settings were checked")?;
        check_mode(path)?;
        let signer = wallet::read(path)?;
        if signer.transaction_owner().is_none() {
            bail!(
                "{}: the base layer takes RSA and secp256k1 keys only; make one with `weft wallet new FILE --type rsa`",
                path.display()
            );
        }
        Ok(signer)
    }
}

/// A key that holds money must be its owner's alone.
fn check_mode(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path);
    let metadata = metadata.with_context(|| format!("cannot read the upload wallet {}", path.display()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!(
            "{path} can be read by others and holds money: `chmod 600 {path}`",
            path = path.display()
        );
    }
    Ok(())
}

fn check_urls(flag: &str, urls: &[String]) -> Result<()> {
    if urls.len() > URLS_MAX {
        bail!("{flag}: at most {URLS_MAX} URLs");
    }
    for (at, url) in urls.iter().enumerate() {
        if url.starts_with("https://") {
            bail!(
                "{flag} {url}: this program speaks no TLS; name an http:// URL, or put a local proxy before it"
            );
        }
        wire::client::Http::new(url, &wire::client::Limits::default())
            .map_err(|refusal| anyhow::anyhow!("{flag}: {refusal}"))?;
        if url.contains(['?', '#']) {
            bail!("{flag} {url}: a base URL has no query");
        }
        if urls[..at]
            .iter()
            .any(|before| before.trim_end_matches('/') == url.trim_end_matches('/'))
        {
            bail!("{flag} {url} is given twice");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]
    use super::*;

    fn wrong(toml: &str) -> String {
        let settings: Settings = toml::from_str(toml).unwrap();
        settings.check().unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_remedy() {
        assert!(Settings::default().check().is_ok() && !Settings::default().is_on());
        assert!(wrong("upstream = 'http://h'").contains("weft wallet new FILE --type rsa"));
        assert!(wrong("wallet = 'w'").contains("--upstream URL"));
        assert!(wrong("bundler = 'http://b'").contains("--upstream"));
        let with = |urls: &str| format!("wallet = 'w'\nupstream = {urls}");
        assert!(wrong(&with("'https://arweave.net'")).contains("TLS"));
        assert!(wrong(&with("'ftp://h'")).contains("http:// URL"));
        assert!(wrong(&with("'http://h?x'")).contains("no query"));
        assert!(wrong(&with("['http://h', 'http://h/']")).contains("twice"));
        assert!(wrong(&format!("{}\npoll_ms = 0", with("'http://h'"))).contains("poll_ms"));
        assert!(wrong(&format!("{}\nbundler_token = 'a/b'", with("'http://h'"))).contains("token"));
    }

    #[test]
    fn one_url_or_several_and_large_amounts_are_read() {
        let text = "upstream = ['http://a:1984', 'http://b/x']\nbundler = 'http://c'\nupload_wallet = 'w.json'\nbudget_per_day_winston = '90000000000000000000'";
        let settings: Settings = toml::from_str(text).unwrap();
        settings.check().unwrap();
        assert_eq!((settings.upstream.len(), settings.bundler.len()), (2, 1));
        assert_eq!(settings.budget_per_day_winston, Some(90_000_000_000_000_000_000));
        assert_eq!(settings.seal_age_ms(), 60_000, "with a bundler");
        assert_eq!(Settings::default().seal_age_ms(), 3_600_000);
        let settings: Settings = toml::from_str("budget_per_day_winston = 5").unwrap();
        assert_eq!(settings.budget_per_day_winston, Some(5));
        assert!(toml::from_str::<Settings>("budget_per_day_winston = '1 AR'").is_err());
        assert!(toml::from_str::<Settings>("upstreem = 'x'").is_err());
    }

    #[test]
    fn the_wallet_is_its_owners_alone_and_can_sign_transactions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.json");
        let settings = Settings {
            wallet: Some(path.clone()),
            ..Settings::default()
        };
        let said = || format!("{:#}", settings.signer().err().unwrap());
        assert!(said().contains("cannot read the upload wallet"));
        wallet::create(&path, crate::cli::KeyKind::Ed25519).unwrap();
        assert!(said().contains("--type rsa"));
        std::fs::write(&path, Signer::generate_rsa_jwk().unwrap().as_bytes()).unwrap();
        assert!(settings.signer().is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(said().contains("chmod 600"));
    }
}
