//! The messenger's contract over HTTP: its JSON shapes and the client that carries it.
//!
//! Not here: the routes' handlers; the messenger unit has them and uses these shapes.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spec::contract::{Answer, Field, Messenger, Pushed, Trace, TracePage, TraceQuery};
use spec::{DataItem, ItemId, ModuleId, ProcessId};

use crate::client::Http;
use crate::server::encode;

/// Type of a body that is a data item.
pub const ITEM_TYPE: &str = "application/octet-stream";

/// The answer to `POST /`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// For people.
    pub message: String,
    /// The item, or the assignment.
    pub id: ItemId,
    /// The process made, if one was.
    #[serde(rename = "processId", default, skip_serializing_if = "Option::is_none")]
    pub process_id: Option<ProcessId>,
    /// What the node decided about that process.
    #[serde(flatten)]
    pub spawned: Spawned,
}

/// What a node decided about a process at its spawn, and what its owner should know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spawned {
    /// The scheduler that the process names, where this node's keeps its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted_from: Option<String>,
    /// The module that runs it in place of the one it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_used: Option<ModuleId>,
    /// For people, each a sentence with its remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

impl Spawned {
    /// Headers that say the same; notices are joined, and printable ASCII already.
    pub fn headers(&self) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        let used = self.module_used.map(|id| id.to_string());
        let notices = (!self.notices.is_empty()).then(|| self.notices.join("; "));
        let said = [
            ("adopted-from", self.adopted_from.clone()),
            ("module-used", used),
            ("notice", notices),
        ];
        for (name, text) in said {
            // A process may name anything; what no header can carry is in the body.
            let value = text.and_then(|text| http::HeaderValue::from_str(&text).ok());
            value.and_then(|value| headers.insert(name, value));
        }
        headers
    }
}

/// The answer to `GET /?debug=1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Whether more follow.
    pub page_info: PageInfo,
    /// The traces.
    pub edges: Vec<Edge>,
}

/// Of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    /// Whether more follow.
    pub has_next_page: bool,
}

/// Of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The trace.
    pub node: Trace,
    /// Its id.
    pub cursor: String,
}

impl From<TracePage> for Connection {
    fn from(page: TracePage) -> Self {
        let edge = |node: Trace| Edge {
            cursor: node.id.clone(),
            node,
        };
        let page_info = PageInfo {
            has_next_page: page.has_next_page,
        };
        Connection {
            page_info,
            edges: page.traces.into_iter().map(edge).collect(),
        }
    }
}

/// A messenger reached over HTTP.
#[derive(Clone)]
pub struct Client {
    http: Http,
}

impl Client {
    /// A messenger whose root is the client's base URL.
    pub fn new(http: Http) -> Client {
        Client { http }
    }
}

#[async_trait]
impl Messenger for Client {
    async fn push(&self, item: DataItem) -> Answer<Pushed> {
        let accepted: Accepted = self
            .http
            .post("/", ITEM_TYPE, item.bytes().clone())
            .await?
            .json()?;
        Ok(Pushed {
            id: accepted.id,
            process: accepted.process_id,
        })
    }

    async fn assign(
        &self,
        process: ProcessId,
        id: ItemId,
        base_layer: bool,
        exclude: Vec<Field>,
    ) -> Answer<ItemId> {
        let mut path = format!("/?process-id={process}&assign={id}");
        if base_layer {
            path.push_str("&base-layer");
        }
        if !exclude.is_empty() {
            let names: Vec<_> = exclude.into_iter().map(Field::name).collect();
            path.push_str(&format!("&exclude={}", names.join(",")));
        }
        let accepted: Accepted = self.http.post(&path, "", Bytes::new()).await?.json()?;
        Ok(accepted.id)
    }

    async fn monitor(&self, process: ProcessId, item: DataItem) -> Answer<()> {
        let path = format!("/monitor/{process}");
        self.http
            .post(&path, ITEM_TYPE, item.bytes().clone())
            .await?
            .success()?;
        Ok(())
    }

    async fn unmonitor(&self, process: ProcessId, item: DataItem) -> Answer<()> {
        let path = format!("/monitor/{process}");
        self.http
            .delete(&path, ITEM_TYPE, item.bytes().clone())
            .await?
            .success()?;
        Ok(())
    }

    async fn traces(&self, query: TraceQuery) -> Answer<TracePage> {
        let mut path = format!("/?debug=1&page={}&page-size={}", query.page, query.page_size);
        let conditions = [
            ("process", query.process.map(|id| id.to_string())),
            ("message", query.item.map(|id| id.to_string())),
            ("wallet", query.wallet),
        ];
        for (name, value) in conditions {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encode(&value)));
            }
        }
        let connection: Connection = self.http.get(&path).await?.json()?;
        let traces = connection.edges.into_iter().map(|edge| edge.node).collect();
        Ok(TracePage {
            traces,
            has_next_page: connection.page_info.has_next_page,
        })
    }
}
