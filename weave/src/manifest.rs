//! Manifests: items that give names to other items, so that a folder of files can be served below one id.
//!
//! Pure. Not here: fetching, routes. The invariant: a path leads to one id or to none, whatever its slashes and
//! escapes. Source: spec/http.md, "Manifests".

use std::collections::BTreeMap;

use serde::Deserialize;
use spec::ItemId;
use spec::contract::Stored;

/// The content type that makes an item a manifest.
pub const CONTENT_TYPE: &str = "application/x.arweave-manifest+json";

/// Why an item of that type is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON of a manifest.
    #[error("it is not the JSON of a manifest: {0}")]
    NotJson(String),
    /// Another kind of manifest, or a newer one.
    #[error("it is a manifest `{kind}` of version `{version}`; `arweave/paths` 0.1.0 and 0.2.0 are served")]
    Unknown {
        /// Its field `manifest`.
        kind: String,
        /// Its field `version`.
        version: String,
    },
}

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    index: Option<ItemId>,
    fallback: Option<ItemId>,
    /// Without slashes at the ends.
    paths: BTreeMap<String, ItemId>,
}

#[derive(Deserialize)]
struct Wire {
    manifest: String,
    version: String,
    #[serde(default)]
    index: Index,
    #[serde(default)]
    fallback: Entry,
    #[serde(default)]
    paths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
struct Index {
    path: Option<String>,
    id: Option<String>,
}

#[derive(Deserialize, Default)]
struct Entry {
    id: Option<String>,
}

impl Entry {
    /// An entry that is no id names nothing; the others still do.
    fn read(&self) -> Option<ItemId> {
        self.id.as_deref()?.parse().ok()
    }
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    /// If it is none that we know.
    pub fn parse(json: &[u8]) -> Result<Manifest, ManifestError> {
        let wire: Wire =
            serde_json::from_slice(json).map_err(|error| ManifestError::NotJson(error.to_string()))?;
        // What the second version brought means nothing in the first.
        let is_second = match (&*wire.manifest, &*wire.version) {
            ("arweave/paths", "0.1.0") => false,
            ("arweave/paths", "0.2.0") => true,
            _ => {
                let (kind, version) = (wire.manifest, wire.version);
                return Err(ManifestError::Unknown { kind, version });
            }
        };
        let entries = wire.paths.iter();
        let paths: BTreeMap<String, ItemId> = entries
            .filter_map(|(path, entry)| Some((trimmed(path).to_string(), entry.read()?)))
            .collect();
        let by_id = wire.index.id.filter(|_| is_second).and_then(|id| id.parse().ok());
        let by_path = wire
            .index
            .path
            .and_then(|path| paths.get(trimmed(&path)).copied());
        Ok(Manifest {
            index: by_id.or(by_path),
            fallback: wire.fallback.read().filter(|_| is_second),
            paths,
        })
    }

    /// Where a path as it stands in a URL leads: escapes are decoded, slashes at the ends do not count, and the empty
    /// path is the index.
    pub fn resolve(&self, path: &str) -> Option<ItemId> {
        let plain = decoded(path);
        let named = match trimmed(&plain) {
            "" => self.index,
            plain => self
                .paths
                .get(plain)
                .or_else(|| self.paths.get(trimmed(path)))
                .copied(),
        };
        named.or(self.fallback)
    }
}

/// Whether an item says it is a manifest; the first tag in any case decides, as for everything served.
pub fn is_manifest(stored: &Stored) -> bool {
    let tags = stored.tags();
    let kind = tags
        .iter()
        .find(|tag| tag.name.eq_ignore_ascii_case(b"content-type"));
    kind.is_some_and(|tag| is_manifest_type(&tag.value_text()))
}

/// Whether a content type, with or without parameters, is a manifest's.
pub fn is_manifest_type(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case(CONTENT_TYPE)
}

fn trimmed(path: &str) -> &str {
    path.trim_matches('/')
}

/// Decodes `%XX`; a plus is a plus in a path.
pub fn decoded(path: &str) -> String {
    wire::server::decode(&path.replace('+', "%2B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ItemId {
        ItemId([n; 32])
    }

    fn manifest(version: &str, head: &str) -> Manifest {
        let json = format!(
            r#"{{"manifest": "arweave/paths", "version": "{version}", {head}
              "paths": {{ "index.html": {{"id": "{}"}}, "/js/app.js/": {{"id": "{}"}}, "a b+c": {{"id": "{}"}},
              "broken": {{"id": "short"}}, "none": {{}} }} }}"#,
            id(1),
            id(2),
            id(3)
        );
        Manifest::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn paths_lead_to_ids_whatever_their_slashes_and_escapes() {
        let manifest = manifest("0.1.0", r#""index": {"path": "index.html"},"#);
        for (path, to) in [
            ("", Some(1)),
            ("/", Some(1)),
            ("index.html", Some(1)),
            ("index.html/", Some(1)),
            ("js/app.js", Some(2)),
            ("/js%2Fapp.js//", Some(2)),
            ("a%20b+c", Some(3)),
            ("a%20b%2Bc", Some(3)),
            ("a+b+c", None),
            ("broken", None),
            ("none", None),
            ("Index.html", None),
            ("../index.html", None),
            ("%FF%zz", None),
        ] {
            assert_eq!(manifest.resolve(path), to.map(id), "{path}");
        }
    }

    #[test]
    fn the_second_version_brings_an_index_by_id_and_a_fallback() {
        let head = format!(
            r#""index": {{"path": "index.html", "id": "{}"}}, "fallback": {{"id": "{}"}},"#,
            id(7),
            id(8)
        );
        let second = manifest("0.2.0", &head);
        assert_eq!(second.resolve(""), Some(id(7)));
        assert_eq!(second.resolve("nowhere"), Some(id(8)));
        assert_eq!(second.resolve("broken"), Some(id(8)));
        let first = manifest("0.1.0", &head);
        assert_eq!((first.resolve(""), first.resolve("nowhere")), (Some(id(1)), None));
        let bare = manifest("0.2.0", &format!(r#""fallback": {{"id": "{}"}},"#, id(8)));
        assert_eq!(bare.resolve(""), Some(id(8)));
        assert_eq!(manifest("0.2.0", "").resolve(""), None);
    }

    #[test]
    fn what_is_no_manifest_says_why() {
        assert!(matches!(Manifest::parse(b"[]"), Err(ManifestError::NotJson(_))));
        let newer = br#"{"manifest": "arweave/paths", "version": "0.3.0", "paths": {}}"#;
        assert!(Manifest::parse(newer).unwrap_err().to_string().contains("0.3.0"));
        assert!(is_manifest_type(
            "Application/X.arweave-manifest+json; charset=utf-8"
        ));
        assert!(!is_manifest_type("application/json"));
    }
}
