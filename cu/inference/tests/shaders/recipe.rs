//! Which modules there are and which files each is made of. Not here: how they are compiled.

use std::path::Path;

/// One module: a kernel in one variant.
pub struct Module {
    kernel: &'static str,
    parts: Vec<&'static str>,
    variant: String,
    dot: bool,
}

impl Module {
    /// `kernel-float-reduction-dot`, as far as the kernel has variants.
    pub fn name(&self) -> String {
        format!("{}{}", self.kernel, self.variant)
    }

    /// Whether float arithmetic is the device's, and so has to be pinned; the soft variant has none and asks for nothing.
    pub fn pinned(&self) -> bool {
        self.variant.starts_with("-hard")
    }

    /// Whether it may have no float arithmetic at all.
    pub fn soft(&self) -> bool {
        self.kernel != "control" && !self.pinned()
    }

    /// The text, put together.
    pub fn source(&self, folder: &Path) -> String {
        let read = |part: &&str| {
            std::fs::read_to_string(folder.join(format!("{part}.wgsl"))).expect("a part of the recipe")
        };
        let text: String = self.parts.iter().map(read).collect();
        if self.dot {
            format!("// native dot\n{text}")
        } else {
            text
        }
    }
}

/// Kernels that work on each number alone.
const ELEMENTS: [&str; 3] = ["element", "rotate", "attend_end"];
/// Kernels with an integer reduction.
const REDUCING: [&str; 3] = ["quantise", "norm", "store"];
/// Kernels with integer dot products, and the file before them.
const DOTTING: [(&str, &str); 3] = [
    ("linear", "math"),
    ("attend_top", "attend"),
    ("attend_sum", "attend"),
];

/// Every module, in the order of the pack.
pub fn modules() -> Vec<Module> {
    let mut all = vec![module("select", &["select"], "", false)];
    all.push(module("control", &["reduce_tree", "control"], "", false));
    all.extend(cooperative());
    for float in ["hard", "soft"] {
        for kernel in ELEMENTS {
            let parts = [float_part(float), "math", kernel];
            all.push(module(kernel, &parts, &format!("-{float}"), false));
        }
    }
    for (float, reduce) in [("hard", "tree"), ("hard", "subgroup"), ("soft", "tree")] {
        let variant = format!("-{float}-{reduce}");
        let head = [float_part(float), "math", reduce_part(reduce)];
        for kernel in REDUCING {
            all.push(module(kernel, &[&head[..], &[kernel]].concat(), &variant, false));
        }
        for (kernel, shared) in DOTTING {
            let tail: &[&str] = if shared == "math" {
                &[kernel]
            } else {
                &[shared, kernel]
            };
            let parts = [&head[..], tail].concat();
            all.push(module(kernel, &parts, &format!("{variant}-plain"), false));
            if float == "hard" {
                all.push(module(kernel, &parts, &format!("{variant}-dot"), true));
            }
        }
    }
    all
}

/// Products by cooperative matrices. Only their end rounds, on devices that do it right; the rest is integers.
fn cooperative() -> [Module; 4] {
    [
        module("spread_weights", &["spread_weights"], "", false),
        module("spread_tokens", &["reduce_tree", "spread_tokens"], "", false),
        module("multiply", &["multiply"], "", false),
        module("finish", &["float_hard", "math", "finish"], "-hard", false),
    ]
}

fn module(kernel: &'static str, parts: &[&'static str], variant: &str, dot: bool) -> Module {
    Module {
        kernel,
        parts: parts.to_vec(),
        variant: variant.to_owned(),
        dot,
    }
}

fn float_part(float: &str) -> &'static str {
    if float == "hard" {
        "float_hard"
    } else {
        "float_soft"
    }
}

fn reduce_part(reduce: &str) -> &'static str {
    if reduce == "tree" {
        "reduce_tree"
    } else {
        "reduce_subgroup"
    }
}
