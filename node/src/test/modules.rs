//! The modules that test processes run: each loaded once and shared by all files of a run.
//! Not here: processes. A module's name is that of its bytes: the same file, the same id, in every run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use cu::runtime::{Config, Engine, Module, ModuleFormat};
use cu::shipped;

use super::message::Encoding;

/// A module, loaded.
pub struct Loaded {
    /// What runs.
    pub module: Module,
    /// Its id: the published one of the kernel, else made from its bytes.
    pub id: String,
    /// How messages are handed to it.
    pub encoding: Encoding,
}

/// Empty until its module is loaded; a failure is kept for the length of the run.
type Cell = Arc<OnceLock<Result<Arc<Loaded>, String>>>;

/// All modules of a run.
pub struct Modules {
    engine: Engine,
    /// What a process runs whose spawn names no module; the kernel if not said.
    standard: Option<PathBuf>,
    cells: Mutex<HashMap<Option<PathBuf>, Cell>>,
}

/// The folder for compiled modules: a second run starts at once.
fn cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = base.filter(|base| base.is_absolute()).or_else(home)?;
    let folder = folder.join("weft").join("modules");
    // Compiled code is run as it is: nobody else may write there.
    crate::assemble::make_private(&folder).is_ok().then_some(folder)
}

impl Modules {
    /// Starts the engine. `standard` is what a process runs whose spawn names no module.
    pub fn new(standard: Option<PathBuf>) -> Result<Modules> {
        let config = Config {
            cache: cache(),
            ..Config::default()
        };
        Ok(Modules {
            engine: Engine::new(config)?,
            standard,
            cells: Mutex::default(),
        })
    }

    /// A module by its file.
    ///
    /// # Errors
    /// If the file cannot be read, or is no module that runs here.
    pub fn get(&self, file: Option<&Path>) -> Result<Arc<Loaded>, String> {
        let path = file.or(self.standard.as_deref());
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            cells.entry(path.map(Path::to_path_buf)).or_default().clone()
        };
        // Others that want the same module wait here for the one that loads it.
        cell.get_or_init(|| self.load(path).map_err(|error| format!("{error:#}")))
            .clone()
    }

    fn load(&self, path: Option<&Path>) -> Result<Arc<Loaded>> {
        let Some(path) = path else {
            let kernel = shipped::items()
                .into_iter()
                .find(|item| item.id() == shipped::kernel_id().into());
            let source = kernel.expect("the kernel is one of the items").data();
            return self.loaded(&source, ModuleFormat::Lua, shipped::kernel_id().to_string());
        };
        let named = |error: String| anyhow!("module {}: {error}", path.display());
        let bytes = Bytes::from(std::fs::read(path).map_err(|error| named(error.to_string()))?);
        let format = match path.extension().is_some_and(|end| end == "lua") {
            true => Some(ModuleFormat::Lua),
            false => ModuleFormat::detect(&bytes),
        };
        let format = format.ok_or_else(|| named("not a module that runs here".into()))?;
        let id = spec::item::item_id(&bytes).to_string();
        self.loaded(&bytes, format, id)
            .map_err(|error| named(format!("{error:#}")))
    }

    fn loaded(&self, source: &Bytes, format: ModuleFormat, id: String) -> Result<Arc<Loaded>> {
        let module = self.engine.load(source, format)?;
        let encoding = match format {
            ModuleFormat::Lua => Encoding::Frame,
            _ => Encoding::Json,
        };
        Ok(Arc::new(Loaded { module, id, encoding }))
    }
}
