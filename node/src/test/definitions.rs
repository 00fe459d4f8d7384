//! Definitions for the Lua language server: what processes and specs find in their global tables.
//!
//! They are committed files, made from `processes/aos/api.toml` and `spec_api.toml`; the tests here make them again and
//! compare, and compare the first with a running kernel. Not here: the kernel.

macro_rules! library {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../processes/aos/library/", $name)))),*]
    };
}

/// Each file's name and text.
pub const ALL: [(&str, &str); 12] = library![
    "types.lua",
    "globals.lua",
    "ao.lua",
    "ai.lua",
    "llama.lua",
    "handlers.lua",
    "utils.lua",
    "json.lua",
    "base64.lua",
    "bint.lua",
    "crypto.lua",
    "spec.lua",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::ALL;
    use crate::test::birth::Birth;
    use crate::test::modules::Modules;
    use crate::test::world::World;

    const KERNEL: &str = include_str!("../../../processes/aos/api.toml");
    const SPEC: &str = include_str!("spec_api.toml");

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Api {
        file: Vec<File>,
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        name: String,
        doc: String,
        /// What `require` calls it.
        module: Option<String>,
        /// Parameter and answer of the module, if it is a function.
        call: Option<[String; 2]>,
        #[serde(default)]
        alias: Vec<Value>,
        #[serde(default)]
        class: Vec<Class>,
        #[serde(default)]
        value: Vec<Value>,
        #[serde(default)]
        function: Vec<Function>,
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Value {
        name: String,
        r#type: String,
        doc: String,
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Class {
        name: String,
        doc: String,
        fields: Vec<String>,
        #[serde(default)]
        overloads: Vec<String>,
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Function {
        name: String,
        doc: String,
        #[serde(default)]
        params: Vec<String>,
        #[serde(default)]
        returns: Vec<String>,
        #[serde(default)]
        overloads: Vec<String>,
    }

    fn files() -> Vec<File> {
        let read = |text| toml::from_str::<Api>(text).unwrap().file;
        read(KERNEL).into_iter().chain(read(SPEC)).collect()
    }

    fn doc(out: &mut String, text: &str) {
        for line in text.trim().lines() {
            let _ = writeln!(out, "---{line}");
        }
    }

    /// `name?: type -- doc` as `name? type # doc`.
    fn part(text: &str) -> String {
        let (head, doc) = text
            .split_once(" -- ")
            .map_or((text, None), |(head, doc)| (head, Some(doc)));
        let head = head.replacen(": ", " ", usize::from(is_named(head)));
        doc.map_or(head.clone(), |doc| format!("{head} # {doc}"))
    }

    /// Whether a text begins with `name: ` or `[key]: `, not with a type that holds a colon.
    fn is_named(head: &str) -> bool {
        let name = head.split(": ").next().unwrap_or("");
        name != head && !name.contains(['(', '{', ' '])
    }

    fn param_name(text: &str) -> &str {
        text.split(':').next().unwrap_or("").trim_end_matches('?')
    }

    fn function(out: &mut String, function: &Function) {
        doc(out, &function.doc);
        for param in &function.params {
            let _ = writeln!(out, "---@param {}", part(param));
        }
        for answer in &function.returns {
            let _ = writeln!(out, "---@return {}", part(answer));
        }
        for overload in &function.overloads {
            let _ = writeln!(out, "---@overload {overload}");
        }
        let names: Vec<_> = function.params.iter().map(|param| param_name(param)).collect();
        let _ = writeln!(out, "function {}({}) end\n", function.name, names.join(", "));
    }

    fn class(out: &mut String, class: &Class) {
        doc(out, &class.doc);
        let _ = writeln!(out, "---@class {}", class.name);
        for field in &class.fields {
            let _ = writeln!(out, "---@field {}", part(field));
        }
        for overload in &class.overloads {
            let _ = writeln!(out, "---@overload {overload}");
        }
        out.push('\n');
    }

    /// Tables that names of a file lie in, outermost first.
    fn tables(file: &File) -> Vec<String> {
        let names = file
            .value
            .iter()
            .map(|v| &v.name)
            .chain(file.function.iter().map(|f| &f.name));
        let mut tables: Vec<String> = Vec::new();
        for name in names {
            for (at, _) in name.match_indices('.') {
                let table = name[..at].to_owned();
                if !tables.contains(&table) {
                    tables.push(table);
                }
            }
        }
        tables
    }

    fn text(file: &File) -> String {
        let meta = file
            .module
            .as_ref()
            .map_or(String::new(), |module| format!(" {module}"));
        let mut out = format!(
            "---@meta{meta}\n-- {} Generated: change api.toml instead.\n\n",
            file.doc
        );
        for alias in &file.alias {
            doc(&mut out, &alias.doc);
            let _ = writeln!(out, "---@alias {} {}\n", alias.name, alias.r#type);
        }
        file.class.iter().for_each(|one| class(&mut out, one));
        for table in tables(file) {
            let local = if file.module.is_some() && !table.contains('.') {
                "local "
            } else {
                ""
            };
            let _ = writeln!(out, "---@class {table}\n{local}{table} = {{}}\n");
        }
        for value in &file.value {
            doc(&mut out, &value.doc);
            let _ = writeln!(out, "---@type {}\n{} = nil\n", value.r#type, value.name);
        }
        file.function.iter().for_each(|one| function(&mut out, one));
        if let Some([param, answer]) = &file.call {
            let _ = writeln!(out, "---@param {}\n---@return {answer}", part(param));
            let _ = writeln!(out, "return function({}) end", param_name(param));
        } else if file.module.is_some() {
            let _ = writeln!(out, "return {}", tables(file)[0]);
        }
        format!("{}\n", out.trim_end())
    }

    fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../processes/aos/library")
    }

    #[test]
    fn definitions_are_what_their_source_says() {
        let made: Vec<_> = files()
            .iter()
            .map(|file| (file.name.clone(), text(file)))
            .collect();
        if std::env::var("WEFT_DEFINITIONS").is_ok_and(|value| value == "write") {
            std::fs::create_dir_all(folder()).unwrap();
            made.iter()
                .for_each(|(name, text)| std::fs::write(folder().join(name), text).unwrap());
            return;
        }
        let committed: Vec<_> = ALL
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()))
            .collect();
        assert!(
            made == committed,
            "processes/aos/library is not what api.toml says; make it anew: WEFT_DEFINITIONS=write cargo test -p weft definitions"
        );
    }

    #[test]
    fn definitions_compile() {
        let lua = mlua::Lua::new();
        for (name, text) in ALL {
            lua.load(text).set_name(name).into_function().unwrap();
        }
    }

    /// Lists names of `_G` down to two tables deep, but Lua's own and what only data decide.
    const NAMES: &str = "local skip, out = {}, {}
        for name in ('_G _VERSION assert collectgarbage error getmetatable ipairs load next pairs pcall print rawequal rawget rawlen rawset require select setmetatable tonumber tostring type xpcall bit32 coroutine debug math os package string table utf8'):gmatch('%S+') do skip[name] = true end
        local inner = { ao = true, ['ao.ai'] = true, Handlers = true, ['Handlers.utils'] = true, Utils = true }
        local function walk(prefix, of)
          for name, value in pairs(of) do
            if type(name) == 'string' and not skip[prefix .. name] then
              if inner[prefix .. name] then walk(prefix .. name .. '.', value) else out[#out + 1] = prefix .. name end
            end
          end
        end
        walk('', _G)
        return table.concat(out, ' ') .. '\\n'";

    #[test]
    fn definitions_name_what_a_kernel_has() {
        let modules = Arc::new(Modules::new(None).unwrap());
        let mut world = World::new(modules, 0, false);
        let birth = Birth {
            name: Some("names".into()),
            ..Birth::default()
        };
        let serial = world.spawn(&birth, None, &[]).unwrap();
        let text = world.read(serial, NAMES).unwrap();
        let has: BTreeSet<&str> = text.split_whitespace().collect();
        let files = files();
        let files: Vec<_> = files
            .iter()
            .filter(|file| file.module.is_none() && file.name != "spec.lua")
            .collect();
        let values = files
            .iter()
            .flat_map(|file| file.value.iter().map(|value| value.name.as_str()));
        let functions = files
            .iter()
            .flat_map(|file| file.function.iter().map(|function| function.name.as_str()));
        let defined: BTreeSet<&str> = values.chain(functions).collect();
        let missing: Vec<_> = has.difference(&defined).collect();
        let gone: Vec<_> = defined.difference(&has).collect();
        assert!(
            missing.is_empty() && gone.is_empty(),
            "not defined: {missing:?}; not in the kernel: {gone:?}"
        );
    }
}
