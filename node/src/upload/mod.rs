//! Uploading as the operator meets it: settings, what is really there, what it costs.
//!
//! Not here: the uploader itself (`weave::upload`).

mod settings;

pub use settings::Settings;
