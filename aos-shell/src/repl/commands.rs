//! The dot-commands: their names, what they take, and the line that explains each.
//!
//! Not here: what they do (`act`). The invariant: `.help`, completion and parsing read this one table.

/// What a command takes after its name, as completion needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing.
    Nothing,
    /// A Lua file.
    File,
    /// A folder.
    Folder,
    /// The name of a blueprint.
    Blueprint,
    /// The id of a message.
    Message,
    /// Lua.
    Code,
    /// `on` or `off`.
    OnOff,
    /// Something free.
    Text,
}

/// One command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    /// With its dot.
    pub(crate) name: &'static str,
    /// What follows it, for people.
    pub(crate) usage: &'static str,
    /// What it takes.
    pub(crate) takes: Takes,
    /// What it does, in one line.
    pub(crate) about: &'static str,
}

const fn command(name: &'static str, usage: &'static str, takes: Takes, about: &'static str) -> Command {
    Command {
        name,
        usage,
        takes,
        about,
    }
}

/// All commands, in the order of `.help`.
pub(crate) const TABLE: [Command; 27] = [
    command(
        ".help",
        "[COMMAND]",
        Takes::Text,
        "this list, or more about one command",
    ),
    command(
        ".load",
        "FILE",
        Takes::File,
        "send a Lua file and the local modules it requires",
    ),
    command(
        ".load-blueprint",
        "NAME",
        Takes::Blueprint,
        "load a program shipped with the shell",
    ),
    command(
        ".watch",
        "DIR | off",
        Takes::Folder,
        "send a module again whenever it is saved",
    ),
    command(
        ".dry",
        "CODE",
        Takes::Code,
        "what CODE would do: output, messages, changes; nothing is sent",
    ),
    command(
        ".dryrun",
        "",
        Takes::Nothing,
        "from now on run every line dry; again to stop",
    ),
    command(
        ".confirm",
        "on | off",
        Takes::OnOff,
        "show a preview of every line and ask before it is sent",
    ),
    command(
        ".trace",
        "ID",
        Takes::Message,
        "the way of a message: who handled it and what came of it",
    ),
    command(".ps", "", Takes::Nothing, "your processes on this node"),
    command(
        ".json",
        "[_N | CODE]",
        Takes::Code,
        "a value as JSON: the last, the Nth last, or of CODE (run dry)",
    ),
    command(
        ".table",
        "[_N | CODE]",
        Takes::Code,
        "a list of records as a table",
    ),
    command(".last", "[_N]", Takes::Text, "a result once more, whole"),
    command(
        ".live",
        "[-f NAME=VALUE]",
        Takes::Text,
        "show what the process prints as it happens",
    ),
    command(".pause", "", Takes::Nothing, "stop showing it"),
    command(
        ".editor",
        "",
        Takes::Nothing,
        "write several lines; .done sends, .cancel drops",
    ),
    command(".done", "", Takes::Nothing, "in the editor: send the text"),
    command(".print", "", Takes::Nothing, "in the editor: show the text"),
    command(".delete", "", Takes::Nothing, "in the editor: drop the last line"),
    command(".cancel", "", Takes::Nothing, "in the editor: drop the text"),
    command(".pad", "", Takes::Nothing, "write in $EDITOR and send on exit"),
    command(
        ".monitor",
        "",
        Takes::Nothing,
        "let the node run the crons of this process",
    ),
    command(".unmonitor", "", Takes::Nothing, "stop that"),
    command(".time", "on | off", Takes::OnOff, "say how long each line took"),
    command(".new", "", Takes::Nothing, "how to start a project with tests"),
    command(".update", "", Takes::Nothing, "which kernel this process runs"),
    command(
        ".id",
        "",
        Takes::Nothing,
        "the id of this process, its owner and its node",
    ),
    command(".exit", "", Takes::Nothing, "leave; Ctrl-D does too"),
];

/// A command by its name.
pub(crate) fn find(name: &str) -> Option<&'static Command> {
    TABLE.iter().find(|command| command.name == name)
}

/// The name of a line that is a command, and the rest of it. Lua never begins with a dot and a letter.
pub(crate) fn split(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let named = line
        .strip_prefix('.')?
        .starts_with(|c: char| c.is_ascii_alphabetic());
    let end = line.find(char::is_whitespace).unwrap_or(line.len());
    named.then(|| (&line[..end], line[end..].trim()))
}

/// The known command that looks most like a name, if any is near.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let near = TABLE
        .iter()
        .map(|c| (strsim::damerau_levenshtein(name, c.name), c.name));
    let (distance, nearest) = near.min()?;
    let begins = |known: &&str| name.len() > 2 && known.starts_with(name);
    let longer = TABLE.iter().map(|command| command.name).find(begins);
    longer.or_else(|| (distance <= 2).then_some(nearest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_into_name_and_rest() {
        assert_eq!(split("  .load  a b.lua "), Some((".load", "a b.lua")));
        assert_eq!(split(".exit"), Some((".exit", "")));
        assert_eq!(split("x.y"), None);
        assert_eq!(split("..."), None);
        assert_eq!(split(".5 + 1"), None);
    }

    #[test]
    fn near_names_are_suggested() {
        assert_eq!(nearest(".hlep"), Some(".help"));
        assert_eq!(nearest(".laod"), Some(".load"));
        assert_eq!(nearest(".mon"), Some(".monitor"));
        assert_eq!(nearest(".xyzzy"), None);
    }

    #[test]
    fn every_command_of_aos_is_known() {
        for name in [
            ".help",
            ".load",
            ".load-blueprint",
            ".monitor",
            ".unmonitor",
            ".editor",
            ".done",
            ".delete",
            ".print",
            ".cancel",
            ".pad",
            ".dryrun",
            ".live",
            ".pause",
            ".update",
            ".exit",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
    }
}
