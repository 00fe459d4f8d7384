//! The modules that test processes run: each loaded once and shared by all files of a run.
//! Not here: processes. A module's name is that of its bytes: the same file, the same id, in every run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use cu::runtime::{Config, Engine, Module, ModuleFormat};

/// A module, loaded.
pub struct Loaded {
    /// What runs.
    pub module: Module,
    /// Its id, made from its bytes.
    pub id: String,
}

/// Empty until its module is loaded; a failure is kept for the length of the run.
type Cell = Arc<OnceLock<Result<Arc<Loaded>, String>>>;

/// All modules of a run.
pub struct Modules {
    engine: Engine,
    standard: PathBuf,
    cells: Mutex<HashMap<PathBuf, Cell>>,
}

/// The folder for compiled modules: a second run starts at once.
fn cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = base.filter(|base| base.is_absolute()).or_else(home)?;
    Some(folder.join("weft").join("modules"))
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
            standard: standard.unwrap_or_default(),
            cells: Mutex::default(),
        })
    }

    /// A module by its file.
    ///
    /// # Errors
    /// If the file cannot be read, or is no module that runs here.
    pub fn get(&self, file: Option<&Path>) -> Result<Arc<Loaded>, String> {
        let path = file.unwrap_or(&self.standard);
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            cells.entry(path.to_path_buf()).or_default().clone()
        };
        // Others that want the same module wait here for the one that loads it.
        cell.get_or_init(|| self.load(path).map_err(|error| format!("{error:#}")))
            .clone()
    }

    fn load(&self, path: &Path) -> Result<Arc<Loaded>> {
        let named = |error| anyhow!("module {}: {error}", path.display());
        let bytes = Bytes::from(std::fs::read(path).map_err(|error| named(error.to_string()))?);
        let format = ModuleFormat::detect(&bytes).ok_or_else(|| named("not a module that runs here".into()))?;
        let id = spec::item::item_id(&bytes).to_string();
        let module = self
            .engine
            .load(&bytes, format)
            .map_err(|error| named(error.to_string()))?;
        Ok(Arc::new(Loaded { module, id }))
    }
}
