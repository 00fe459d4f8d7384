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
    // Its maker made the receipt with that file, which it takes for the right one.
    let mut makers = receipt.clone();
    makers["model"] = Value::from(blake3::hash(&std::fs::read(path("wrong.gguf")).unwrap()).to_string());
    std::fs::write(path("makers.json"), makers.to_string()).unwrap();
    for (receipt, model) in [("r", "m"), ("makers", "wrong")] {
        let args = format!("trace {receipt}.json --model {model}.gguf --token 4 --out {model}.json");
        assert!(infer(folder.path(), &args).status.success());
    }
    let told = json(&infer(
        folder.path(),
        "trace r.json --model m.gguf --token 4 --json --device scalar",
    ));
    assert_eq!(
        (&told["driver"], told["trace"]["steps"].is_array()),
        (&Value::from("native"), true)
    );
    std::fs::write(path("told.json"), told.to_string()).unwrap();
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
    for right in ["m", "told"] {
        assert!(verify(&format!(" --trace {right}.json"))["bisect"]["receipt_wrong_at"].is_null());
    }
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
        assert!(device["name"].is_string());
        assert!(!device["driver"].as_str().unwrap().is_empty());
    }
}

/// What a command that fails says; it must end by itself.
fn refusal(folder: &Path, args: &str) -> String {
    let output = infer(folder, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args}: {said}");
    said
}

#[test]
fn refusals_name_the_place_and_the_remedy() {
    let folder = folder();
    let whole = std::fs::read(folder.path().join("m.gguf")).unwrap();
    std::fs::write(folder.path().join("cut.gguf"), &whole[..whole.len() - 9]).unwrap();
    std::fs::write(folder.path().join("short.gguf"), &whole[..300]).unwrap();
    for (args, words) in [
        ("logits --model cut.gguf --tokens 1", ["cut.gguf", "is it whole"]),
        (
            "generate --model short.gguf --prompt x",
            ["short.gguf", "is it whole"],
        ),
        ("generate --model . --prompt x", ["infer embed", "GGUF"]),
        (
            "bench --model none.gguf",
            ["cannot read none.gguf", "No such file"],
        ),
        (
            "bench --model m.gguf --prompt-tokens 99999999999",
            ["100000000063", "together"],
        ),
        (
            "logits --model m.gguf --tokens 1 --threads 100000",
            ["100000 threads", "to 1024"],
        ),
        (
            "embed --model m.gguf --threads 100000",
            ["100000 threads", "to 1024"],
        ),
        (
            "generate --model m.gguf --prompt x --max-tokens 60000",
            ["positions", "--max-tokens"],
        ),
        (
            "generate --model m.gguf --prompt x --max-tokens 2047",
            ["the model has 2048 positions", "--max-tokens"],
        ),
        (
            "generate --model m.gguf --prompt x --receipt none/r.json",
            ["cannot write none/r.json", "folder"],
        ),
        (
            "generate --model m.gguf --prompt x --temperature -1",
            ["temperature", "0.001 to 100"],
        ),
        (
            "generate --model m.gguf --prompt x --profile a4",
            ["a4", "a16 or a8"],
        ),
        (
            "generate --model m.gguf --prompt x --device vulkan:97",
            ["vulkan", "97"],
        ),
        ("embed --model m.gguf --device vulkan:97", ["vulkan", "97"]),
        ("bench --model m.gguf --device vulkan:97", ["vulkan", "97"]),
        ("verify m.gguf --model m.gguf", ["m.gguf is no receipt", "line 1"]),
    ] {
        let said = refusal(folder.path(), args);
        assert!(words.iter().all(|word| said.contains(word)), "{args}: {said}");
    }
}

/// What a folder says to be done to texts or vectors is done or refused.
#[test]
fn an_encoders_folder_is_heeded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (config, weights) = forge::bert(32, 64, 9, 4);
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for (name, bytes) in [
        ("e/config.json", &config[..]),
        ("e/model.safetensors", &weights),
        ("e/tokenizer.json", TOKENIZER.as_bytes()),
    ] {
        file(name, bytes);
    }
    let packed = |out: &str| {
        let done = infer(folder.path(), &format!("pack e {out}")).status.success();
        assert!(done, "{out}");
        std::fs::read(folder.path().join(out)).unwrap()
    };
    let says = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    assert!(says(&packed("plain"), r#""pooling":"mean""#));
    file("e/1_Pooling/config.json", br#"{"pooling_mode":"cls"}"#);
    file("e/tokenizer_config.json", br#"{"model_max_length":7}"#);
    let first = packed("first");
    assert!(says(&first, r#""pooling":"first""#) && says(&first, r#""length":"7""#));
    for (name, bytes, words) in [
        (
            "e/1_Pooling/config.json",
            r#"{"pooling_mode_max_tokens":true}"#,
            ["max_tokens", "mean, cls"],
        ),
        (
            "e/1_Pooling/config.json",
            r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}"#,
            ["cls_token and mean_tokens", "one of them"],
        ),
        (
            "e/modules.json",
            r#"[{"type":"sentence_transformers.models.Dense","path":"2"}]"#,
            ["Dense", "modules.json"],
        ),
        (
            "e/config_sentence_transformers.json",
            r#"{"default_prompt_name":"query"}"#,
            ["query", "before the texts"],
        ),
    ] {
        file(name, bytes.as_bytes());
        let said = refusal(folder.path(), "pack e out");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
}

#[test]
fn a_changed_receipt_is_refused_where_it_was_changed() {
    let folder = folder();
    let other = forge::model(&Shape::tiny(), "Q8_0", 9);
    std::fs::write(folder.path().join("other.gguf"), other).unwrap();
    let args = "generate --model m.gguf --prompt Once --max-tokens 5 --profile a8 --receipt r.json --json";
    let answer = json(&infer(folder.path(), args));
    assert!(
        infer(folder.path(), "verify r.json --model m.gguf")
            .status
            .success(),
        "in its own profile"
    );
    let said = refusal(folder.path(), "verify r.json --model m.gguf --profile a16");
    assert!(said.contains("--profile"), "{said}");
    let id = answer["receipt"]["model"].as_str().unwrap();
    for command in ["verify", "trace"] {
        let said = refusal(folder.path(), &format!("{command} r.json --model other.gguf"));
        assert!(
            said.contains("receipt, model") && said.contains(id) && said.contains("--model"),
            "{said}"
        );
    }
    let said = refusal(folder.path(), "verify r.json --model m.gguf --trace none.json");
    assert!(said.contains("cannot read none.json"), "{said}");
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 6] = [
        (|r| r["gas"] = Value::from(1), "receipt, gas"),
        (|r| r["finish"] = Value::from("stop"), "receipt, finish"),
        (|r| r["seed"] = r["head"].clone(), "receipt, head"),
        (|r| r["tokens"] = Value::from([1]), "receipt, chain"),
        (|r| r["chain"][3] = r["chain"][2].clone(), "receipt, token 3"),
        (|r| r["format"] = Value::from("weft-receipt-2"), "weft-receipt-1"),
    ];
    for (change, place) in changes {
        let mut forged = answer["receipt"].clone();
        change(&mut forged);
        std::fs::write(folder.path().join("f.json"), forged.to_string()).unwrap();
        let said = refusal(folder.path(), "verify f.json --model m.gguf");
        assert!(said.contains(place), "{place}: {said}");
        let told = infer(folder.path(), "verify f.json --model m.gguf --json");
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert!(
            told["ok"] == false && told["error"].as_str().unwrap().contains(place),
            "{told}"
        );
        assert!(told["device"].is_string() && told["driver"].is_string());
    }
}
