//! Every command in the README and in `--help` is run here, as it stands, against the built binary.
//!
//! A fenced `sh` block is a script. A comment right before it says what is special: `<!-- test: skip WHY -->`
//! for what needs a network or another machine. A line that starts a node runs in the background.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{Node, weft};

/// A script of a page, and where it stands.
#[derive(Debug)]
struct Script {
    line: usize,
    text: String,
    skip: Option<String>,
}

fn scripts(page: &str) -> Vec<Script> {
    let (mut found, mut before) = (Vec::new(), "");
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line.trim() == "```sh" {
            let body = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != "```");
            found.push(Script {
                line: at + 1,
                text: body.collect::<Vec<_>>().join("\n"),
                skip: before
                    .strip_prefix("<!-- test: skip ")
                    .map(|why| why.trim_end_matches("-->").trim().to_owned()),
            });
        }
        if !line.trim().is_empty() {
            before = line.trim();
        }
    }
    found
}

/// The commands under `Examples:` of a help text: what stands before the first gap of two spaces.
fn examples(help: &str) -> Vec<String> {
    let mut lines = help.lines().skip_while(|line| line.trim() != "Examples:").skip(1);
    let commands = lines.by_ref().take_while(|line| line.starts_with("  "));
    commands
        .map(|line| line.trim().split("  ").next().unwrap_or("").to_owned())
        .collect()
}

/// A place with a node, a process named `default`, and the files that examples speak of.
struct World {
    node: Node,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let world = World {
            node: Node::start(&folder.path().join("node")),
            folder,
        };
        let write = |name: &str, text: &str| std::fs::write(world.path().join(name), text).unwrap();
        write("bank.lua", "Balance = (Balance or 0) + 1\nreturn Balance\n");
        write(
            "module.lua",
            "function handle(msg, env) return { Output = msg.Data } end\n",
        );
        let proof = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/proof_v1.bin");
        std::fs::copy(proof, world.path().join("my.proof")).unwrap();
        let made = world.run("weft spawn default");
        assert!(made.status.success(), "{}", text(&made));
        world
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, program: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_weft")).parent().unwrap();
        let path = format!(
            "{}:{}",
            binary.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env("PATH", path)
            .env("HOME", self.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env("WEFT_NODE", self.node.text("url"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, script: &str) -> Output {
        self.command("bash")
            .args(["-euo", "pipefail", "-c", script])
            .output()
            .unwrap()
    }

    /// Starts what stays, waits until it says that it is ready, and stops it.
    fn serve(&self, line: &str) -> Result<(), String> {
        let log = self.path().join("served.log");
        let out = std::fs::File::create(&log).unwrap();
        let line = line.split('#').next().unwrap_or("").trim();
        let mut child = self
            .command("bash")
            .args(["-c", &format!("exec {line} --listen 127.0.0.1:0")])
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let start = Instant::now();
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        while !said().contains("ready") && start.elapsed() < Duration::from_secs(60) {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(format!("ended with {status}: {}", said()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status();
        let status = child.wait().unwrap();
        match status.success() && said().contains("ready") {
            true => Ok(()),
            false => Err(format!("{status}: {}", said())),
        }
    }

    /// Runs a script whose lines may start nodes.
    fn play(&self, script: &str) -> Result<(), String> {
        let stays = |line: &&str| line.trim_start().starts_with("weft node");
        for line in script.lines().filter(stays) {
            self.serve(line.trim())?;
        }
        let rest: Vec<&str> = script.lines().filter(|line| !stays(line)).collect();
        let done = self.run(&rest.join("\n"));
        match done.status.success() {
            true => Ok(()),
            false => Err(format!("{}: {}", done.status, text(&done))),
        }
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn every_command_of_the_readme_runs() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let scripts = scripts(&page);
    let world = World::new();
    let mut played = 0;
    for script in &scripts {
        match &script.skip {
            Some(why) => assert!(
                why.len() > 8,
                "README line {}: say why it is skipped",
                script.line
            ),
            None => {
                played += 1;
                if let Err(why) = world.play(&script.text) {
                    panic!("README line {}:\n{}\n{why}", script.line, script.text);
                }
            }
        }
    }
    assert!(played >= 3, "the README lost its commands");
}

#[test]
fn every_example_of_help_runs() {
    let world = World::new();
    let mut played = 0;
    for command in commands() {
        let output = weft()
            .args(command.split(' ').filter(|word| !word.is_empty()))
            .arg("--help")
            .output()
            .unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        for example in examples(&help) {
            played += 1;
            if let Err(why) = world.play(&example) {
                panic!("`weft {command} --help`: `{example}`: {why}");
            }
        }
    }
    assert!(played >= 15, "only {played} examples were found");
}

/// The commands that help lists, the program itself first.
fn commands() -> Vec<String> {
    let output = weft().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = lines.take_while(|line| line.starts_with("  "));
    let names = listed.filter_map(|line| {
        line.strip_prefix("  ")?
            .split(' ')
            .next()
            .filter(|name| !name.is_empty())
    });
    let names: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(names.len() > 10, "{help}");
    std::iter::once(String::new()).chain(names).collect()
}

#[test]
fn every_client_command_shows_examples() {
    for command in [
        "dev",
        "shell",
        "eval",
        "spawn",
        "send",
        "dry",
        "result",
        "trace",
        "ps",
        "explain",
        "completions",
    ] {
        let output = weft().args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(
            !examples(&help).is_empty(),
            "`weft {command} --help` shows no example:\n{help}"
        );
    }
}
