//! Waiting for the outcome of a message with a person in front: a spinner, the slots, Ctrl-C.
//!
//! The invariant: Ctrl-C ends the waiting, never the message; it has its slot.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use spec::ItemId;
use spec::contract::{Answer, Evaluated};

use super::link::Link;

/// How long one waits without being told.
const PATIENCE: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(120);
const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// How often the slots are asked for, in frames.
const ASK_EVERY: usize = 8;

/// How the waiting ended.
pub(crate) enum Waited<T> {
    /// With an answer.
    Answered(Answer<T>),
    /// With Ctrl-C.
    Left,
}

/// Waits for the outcome of a message.
pub(crate) async fn outcome(link: &Arc<dyn Link>, message: ItemId) -> Waited<Evaluated> {
    let answer = link.result(message);
    with_spinner(answer, "evaluating", || slots(link, message)).await
}

/// Waits for anything else.
pub(crate) async fn anything<T>(what: &str, answer: impl Future<Output = Answer<T>>) -> Waited<T> {
    with_spinner(answer, what, || async { String::new() }).await
}

async fn with_spinner<T, F: Future<Output = String>>(
    answer: impl Future<Output = Answer<T>>,
    what: &str,
    more: impl Fn() -> F,
) -> Waited<T> {
    let began = Instant::now();
    tokio::pin!(answer);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    tokio::select! {
        answer = &mut answer => return Waited::Answered(answer),
        _ = &mut interrupt => return Waited::Left,
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let mut detail = String::new();
    for turn in 0_usize.. {
        let frame = FRAMES[turn % FRAMES.len()];
        draw(&format!(
            "{frame} {what} {} s{detail} (Ctrl-C: stop waiting)",
            began.elapsed().as_secs()
        ));
        tokio::select! {
            answer = &mut answer => return ended(Waited::Answered(answer)),
            _ = &mut interrupt => return ended(Waited::Left),
            () = tokio::time::sleep(FRAME) => {}
        }
        if turn % ASK_EVERY == 0 {
            let asked = tokio::time::timeout(FRAME, more()).await;
            detail = asked.unwrap_or(detail);
        }
    }
    unreachable!("the loop above ends by returning only")
}

async fn slots(link: &Arc<dyn Link>, message: ItemId) -> String {
    match link.progress(message).await {
        Ok((at, wanted)) if wanted > at => format!(", slot {at} of {wanted}"),
        Ok((_, wanted)) => format!(", slot {wanted}"),
        Err(_) => String::new(),
    }
}

/// Errors of the terminal are met again, and told, at the next line.
fn draw(text: &str) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "\r\x1b[K{text}");
    let _ = out.flush();
}

fn ended<T>(waited: Waited<T>) -> Waited<T> {
    draw("");
    waited
}
