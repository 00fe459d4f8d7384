//! A module that counts its calls in its memory and does what a message's tags ask for.
//!
//! `trap`, `spin`, `hog`, `fail`, `throw` and `rubbish` fail after the count went up; everything else
//! answers with the count and with what the module was given, so that tests see it as processes do.

use bytes::Bytes;

/// Texts of the module, each in a place of its own.
const TEXTS: [&str; 14] = [
    r#""value":"trap""#,
    r#""value":"spin""#,
    r#""value":"hog""#,
    r#""value":"fail""#,
    r#""value":"throw""#,
    r#""value":"rubbish""#,
    r#""value":"send""#,
    r#"{"ok":true,"response":{"Error":"boom","Output":"lost"}}"#,
    r#"{"ok":false,"response":"thrown"}"#,
    r#"{"ok":true,"response":{"Output":{"count":"#,
    r#","message":"#,
    r#","env":"#,
    r#"},"Messages":[{"Target":"T","Tags":[{"name":"N","value":1}],"Data":"d"}]}}"#,
    r#"}}}"#,
];
const TEXTS_AT: usize = 4096;
const TEXT_BYTES: usize = 128;

/// The address of a text.
fn at(text: usize) -> usize {
    TEXTS_AT + text * TEXT_BYTES
}

/// The module's bytes.
pub fn wasm() -> Bytes {
    let data: String = TEXTS
        .iter()
        .enumerate()
        .map(|(i, text)| data(at(i), text))
        .collect();
    let text = format!("(module {HEAD} {data} {})", handle());
    wat::parse_str(text).unwrap().into()
}

fn data(at: usize, text: &str) -> String {
    assert!(text.len() < TEXT_BYTES);
    format!("(data (i32.const {at}) \"{}\\00\")\n", text.replace('"', "\\22"))
}

fn handle() -> String {
    let when = |text: usize, then: &str| {
        format!(
            "(if (call $has (local.get $message) (i32.const {})) (then {then}))\n",
            at(text)
        )
    };
    let put = |text: usize| format!("(call $put (i32.const {}))\n", at(text));
    let fail = |text: usize| format!("(return (i32.const {}))", at(text));
    let parts = [
        when(0, "unreachable"),
        when(1, "(loop (br 0))"),
        when(
            2,
            &format!(
                "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) {}",
                fail(7)
            ),
        ),
        when(3, &fail(7)),
        when(4, &fail(8)),
        when(5, &fail(0)),
        "(global.set $out (i32.const 0x110000))".into(),
        put(9),
        "(call $number (i32.load (i32.const 512)))".into(),
        put(10),
        "(call $put (local.get $message))".into(),
        put(11),
        "(call $put (local.get $env))".into(),
        when(6, &format!("{} (return (i32.const 0x110000))", put(12))),
        put(13),
        "(i32.const 0x110000)".into(),
    ];
    let count = "(i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))";
    let body = parts.concat();
    format!("(func (export \"handle\") (param $message i32) (param $env i32) (result i32) {count} {body})")
}

const HEAD: &str = r#"
(import "env" "emscripten_date_now" (func $now (result f64)))
(memory (export "memory") 48 2048)
(global $sp (mut i32) (i32.const 0x100000))
(global $out (mut i32) (i32.const 0))
(func (export "emscripten_stack_get_current") (result i32) (global.get $sp))
(func (export "_emscripten_stack_restore") (param i32) (global.set $sp (local.get 0)))
(func (export "_emscripten_stack_alloc") (param i32) (result i32)
  (global.set $sp (i32.and (i32.sub (global.get $sp) (local.get 0)) (i32.const -16)))
  (global.get $sp))
(func (export "__wasm_call_ctors"))

;; Whether a text stands within another.
(func $has (param $text i32) (param $part i32) (result i32) (local $i i32) (local $c i32)
  (loop $starts
    (local.set $i (i32.const 0))
    (loop $same
      (local.set $c (i32.load8_u (i32.add (local.get $part) (local.get $i))))
      (if (i32.eqz (local.get $c)) (then (return (i32.const 1))))
      (if (i32.eq (local.get $c) (i32.load8_u (i32.add (local.get $text) (local.get $i))))
        (then (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $same))))
    (if (i32.eqz (i32.load8_u (local.get $text))) (then (return (i32.const 0))))
    (local.set $text (i32.add (local.get $text) (i32.const 1)))
    (br $starts))
  unreachable)

;; Appends a text to what is answered, and ends it.
(func $put (param $text i32) (local $c i32)
  (loop $next
    (local.set $c (i32.load8_u (local.get $text)))
    (i32.store8 (global.get $out) (local.get $c))
    (if (local.get $c)
      (then
        (global.set $out (i32.add (global.get $out) (i32.const 1)))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (br $next)))))

;; Appends a number.
(func $number (param $n i32)
  (if (i32.ge_u (local.get $n) (i32.const 10))
    (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
  (i32.store8 (global.get $out) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
  (global.set $out (i32.add (global.get $out) (i32.const 1))))
"#;
