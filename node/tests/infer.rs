//! `weft infer` on forged models: answers, receipts, vectors, and that every JSON line names what computed it.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "../../cu/inference/tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::forge::{self, Shape};

/// A WordPiece tokenizer of a few letters.
const TOKENIZER: &str = r###"{"version":"1.0","added_tokens":[
{"id":0,"content":"[UNK]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
{"id":1,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
{"id":2,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"BertNormalizer","clean_text":true,
"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},
"post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},
"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]",
"continuing_subword_prefix":"##","max_input_chars_per_word":100,
"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,"##b":4,"b":5}}}"###;

fn infer(folder: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.arg("infer").args(args.split(' ')).current_dir(folder);
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.gguf"), forge::llama(&Shape::tiny(), "Q8_0")).unwrap();
    folder
}

#[test]
fn an_answer_is_the_same_on_every_device_and_its_receipt_passes() {
    let folder = folder();
    let ask = |device: &str| {
        let args = "generate --model m.gguf --prompt Once --max-tokens 9 --temperature 0.8 --seed 7 --json";
        json(&infer(
            folder.path(),
            &format!("{args} --receipt r.json --device {device}"),
        ))
    };
    let (cpu, scalar) = (ask("cpu"), ask("scalar"));
    assert_eq!(cpu["receipt"], scalar["receipt"]);
    assert_eq!(cpu["tokens"].as_array().unwrap().len(), 9);
    assert!(scalar["device"].as_str().unwrap().contains("scalar"));
    let verify = || infer(folder.path(), "verify r.json --model m.gguf");
    assert!(verify().status.success());
    let path = folder.path().join("r.json");
    let mut receipt: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    receipt["tokens"][5] = Value::from(receipt["tokens"][5].as_u64().unwrap() ^ 1);
    std::fs::write(&path, receipt.to_string()).unwrap();
    let refused = verify();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("token 5"));
}

#[test]
fn logits_come_with_their_hash() {
    let folder = folder();
    let ask = |args: &str| {
        json(&infer(
            folder.path(),
            &format!("logits --model m.gguf --tokens 1,2,3 --json {args}"),
        ))
    };
    let (cpu, scalar) = (ask("--threads 2"), ask("--device scalar"));
    assert_eq!(cpu["logits"].as_array().unwrap().len(), Shape::tiny().vocabulary);
    assert_eq!(
        (&cpu["hash"], &cpu["logits"]),
        (&scalar["hash"], &scalar["logits"])
    );
    assert_ne!(cpu["hash"], ask("--profile a8")["hash"]);
}

#[test]
fn a_vector_per_line() {
    let folder = tempfile::tempdir().unwrap();
    let (config, weights) = forge::bert(32, 64, 6, 1);
    for (name, bytes) in [
        ("config.json", &config[..]),
        ("model.safetensors", &weights),
        ("tokenizer.json", TOKENIZER.as_bytes()),
    ] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["infer", "embed", "--model", ".", "--json"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"ab\nb a\nab\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], lines[2]);
    assert_ne!(lines[0]["embedding"], lines[1]["embedding"]);
    assert!(lines[0]["device"].as_str().unwrap().starts_with("cpu"));
}

#[test]
fn a_device_asked_for_by_name_is_not_replaced() {
    let folder = folder();
    let refused = infer(
        folder.path(),
        "logits --model m.gguf --tokens 1 --device vulkan:97",
    );
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(
        !infer(folder.path(), "logits --model m.gguf --tokens 1 --device gpu")
            .status
            .success()
    );
    let devices = infer(folder.path(), "devices --json");
    assert!(String::from_utf8_lossy(&devices.stdout).contains("scalar"));
}

#[test]
fn a_wrong_token_is_bisected_to_the_operator() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let args = "generate --model m.gguf --prompt Once --max-tokens 6 --temperature 0.8 --receipt r.json --device scalar";
    assert!(infer(folder.path(), args).status.success());
    let mut receipt: Value = serde_json::from_slice(&std::fs::read(path("r.json")).unwrap()).unwrap();
    receipt["tokens"][4] = Value::from(receipt["tokens"][4].as_u64().unwrap() ^ 1);
    std::fs::write(path("r.json"), receipt.to_string()).unwrap();
    // Another machine, which has one weight of the second layer's gate wrong.
    let mut wrong = std::fs::read(path("m.gguf")).unwrap();
    let gate = inference::gguf::Gguf::parse(&wrong)
        .unwrap()
        .range("blk.1.ffn_gate.weight")
        .unwrap();
    wrong[gate.start + 2] ^= 0x40;
    std::fs::write(path("wrong.gguf"), wrong).unwrap();
    for model in ["m", "wrong"] {
        let args = format!("trace r.json --model {model}.gguf --token 4 --out {model}.json");
        assert!(infer(folder.path(), &args).status.success());
    }
    let verify = |trace: &str| {
        let output = infer(
            folder.path(),
            &format!("verify r.json --model m.gguf --json{trace}"),
        );
        assert!(!output.status.success());
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let plain = verify("");
    assert_eq!(
        (&plain["ok"], &plain["token"]),
        (&Value::Bool(false), &Value::from(4))
    );
    assert!(plain["bisect"]["operators"].as_u64().unwrap() > 20);
    assert!(
        plain["bisect"]["device_wrong_at"].is_null(),
        "this machine is right: {plain}"
    );
    assert!(plain["driver"].is_string());
    assert!(verify(" --trace m.json")["bisect"]["receipt_wrong_at"].is_null());
    let found = &verify(" --trace wrong.json")["bisect"]["receipt_wrong_at"];
    assert_eq!(
        (&found["layer"], &found["operator"]),
        (&Value::from(1), &Value::from("product")),
        "{found}"
    );
}

#[test]
fn decoders_give_vectors_and_devices_prove_themselves() {
    let folder = folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["infer", "embed", "--model", "m.gguf"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let lines = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let vectors: Vec<Vec<f32>> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((vectors.len(), vectors[0].len()), (2, Shape::tiny().width));
    let devices = infer(folder.path(), "devices --prove --json");
    for line in String::from_utf8(devices.stdout).unwrap().lines() {
        let device: Value = serde_json::from_str(line).unwrap();
        assert_eq!(device["proved"], true, "{device}");
        assert!(device["name"].is_string() && device["driver"].is_string());
    }
}
