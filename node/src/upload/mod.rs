//! Uploading as the operator meets it: settings, the task that does it, what is really there, what it costs.
//!
//! Not here: the uploader itself (`weave::upload`).

pub mod command;
pub mod http;
mod peers;
mod run;
mod settings;
mod status;

pub use run::Upload;
pub use settings::Settings;
pub use status::Board;
