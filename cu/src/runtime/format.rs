//! The module formats of the field, and how a binary shows which one it has.
//! Not here: what each format's host does.

use wasmparser::{ExternalKind, Parser, Payload, TypeRef, ValType};

/// The module formats of the field that we run (tag `Module-Format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModuleFormat {
    /// `wasm32-unknown-emscripten`
    Emscripten1,
    /// `wasm32-unknown-emscripten2`
    Emscripten2,
    /// `wasm32-unknown-emscripten3`
    Emscripten3,
    /// `wasm32-unknown-emscripten4`
    Emscripten4,
    /// `wasm32-unknown-emscripten-metering`
    Emscripten4Metering,
    /// `wasm64-unknown-emscripten-draft_2024_02_15`
    Wasm64,
    /// `wasm64-unknown-emscripten-draft_2024_10_16-metering`
    Wasm64Metering,
    /// `lua@5.3a` with the extension `Inference`: the data is Lua source, run by our own engine.
    Lua,
    /// `lua@5.3a` alone: Lua source on our first engine, which is kept as it was.
    LuaFirst,
}

use ModuleFormat::*;

impl ModuleFormat {
    /// One of each name.
    pub const ALL: [ModuleFormat; 8] = [
        Emscripten1,
        Emscripten2,
        Emscripten3,
        Emscripten4,
        Emscripten4Metering,
        Wasm64,
        Wasm64Metering,
        Lua,
    ];

    /// The value of the tag `Module-Format`.
    pub fn name(self) -> &'static str {
        match self {
            Emscripten1 => "wasm32-unknown-emscripten",
            Emscripten2 => "wasm32-unknown-emscripten2",
            Emscripten3 => "wasm32-unknown-emscripten3",
            Emscripten4 => "wasm32-unknown-emscripten4",
            Emscripten4Metering => "wasm32-unknown-emscripten-metering",
            Wasm64 => "wasm64-unknown-emscripten-draft_2024_02_15",
            Wasm64Metering => "wasm64-unknown-emscripten-draft_2024_10_16-metering",
            Lua | LuaFirst => "lua@5.3a",
        }
    }

    /// The format that a tag value names; of Lua the one with the extension.
    pub fn from_name(name: &str) -> Option<ModuleFormat> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }

    /// Lua source, on whichever engine.
    pub fn is_lua(self) -> bool {
        matches!(self, Lua | LuaFirst)
    }

    /// The format that a binary's imports and exports show. Never a metering one: gas is added at load, so the
    /// binary looks like the plain format.
    pub fn detect(wasm: &[u8]) -> Option<ModuleFormat> {
        let shape = Shape::read(wasm).ok()?;
        if shape.minified {
            return Some(Emscripten1);
        }
        match shape.handle_pointer? {
            ValType::I64 => Some(Wasm64),
            ValType::I32 if shape.asyncify => Some(Emscripten4),
            ValType::I32 if shape.stack_save && shape.stack_current => Some(Emscripten3),
            ValType::I32 if shape.stack_save => Some(Emscripten2),
            _ => None,
        }
    }

    /// Bytes of a pointer.
    pub fn pointer_bytes(self) -> usize {
        if matches!(self, Wasm64 | Wasm64Metering) {
            8
        } else {
            4
        }
    }

    /// Gas statements are added when the module is loaded.
    pub fn is_metered_at_load(self) -> bool {
        matches!(self, Emscripten4Metering | Wasm64Metering)
    }

    /// `main` runs once before the first message.
    pub fn runs_main(self) -> bool {
        matches!(self, Emscripten1 | Emscripten2 | Emscripten3)
    }

    /// `main` gets the program's name as its only argument.
    pub fn main_has_arguments(self) -> bool {
        self == Emscripten2
    }

    /// The loader's environment strings reach the module; later loaders hand out none.
    pub fn has_environment(self) -> bool {
        self.runs_main()
    }
}

/// What of a binary the detection looks at.
#[derive(Default)]
struct Shape {
    types: Vec<wasmparser::SubType>,
    functions: Vec<u32>,
    /// Imports a module `a`, as minified glue does.
    minified: bool,
    asyncify: bool,
    stack_save: bool,
    stack_current: bool,
    handle_pointer: Option<ValType>,
}

impl Shape {
    fn read(wasm: &[u8]) -> wasmparser::Result<Shape> {
        let mut shape = Shape::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        shape.types.extend(group?.into_types());
                    }
                }
                Payload::ImportSection(section) => shape.read_imports(section)?,
                Payload::FunctionSection(section) => {
                    for ty in section {
                        shape.functions.push(ty?);
                    }
                }
                Payload::ExportSection(section) => shape.read_exports(section)?,
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        Ok(shape)
    }

    fn read_imports(&mut self, section: wasmparser::ImportSectionReader<'_>) -> wasmparser::Result<()> {
        for import in section.into_imports() {
            let import = import?;
            self.minified |= import.module == "a";
            if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import.ty {
                self.functions.push(ty);
            }
        }
        Ok(())
    }

    fn read_exports(&mut self, section: wasmparser::ExportSectionReader<'_>) -> wasmparser::Result<()> {
        for export in section {
            let export = export?;
            self.asyncify |= export.name == "asyncify_get_state";
            self.stack_save |= export.name == "stackSave";
            self.stack_current |= export.name == "emscripten_stack_get_current";
            if export.kind == ExternalKind::Func && export.name == "handle" {
                self.handle_pointer = self.first_parameter(export.index);
            }
        }
        Ok(())
    }

    fn first_parameter(&self, function: u32) -> Option<ValType> {
        let ty = self.types.get(*self.functions.get(function as usize)? as usize)?;
        match &ty.composite_type.inner {
            wasmparser::CompositeInnerType::Func(f) => f.params().first().copied(),
            _ => None,
        }
    }
}
