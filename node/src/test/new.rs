//! `weft new`: a folder with a process, its tests, definitions for editors, and what runs the tests elsewhere.
//! Not here: what the files say (`templates/`, `processes/aos/library/`). Nothing that is there is ever overwritten.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::args::{NewArgs, Template};
use super::definitions;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 60;

const README: &str = include_str!("templates/README.md");
const WORKFLOW: &str = include_str!("templates/workflow.yml");
const LUARC: &str = include_str!("templates/luarc.json");

impl Template {
    fn name(self) -> &'static str {
        match self {
            Template::Token => "token",
            Template::Chat => "chat",
            Template::Blank => "blank",
        }
    }

    /// The process and its spec.
    fn sources(self) -> (&'static str, &'static str) {
        match self {
            Template::Token => (
                include_str!("templates/token.lua"),
                include_str!("templates/token_spec.lua"),
            ),
            Template::Chat => (
                include_str!("templates/chat.lua"),
                include_str!("templates/chat_spec.lua"),
            ),
            Template::Blank => (
                include_str!("templates/blank.lua"),
                include_str!("templates/blank_spec.lua"),
            ),
        }
    }
}

/// `weft new`: 0 if the project was made, 2 if not.
pub fn run(args: &NewArgs) -> ExitCode {
    match make(Path::new(""), args) {
        Ok(files) => {
            println!("made {}/ with {} files; next:", args.name, files.len());
            println!("  cd {} && weft test", args.name);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Makes the project in a folder; answers its files.
fn make(parent: &Path, args: &NewArgs) -> Result<Vec<PathBuf>> {
    check_name(&args.name)?;
    let folder = parent.join(&args.name);
    match std::fs::create_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{} is there already: choose another name, or remove it first",
                folder.display()
            )
        }
        other => other.with_context(|| folder.display().to_string())?,
    }
    let mut made = Vec::new();
    for (path, text) in files(args) {
        let path = folder.join(path);
        let above = path.parent().expect("a file of the project lies in its folder");
        std::fs::create_dir_all(above).with_context(|| above.display().to_string())?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        made.push(path);
    }
    Ok(made)
}

/// A name must do as a file name, a Lua module's name and a process's name.
fn check_name(name: &str) -> Result<()> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts || !name.chars().all(is_fine) || name.len() > NAME_BYTES_MAX {
        bail!(
            "`{name}` cannot be a project's name: a letter first, then letters, digits, - and _, {NAME_BYTES_MAX} at most"
        );
    }
    Ok(())
}

fn files(args: &NewArgs) -> Vec<(PathBuf, String)> {
    let name = &args.name;
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let ticker: String = letters.take(5).collect::<String>().to_uppercase();
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{TICKER}}", &ticker)
            .replace("{{template}}", args.template.name())
    };
    let (source, spec) = args.template.sources();
    let mut files = vec![
        (format!("{name}.lua").into(), fill(source)),
        (format!("{name}_spec.lua").into(), fill(spec)),
        ("README.md".into(), fill(README)),
        (".luarc.json".into(), LUARC.to_owned()),
        (".gitignore".into(), "lcov.info\nreport.xml\n".to_owned()),
        (".github/workflows/test.yml".into(), WORKFLOW.to_owned()),
    ];
    let library = Path::new("library");
    let definitions = definitions::ALL.iter();
    files.extend(definitions.map(|(name, text)| (library.join(name), (*text).to_owned())));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str, template: Template) -> NewArgs {
        NewArgs {
            name: name.into(),
            template,
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let files = make(folder.path(), &args("mine", Template::Blank)).unwrap();
        assert!(files.contains(&folder.path().join("mine/mine_spec.lua")));
        std::fs::write(&files[0], "kept").unwrap();
        let error = make(folder.path(), &args("mine", Template::Token))
            .unwrap_err()
            .to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), "kept");
    }

    #[test]
    fn names_stay_inside_the_folder() {
        let long = "x".repeat(61);
        for name in ["", "../x", "a/b", "1st", "a b", ".hidden", "é", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("My_token-2").is_ok());
    }

    #[test]
    fn no_placeholder_is_left() {
        for template in [Template::Token, Template::Chat, Template::Blank] {
            for (path, text) in files(&args("mine", template)) {
                let ours = text.replace("${{ vars.WEFT_URL }}", "");
                assert!(!ours.contains("{{"), "{}", path.display());
            }
        }
    }
}
