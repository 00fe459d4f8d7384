//! `[upload]` of the configuration and its flags: where a node's permanent log goes, who pays, and within what.
//!
//! Not here: uploading. The invariant: what is checked here can be used, and what cannot is refused with its remedy
//! before anything is opened.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use spec::Signer;
use weave::network::{BundlerService, HttpTransport, Transport};

use crate::cli::NodeArgs;
use crate::wallet;

/// Most upstreams, and most bundlers.
const URLS_MAX: usize = 32;

/// The table `[upload]`: these keys, and beside them every one of [`weave::upload::Config`]. Without an upstream
/// nothing is uploaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Settings {
    /// Arweave nodes or gateways: posted to, seeded to, asked for what is really there.
    pub upstream: Vec<String>,
    /// Key that signs and pays (JWK): RSA or secp256k1.
    pub wallet: Option<PathBuf>,
    /// Bundling services that carriers are handed to first.
    pub bundler: Vec<String>,
    /// How the bundlers are paid, as their routes call it. Default: `arweave`.
    pub bundler_token: String,
    /// How long an upstream may take to answer, ms. Default: 30 s.
    pub timeout_ms: u64,
    /// When and how it goes.
    pub config: weave::upload::Config,
}

/// The keys of [`Settings`] itself.
#[derive(Deserialize)]
#[serde(default)]
struct Routes {
    #[serde(deserialize_with = "one_or_more")]
    upstream: Vec<String>,
    #[serde(alias = "upload_wallet")]
    wallet: Option<PathBuf>,
    #[serde(deserialize_with = "one_or_more")]
    bundler: Vec<String>,
    bundler_token: String,
    timeout_ms: u64,
}

impl Default for Routes {
    fn default() -> Routes {
        Routes {
            upstream: Vec::new(),
            wallet: None,
            bundler: Vec::new(),
            bundler_token: "arweave".into(),
            timeout_ms: 30_000,
        }
    }
}

/// Names of the keys of [`Routes`].
const ROUTE_KEYS: [&str; 6] = [
    "upstream",
    "wallet",
    "upload_wallet",
    "bundler",
    "bundler_token",
    "timeout_ms",
];

impl Default for Settings {
    fn default() -> Settings {
        Settings::try_from(toml::Table::new()).expect("every key has a default")
    }
}

impl TryFrom<toml::Table> for Settings {
    type Error = toml::de::Error;

    fn try_from(table: toml::Table) -> Result<Settings, toml::de::Error> {
        let (routes, rest): (toml::Table, toml::Table) = table
            .into_iter()
            .partition(|(key, _)| ROUTE_KEYS.contains(&key.as_str()));
        let routes = Routes::deserialize(routes)?;
        Ok(Settings {
            upstream: routes.upstream,
            wallet: routes.wallet,
            bundler: routes.bundler,
            bundler_token: routes.bundler_token,
            timeout_ms: routes.timeout_ms,
            config: weave::upload::Config::deserialize(rest).map_err(named)?,
        })
    }
}

/// A key that the uploader does not know is none of the routes' either, and may be meant for one of those.
fn named(error: toml::de::Error) -> toml::de::Error {
    let text = error.to_string();
    match text.trim().strip_prefix("unknown field ") {
        None => error,
        Some(rest) => {
            let routes = ROUTE_KEYS.map(|key| format!("`{key}`")).join(", ");
            let rest = rest.replacen("expected one of ", &format!("expected one of {routes}, "), 1);
            toml::de::Error::custom(format!("unknown field {rest}"))
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
        self.config.dry_run |= args.upload_dry_run;
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
        let config = &self.config;
        let least = [
            ("timeout_ms", self.timeout_ms),
            ("seal_bytes_min", config.seal_bytes_min),
            ("seal_age_l1_ms", config.seal_age_l1_ms),
            ("seal_age_bundler_ms", config.seal_age_bundler_ms),
            ("spool_bytes_max", config.spool_bytes_max),
            ("confirmations", config.confirmations),
            ("poll_ms", config.poll_ms),
        ];
        match least.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => bail!("[upload] {name} = 0: it must be at least 1"),
            None => Ok(()),
        }
    }

    /// Clients of the bundlers.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn bundlers(&self) -> Result<Vec<BundlerService>> {
        let service = |url: &String| {
            let name = url.trim_end_matches('/');
            Ok(BundlerService::new(
                name,
                self.transport(url)?,
                &self.bundler_token,
            ))
        };
        self.bundler.iter().map(service).collect()
    }

    pub(super) fn transport(&self, url: &str) -> Result<Arc<dyn Transport>> {
        let limits = wire::client::Limits {
            timeout_ms: self.timeout_ms,
            ..wire::client::Limits::default()
        };
        Ok(Arc::new(HttpTransport::new(url, &limits)?))
    }

    /// The key that pays.
    ///
    /// # Errors
    /// A file that is not there, that others can read, or whose key signs no transactions.
    pub fn signer(&self) -> Result<Signer> {
        let path = self.wallet.as_deref().context("the settings were checked")?;
        check_file(path)?;
        let signer = wallet::read(path)
            .context("--upload-wallet takes a JWK of an RSA or secp256k1 key; `weft wallet new FILE --type rsa` makes one")?;
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
fn check_file(path: &Path) -> Result<()> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).with_context(|| {
        format!(
            "cannot read the upload wallet {shown}; `weft wallet new {shown} --type rsa` makes one, which then needs money"
        )
    })?;
    if !metadata.is_file() {
        bail!("the upload wallet {shown} is no file: name the JWK itself");
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!("{shown} can be read by others and holds money: `chmod 600 {shown}`");
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
        if url.contains(['?', '#', '@']) {
            bail!("{flag}: a base URL has no query, and no user or password, which reports would show");
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
    fn one_url_or_several_and_all_keys_of_the_uploader_are_read() {
        let text = "upstream = ['http://a:1984', 'http://b/x']\nbundler = 'http://c'\nupload_wallet = 'w.json'\n\
                    budget_winston_per_day = 5\nseal_age_l1_ms = 7";
        let settings: Settings = toml::from_str(text).unwrap();
        settings.check().unwrap();
        assert_eq!(settings.upstream, ["http://a:1984", "http://b/x"]);
        assert_eq!(settings.bundlers().unwrap().len(), 1);
        let config = settings.config;
        assert_eq!(
            (config.budget_winston_per_day, config.seal_age_l1_ms),
            (Some(5), 7)
        );
        assert_eq!((config.confirmations, &*settings.bundler_token), (18, "arweave"));
        let wrong = toml::from_str::<Settings>("pole_ms = 1").unwrap_err();
        assert!(
            wrong.message().starts_with("unknown field `pole_ms`") && wrong.message().contains("poll_ms")
        );
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
