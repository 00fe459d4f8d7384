//! `arweave-rs` beside our own code: an upload client behind the feature `client`, and a peer that the tests compare with.
//!
//! Not here: anything the program `weft` needs. It is never given untrusted data: it panics on some, and prints what it
//! posts to standard error. It posts bodies of up to 10 MB only: its chunks are refused by every node that follows
//! the network's rules (their numbers are no texts), so more is refused here.

#[cfg(feature = "client")]
pub mod client {
    //! Uploading one file.

    use std::path::{Path, PathBuf};

    use arweave_rs::Arweave;
    use arweave_rs::crypto::base64::Base64;
    use arweave_rs::transaction::tags::{FromUtf8Strs, Tag};

    /// Longest file, in bytes: more would go up in chunks that are refused.
    pub const FILE_BYTES_MAX: u64 = 10_000_000;

    /// Posts a file as one transaction, signed and paid by the key of `wallet` (JWK, RSA), and answers its id. The
    /// reward is what the node asks for.
    ///
    /// # Errors
    /// In words for people.
    pub async fn upload(
        node: &str,
        wallet: &Path,
        file: PathBuf,
        tags: &[(String, String)],
    ) -> Result<String, String> {
        let text = |error: arweave_rs::error::Error| error.to_string();
        let data = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        if data.is_empty() || data.len() as u64 > FILE_BYTES_MAX {
            return Err(format!(
                "a file of 1 to {FILE_BYTES_MAX} bytes, not {}",
                data.len()
            ));
        }
        let url = url::Url::parse(node).map_err(|error| format!("{node}: {error}"))?;
        let tag = |(name, value): &(String, String)| Tag::<Base64>::from_utf8_strs(name, value).map_err(text);
        let tags = tags.iter().map(tag).collect::<Result<Vec<_>, _>>()?;
        let arweave = Arweave::from_keypair_path(wallet.to_path_buf(), url).map_err(text)?;
        let fee = arweave.get_fee(Base64::empty(), data).await.map_err(text)?;
        let posted = arweave.upload_file_from_path(file, tags, fee).await;
        posted.map(|(id, _)| id).map_err(text)
    }
}
