//! Messages and environments as test processes see them, in the form the compute unit gives them: JSON text, or
//! frames for Lua modules.
//! Pure. Keys and their order are those of the compute unit: processes see both.

use cu::runtime::frame;
use serde::Serialize;

/// How a module takes what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON text.
    Json,
    /// A frame of the Lua engine.
    Frame,
}

impl Encoding {
    fn write(self, value: &impl Serialize) -> Vec<u8> {
        match self {
            Encoding::Json => serde_json::to_vec(value).expect("texts and numbers are JSON"),
            Encoding::Frame => frame::of(value).expect("texts, numbers, lists and structs have frames"),
        }
    }
}

/// A tag.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct TagText {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl TagText {
    /// A tag.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> TagText {
        TagText {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// One message for a process; what is `None` is left out.
#[derive(Serialize, Clone, Debug, Default)]
#[serde(rename_all = "PascalCase")]
pub struct Message {
    /// The item's id.
    pub id: String,
    /// The item's signature, made up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Its data, text.
    pub data: String,
    /// Who signed it.
    pub owner: String,
    /// Whom it is for.
    pub target: String,
    /// What tells otherwise equal messages apart.
    pub anchor: Option<String>,
    /// The process it comes from, or else who signed it.
    pub from: String,
    /// Who signed it, if that is not who it is from.
    #[serde(rename = "Forwarded-By", skip_serializing_if = "Option::is_none")]
    pub forwarded_by: Option<String>,
    /// Its tags, in order, without `From` and `Owner`.
    pub tags: Vec<TagText>,
    /// The epoch, always 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// Milliseconds.
    pub timestamp: u64,
    /// Block height.
    #[serde(rename = "Block-Height")]
    pub block_height: u64,
    /// The hash chain of the process's log, made up.
    #[serde(rename = "Hash-Chain", skip_serializing_if = "Option::is_none")]
    pub hash_chain: Option<String>,
    /// Whether a cron sent it.
    pub cron: bool,
    /// Whether it is a dry run.
    #[serde(rename = "Read-Only")]
    pub read_only: bool,
}

impl Message {
    /// As the process gets it.
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        encoding.write(self)
    }
}

/// A user may not say these about himself.
pub fn is_reserved(name: &str) -> bool {
    name == "From" || name == "Owner"
}

/// The environment of a process: itself and its module.
pub fn env(id: &str, owner: &str, tags: &[TagText], module: &str, encoding: Encoding) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Env<'a> {
        process: Part<'a>,
        module: Part<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Part<'a> {
        id: &'a str,
        owner: &'a str,
        tags: &'a [TagText],
    }
    let process = Part { id, owner, tags };
    let module = Part {
        id: module,
        owner,
        tags: &module_tags(),
    };
    encoding.write(&Env { process, module })
}

fn module_tags() -> [TagText; 2] {
    [("Data-Protocol", "ao"), ("Type", "Module")].map(|(name, value)| TagText::new(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_order_of_the_compute_unit() {
        let message = Message {
            signature: Some("s".into()),
            forwarded_by: Some("f".into()),
            epoch: Some(0),
            nonce: Some(1),
            hash_chain: Some("h".into()),
            tags: vec![TagText::new("Action", "Info")],
            ..Message::default()
        };
        let json = String::from_utf8(message.encode(Encoding::Json)).unwrap();
        let expected = r#"{"Id":"","Signature":"s","Data":"","Owner":"","Target":"","Anchor":null,"From":"","Forwarded-By":"f","Tags":[{"name":"Action","value":"Info"}],"Epoch":0,"Nonce":1,"Timestamp":0,"Block-Height":0,"Hash-Chain":"h","Cron":false,"Read-Only":false}"#;
        assert_eq!(json, expected);
        assert_eq!(
            env("p", "o", &[], "m", Encoding::Json),
            br#"{"Process":{"Id":"p","Owner":"o","Tags":[]},"Module":{"Id":"m","Owner":"o","Tags":[{"name":"Data-Protocol","value":"ao"},{"name":"Type","value":"Module"}]}}"#
        );
        assert_eq!(
            message.encode(Encoding::Frame),
            frame::of_json(json.as_bytes()).unwrap()
        );
    }
}
