//! Finds spec files. Not here: reading or running them. The order is that of their paths, always.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// How a spec file's name ends.
pub const SPEC_END: &str = "_spec.lua";
/// Folders that are never searched.
const SKIPPED: [&str; 3] = ["node_modules", "target", "lua_modules"];
/// Most folders searched: a mistyped path must not walk a disk.
const FOLDERS_MAX: usize = 20_000;

/// Every spec file under the given paths; a file named outright is taken whatever its name is.
///
/// # Errors
/// If a path is not there, cannot be read, or there is nothing to run.
pub fn specs(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let mut found = Vec::new();
    for path in paths {
        let kind = std::fs::metadata(path).with_context(|| format!("{} is not there", path.display()))?;
        match kind.is_dir() {
            true => search(path, &mut found)?,
            false => found.push(path.clone()),
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!("no *{SPEC_END} under {}", names.join(", "));
    }
    Ok(found)
}

fn search(top: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut folders = vec![top.to_path_buf()];
    let mut searched = 0;
    while let Some(folder) = folders.pop() {
        searched += 1;
        if searched > FOLDERS_MAX {
            bail!(
                "more than {FOLDERS_MAX} folders under {}: name a smaller one",
                top.display()
            );
        }
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Links are not followed: they may lead in circles.
            match entry.file_type()? {
                kind if kind.is_dir() && !is_skipped(&name) => folders.push(entry.path()),
                kind if kind.is_file() && name.ends_with(SPEC_END) => found.push(plain(&entry.path())),
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_skipped(name: &str) -> bool {
    name.starts_with('.') || SKIPPED.contains(&name)
}

/// Without the leading `./`, as a person would write it.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_found_in_order_and_hidden_folders_are_not_searched() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for sub in ["b", ".git", "node_modules/x"] {
            std::fs::create_dir_all(at(sub)).unwrap();
        }
        for file in [
            "z_spec.lua",
            "b/a_spec.lua",
            "b/a.lua",
            ".git/g_spec.lua",
            "node_modules/x/n_spec.lua",
        ] {
            std::fs::write(at(file), "").unwrap();
        }
        assert_eq!(specs(&[at("")]).unwrap(), [at("b/a_spec.lua"), at("z_spec.lua")]);
        assert_eq!(specs(&[at("b/a.lua")]).unwrap(), [at("b/a.lua")]);
    }

    #[test]
    fn nothing_to_run_is_an_error_that_names_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let error = specs(&[folder.path().to_path_buf()]).unwrap_err().to_string();
        assert!(
            error.contains("no *_spec.lua under") && error.contains(&folder.path().display().to_string())
        );
        assert!(specs(&[folder.path().join("gone")]).is_err());
    }
}
