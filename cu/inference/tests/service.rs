//! The service: answers do not depend on who else asks, on prefixes, memory, or a device that is lost; and its limits hold.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use inference::device::{Device, Embed as Encode};
use inference::encoder::Pooling;
use inference::engine::{Logits, Part, Sequence, Wanted};
use inference::generate::{Decode, Finish};
use inference::package::pack;
use inference::sample::Settings;
use inference::service::*;
use inference::{Error, Profile};
use support::Random;
use support::forge::{self, Shape};

/// Models by name; counts how often bytes were asked for.
#[derive(Default)]
struct Shelf {
    files: Vec<(&'static str, Vec<u8>)>,
    asked: AtomicUsize,
}

impl Models for Shelf {
    fn bytes(&self, id: &str) -> Result<Blob, Refusal> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.files.iter().find(|(name, _)| *name == id) {
            Some((_, bytes)) => Ok(Arc::new(bytes.clone())),
            None => Err(Refusal::absent(id)),
        }
    }
}

fn shelf() -> Arc<Shelf> {
    let shape = |family| Shape {
        family,
        untied: family == "llama",
        ..Shape::tiny()
    };
    let mut files = vec![("broken", b"GGUF\x03\0\0\0".to_vec())];
    for (name, family) in [("one", "llama"), ("two", "qwen3"), ("three", "gemma2")] {
        files.push((name, forge::model(&shape(family), "Q8_0", 7)));
    }
    Arc::new(Shelf {
        files,
        ..Shelf::default()
    })
}

fn config() -> Config {
    Config {
        device: Device::Cpu,
        threads: 2,
        positions_max: 256,
        ..Config::default()
    }
}

fn service(config: Config) -> Service {
    Service::open(config, shelf())
}

fn model(id: &str) -> ModelRef {
    ModelRef::named(id)
}

/// The n-th ask of many: prompts that partly begin alike, all kinds of settings.
fn ask(n: usize) -> Generate {
    let mut random = Random(n as u64 + 1);
    let mut prompt: Vec<u32> = (0..40).map(|i| (i * 7 + n as u32 % 3) % 300).collect();
    prompt.extend((0..random.below(60)).map(|_| random.below(300) as u32));
    Generate {
        settings: Settings {
            temperature: if n.is_multiple_of(2) { 0.0 } else { 0.9 },
            top_k: 30,
            top_p: 0.95,
            seed: [n as u8; 32],
        },
        tokens_max: Some(4 + n % 29),
        logprobs: n.is_multiple_of(4).then_some(2),
        asker: format!("asker {}", n % 5),
        ..Generate::new(model("one"), Prompt::Tokens(prompt))
    }
}

/// All asks at once, each from a thread of its own.
fn together(service: &Service, asks: &[Generate]) -> Vec<Result<Generated, Refusal>> {
    thread::scope(|scope| {
        let threads: Vec<_> = asks
            .iter()
            .map(|ask| scope.spawn(|| service.generate(ask)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Positions that hold nothing, once nothing runs any more.
fn settled(service: &Service) -> Standing {
    for _ in 0..2000 {
        let standing = service.loaded().remove(0);
        if (standing.running, standing.waiting) == (0, 0) {
            return standing;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("asks are left: {:?}", service.loaded());
}

#[test]
fn sixty_four_at_once_are_as_one_at_a_time() {
    let asks: Vec<Generate> = (0..64).map(ask).collect();
    let alone = service(Config {
        batch_max: 1,
        prefixes_max: 0,
        threads: 1,
        device: Device::Scalar,
        ..config()
    });
    let truth: Vec<Generated> = asks.iter().map(|ask| alone.generate(ask).unwrap()).collect();
    // Room for all; room for a few, so that asks are started over; askers that have to share few places.
    for (cache_bytes_max, batch_max) in [(1 << 30, 64), (100_000, 64), (1 << 30, 3)] {
        let service = service(Config {
            cache_bytes_max,
            batch_max,
            ..config()
        });
        for (n, (answer, truth)) in together(&service, &asks).into_iter().zip(&truth).enumerate() {
            assert!(
                answer.as_ref() == Ok(truth),
                "ask {n} with {cache_bytes_max} {batch_max}"
            );
        }
        let standing = settled(&service);
        assert_eq!(standing.positions_free, standing.positions);
    }
    assert!(truth.iter().all(|answer| !answer.receipt.chain.is_empty()));
}

#[test]
fn prefixes_do_not_change_an_answer() {
    let (with, without) = (
        service(config()),
        service(Config {
            prefixes_max: 0,
            ..config()
        }),
    );
    let mut talk = ask(4);
    for _ in 0..4 {
        let (one, other) = (with.generate(&talk).unwrap(), without.generate(&talk).unwrap());
        assert_eq!(one, other);
        let Prompt::Tokens(prompt) = &mut talk.prompt else {
            unreachable!()
        };
        prompt.extend(&one.tokens);
        prompt.extend([5, 6, 7]);
    }
}

#[test]
fn a_text_may_end_an_answer_and_pieces_are_the_text() {
    let service = service(config());
    let mut ask = Generate::new(model("one"), Prompt::Text("Once upon a time".to_owned()));
    ask.settings.temperature = 1.5;
    ask.tokens_max = Some(60);
    let whole = service.generate(&ask).unwrap();
    assert!(whole.text.len() > 20, "{:?}", whole.text);
    let letter: String = whole
        .text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .nth(3)
        .unwrap()
        .into();
    ask.stop_texts = vec!["never that".to_owned(), letter.clone()];
    let mut pieces = String::new();
    let cut = service
        .generate_with(&ask, &Cancel::default(), &mut |token| pieces += &token.text)
        .unwrap();
    assert_eq!(
        (cut.finish, &cut.text, &pieces),
        (
            Finish::Stop,
            &whole.text[..whole.text.find(&letter).unwrap()].to_owned(),
            &cut.text
        )
    );
    assert_eq!(cut.tokens, whole.tokens[..cut.tokens.len()]);
    assert_eq!(
        (cut.receipt.finish, cut.receipt.tokens_max),
        (Finish::Length, cut.tokens.len())
    );
}

/// Of each step that was begun, which asks shared it, by the first token of each, and how many rows they had.
type Steps = Arc<Mutex<Vec<Vec<(u32, usize)>>>>;

/// A decoder whose steps are noted and wait for a door, or whose device is lost after some.
struct Odd {
    engine: Box<dyn Decode>,
    steps: Steps,
    door: Arc<Door>,
    steps_left: Option<usize>,
}

#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    moved: Condvar,
}

impl Door {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.moved.notify_all();
    }

    fn pass(&self) {
        drop(
            self.moved
                .wait_while(self.open.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
    }
}

impl Decode for Odd {
    fn extend(&mut self, sequence: &mut Sequence, new: &[u32], wanted: Wanted) -> Result<Vec<Logits>, Error> {
        self.engine.extend(sequence, new, wanted)
    }

    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<Logits>>, Error> {
        let noted = parts.iter().map(|part| {
            let first = part.sequence.tokens().first().unwrap_or(&part.new[0]);
            (*first, part.new.len())
        });
        self.steps.lock().unwrap().push(noted.collect());
        self.door.pass();
        if let Some(left) = &mut self.steps_left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => {
                    let (device, why) = ("odd".to_owned(), "lost".to_owned());
                    return Err(Error::Device { device, why });
                }
            }
        }
        self.engine.step(parts)
    }

    fn vector(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        self.door.pass();
        self.engine.vector(tokens)
    }

    fn fork(&mut self, sequence: &Sequence, length: usize) -> Sequence {
        self.engine.fork(sequence, length)
    }

    fn end(&mut self, sequence: Sequence) {
        self.engine.end(sequence);
    }

    fn free(&self) -> usize {
        self.engine.free()
    }

    fn device(&self) -> String {
        "odd".to_owned()
    }

    fn profile(&self) -> Profile {
        self.engine.profile()
    }

    fn vocabulary(&self) -> usize {
        self.engine.vocabulary()
    }

    fn gas(&self, prompt: usize, tokens: usize) -> u64 {
        self.engine.gas(prompt, tokens)
    }
}

/// Makes every decoder odd, but for those that follow a loss.
#[derive(Default)]
struct OddDevices {
    steps: Steps,
    door: Arc<Door>,
    steps_left: Option<usize>,
    /// Decoders that were loaded.
    loads: Arc<AtomicUsize>,
}

impl Devices for OddDevices {
    fn decoder(
        &self,
        config: &Config,
        bytes: &[u8],
        model: &ModelRef,
        fallback: bool,
    ) -> Result<Box<dyn Decode>, Refusal> {
        let config = Config {
            device: Device::Cpu,
            ..config.clone()
        };
        let engine = Machine.decoder(&config, bytes, model, fallback)?;
        self.loads.fetch_add(1, Ordering::Relaxed);
        let (door, steps_left) = (Arc::clone(&self.door), self.steps_left);
        Ok(match fallback {
            true => engine,
            false => Box::new(Odd {
                engine,
                steps: Arc::clone(&self.steps),
                door,
                steps_left,
            }),
        })
    }

    fn encoder(
        &self,
        config: &Config,
        bytes: &[u8],
        model: &ModelRef,
        fallback: bool,
    ) -> Result<Box<dyn Encode>, Refusal> {
        Machine.encoder(config, bytes, model, fallback)
    }
}

#[test]
fn a_lost_device_gives_the_same_answer_or_none() {
    let truth = service(config());
    let asks: Vec<Generate> = (0..12).map(ask).collect();
    for steps in [0, 1, 7] {
        for (device, answers) in [(Device::Auto, true), (Device::Vulkan(0), false)] {
            let devices = OddDevices {
                steps_left: Some(steps),
                ..OddDevices::default()
            };
            devices.door.open();
            let lossy = Service::open_on(Config { device, ..config() }, shelf(), Arc::new(devices));
            for (ask, answer) in asks.iter().zip(together(&lossy, &asks)) {
                match answer {
                    Ok(answer) => assert!(answer == truth.generate(ask).unwrap()),
                    Err(refusal) => assert!(
                        !answers && matches!(refusal, Refusal::Unavailable(_)),
                        "{refusal}"
                    ),
                }
            }
            if answers {
                assert!(settled(&lossy).device.starts_with("cpu"), "{:?}", lossy.loaded());
            }
        }
    }
}

#[test]
fn a_model_whose_worker_ended_is_loaded_anew() {
    let devices = OddDevices {
        steps_left: Some(6),
        ..OddDevices::default()
    };
    devices.door.open();
    let lossy = Service::open_on(
        Config {
            device: Device::Vulkan(0),
            ..config()
        },
        shelf(),
        Arc::new(devices),
    );
    let mut answered = 0;
    for _ in 0..6 {
        match lossy.generate(&Generate {
            tokens_max: Some(3),
            ..ask(2)
        }) {
            Ok(_) => answered += 1,
            Err(refusal) => assert!(matches!(refusal, Refusal::Unavailable(_))),
        }
    }
    assert!((3..6).contains(&answered), "{answered}");
}

/// A service whose steps wait until the door opens.
fn held(config: Config) -> (Service, Arc<Door>) {
    let devices = OddDevices::default();
    let door = Arc::clone(&devices.door);
    (Service::open_on(config, shelf(), Arc::new(devices)), door)
}

fn wait(what: &str, until: impl Fn() -> bool) {
    for _ in 0..5000 {
        if until() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{what}");
}

#[test]
fn what_waits_is_bounded_and_asks_are_taken_back() {
    let (service, door) = held(Config {
        batch_max: 1,
        queue_max: 3,
        asker_max: 2,
        prefixes_max: 0,
        ..config()
    });
    service.facts(&model("one")).unwrap();
    let cancels: Vec<Cancel> = (0..4).map(|_| Cancel::default()).collect();
    let of = |asker: &str| Generate {
        asker: asker.to_owned(),
        ..ask(1)
    };
    let waiting = || service.loaded()[0].waiting;
    thread::scope(|scope| {
        let start = |asker: &str, cancel: &Cancel| {
            let (ask, cancel, service) = (of(asker), cancel.clone(), service.clone());
            scope.spawn(move || service.generate_with(&ask, &cancel, &mut |_| ()))
        };
        let first = start("a", &cancels[0]);
        wait("the first is let in", || waiting() == 0 && !first.is_finished());
        thread::sleep(Duration::from_millis(20));
        let second = start("a", &cancels[1]);
        wait("the second waits", || waiting() == 1);
        let third = start("a", &cancels[2]);
        wait("the third waits", || waiting() == 2);
        let refused = service.generate(&of("a")).unwrap_err();
        assert!(refused.to_string().contains("2 asks of one asker"), "{refused}");
        let fourth = start("b", &cancels[3]);
        wait("the fourth waits", || waiting() == 3);
        let refused = service.generate(&of("c")).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Unavailable(Unavailable::Busy(why)) if why.contains("3 asks")),
            "{refused}"
        );
        cancels[0].cancel();
        cancels[2].cancel();
        door.open();
        let gone = Err(Refusal::Unavailable(Unavailable::Cancelled));
        assert_eq!(first.join().unwrap(), gone);
        assert_eq!(third.join().unwrap(), gone);
        assert_eq!(second.join().unwrap(), fourth.join().unwrap());
    });
    let standing = settled(&service);
    assert_eq!(
        standing.positions_free, standing.positions,
        "what was taken back holds nothing"
    );
}

/// Asks of these askers, prompts of so many tokens and answers of so many, put before a service whose steps are held:
/// the first is being evaluated when the second comes, and so on. The answers, and what was evaluated together.
fn in_order(config: Config, asks: &[Generate]) -> (Vec<Generated>, Vec<Vec<(u32, usize)>>) {
    let devices = OddDevices::default();
    let (steps, door) = (Arc::clone(&devices.steps), Arc::clone(&devices.door));
    let service = Service::open_on(config, shelf(), Arc::new(devices));
    let answers = thread::scope(|scope| {
        let mut threads = vec![];
        for (n, ask) in asks.iter().enumerate() {
            threads.push(scope.spawn(|| service.generate(ask).unwrap()));
            match n {
                0 => wait("the first is evaluated", || steps.lock().unwrap().len() == 1),
                n => wait("the others wait", || service.loaded()[0].waiting == n),
            }
        }
        door.open();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let steps = steps.lock().unwrap().clone();
    (answers, steps)
}

/// An ask whose prompt is as long as said and begins with a token of its own.
fn long(asker: &str, first: u32, prompt: u32, tokens: usize) -> Generate {
    let prompt = (0..prompt).map(|n| if n == 0 { first } else { 100 + n % 90 });
    Generate {
        tokens_max: Some(tokens),
        asker: asker.to_owned(),
        ..Generate::new(model("one"), Prompt::Tokens(prompt.collect()))
    }
}

#[test]
fn a_short_prompt_does_not_wait_for_long_ones_of_others() {
    let config = || Config {
        positions_max: 1024,
        ..config()
    };
    let asks = [
        long("many", 10, 600, 2),
        long("many", 11, 600, 2),
        long("many", 12, 600, 2),
        long("other", 13, 600, 2),
        long("one", 14, 5, 2),
    ];
    let (answers, steps) = in_order(config(), &asks);
    // The first step began before the others came; the second one has them all.
    assert_eq!(steps[0], [(10, 256)]);
    assert!(steps[1].contains(&(14, 5)), "{:?}", steps[1]);
    let rows = |step: &[(u32, usize)], of: std::ops::Range<u32>| -> usize {
        step.iter()
            .filter(|(first, _)| of.contains(first))
            .map(|(_, rows)| rows)
            .sum()
    };
    // Who had none is ahead until it has had as much; nobody is left out meanwhile.
    assert!(
        rows(&steps[1], 13..14) > rows(&steps[1], 10..13),
        "{:?}",
        steps[1]
    );
    for step in &steps[1..4] {
        assert!(rows(step, 10..13) >= 16 && rows(step, 13..14) >= 16, "{step:?}");
    }
    let alone = service(config());
    for (ask, answer) in asks.iter().zip(answers) {
        assert!(answer == alone.generate(ask).unwrap());
    }
}

#[test]
fn more_askers_than_places_take_turns() {
    let config = || Config {
        batch_max: 2,
        // Whatever waits for its turn keeps its place in the cache.
        positions_max: 1024,
        ..config()
    };
    let asks = [
        long("a", 10, 8, 200),
        long("b", 11, 8, 200),
        long("c", 12, 8, 5),
        long("d", 13, 8, 200),
    ];
    let (answers, steps) = in_order(config(), &asks);
    let last = |first: u32| {
        steps
            .iter()
            .rposition(|step| step.iter().any(|(of, _)| *of == first))
    };
    assert!(
        last(12) < Some(60),
        "who asks for little waits for no answer's end: {:?}",
        last(12)
    );
    let firsts = [10, 11, 13].map(last);
    assert!(firsts.iter().all(|at| *at > Some(250)), "they share: {firsts:?}");
    let came = |first: u32| {
        let there = |step: &Vec<(u32, usize)>| step.iter().any(|(of, _)| *of == first);
        1 + steps
            .windows(2)
            .filter(|two| !there(&two[0]) && there(&two[1]))
            .count()
    };
    assert!(
        [10, 11, 13].iter().all(|first| came(*first) <= 200 / 32 + 1),
        "nobody only comes and goes"
    );
    let alone = service(config());
    for (ask, answer) in asks.iter().zip(answers) {
        let Prompt::Tokens(prompt) = &ask.prompt else {
            unreachable!()
        };
        let rows = steps.iter().flatten().filter(|(first, _)| *first == prompt[0]);
        let rows: usize = rows.map(|(_, rows)| rows).sum();
        assert_eq!(
            rows,
            prompt.len() + answer.tokens.len() - 1,
            "nothing is evaluated twice"
        );
        assert!(answer == alone.generate(ask).unwrap());
    }
}

#[test]
fn memory_is_shared_by_use() {
    let footprint = |names: &[&str]| {
        let service = service(config());
        names
            .iter()
            .for_each(|name| assert!(service.facts(&model(name)).is_ok()));
        service
            .loaded()
            .iter()
            .map(|standing| standing.bytes)
            .sum::<u64>()
    };
    let two = footprint(&["one", "two"])
        .max(footprint(&["two", "three"]))
        .max(footprint(&["one", "three"]));
    let service = service(Config {
        memory_bytes_max: two,
        ..config()
    });
    let names = || -> Vec<String> {
        service
            .loaded()
            .into_iter()
            .map(|standing| standing.model.id)
            .collect()
    };
    let first = service.generate(&ask(3)).unwrap();
    service.facts(&model("two")).unwrap();
    service.facts(&model("one")).unwrap();
    service.facts(&model("three")).unwrap();
    assert_eq!(names(), ["one", "three"], "the longest unused left");
    service.facts(&model("two")).unwrap();
    assert_eq!(names(), ["three", "two"]);
    assert_eq!(
        service.generate(&ask(3)).unwrap(),
        first,
        "loaded again, it answers the same"
    );
    let small = Service::open(
        Config {
            memory_bytes_max: 1000,
            ..config()
        },
        shelf(),
    );
    assert!(matches!(
        small.facts(&model("one")),
        Err(Refusal::Unavailable(Unavailable::Room(_)))
    ));
}

#[test]
fn a_model_of_several_ids_is_loaded_once() {
    let bytes = forge::model(&Shape::tiny(), "Q8_0", 7);
    let files = ["by name", "by id", "other"].map(|id| (id, bytes.clone()));
    let mut files = Vec::from(files);
    files[2].1 = forge::model(&Shape::tiny(), "Q8_0", 8);
    let shelf = Arc::new(Shelf {
        files,
        ..Shelf::default()
    });
    let devices = OddDevices::default();
    devices.door.open();
    let loads = Arc::clone(&devices.loads);
    let service = Service::open_on(config(), shelf, Arc::new(devices));
    let by = |id: &str| Generate {
        model: model(id),
        ..ask(3)
    };
    let asks: Vec<Generate> = (0..16).map(|n| by(["by name", "by id"][n % 2])).collect();
    let answers = together(&service, &asks);
    assert!(
        answers
            .iter()
            .all(|answer| answer.is_ok() && *answer == answers[0])
    );
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    let loaded = service.loaded();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].ids, ["by id", "by name"]);
    assert!(loaded[0].is(&model("by id")) && loaded[0].is(&model("by name")));
    assert!(!loaded[0].is(&model("by id:a8")) && !loaded[0].is(&model("other")));
    service.generate(&by("other")).unwrap();
    service.generate(&by("by id:a8")).unwrap();
    assert_eq!((service.loaded().len(), loads.load(Ordering::Relaxed)), (3, 3));
}

/// A file that was replaced by another is that other one, once nobody asks the first any more.
#[test]
fn an_id_whose_bytes_changed_is_read_again() {
    struct Changing(Mutex<Vec<u8>>);
    impl Models for Changing {
        fn bytes(&self, _: &str) -> Result<Blob, Refusal> {
            Ok(Arc::new(self.0.lock().unwrap().clone()))
        }
    }
    let files = [7, 8].map(|seed| forge::model(&Shape::tiny(), "Q8_0", seed));
    let models = Arc::new(Changing(Mutex::new(files[0].clone())));
    let service = Service::open(config(), models.clone());
    let first = service.generate(&ask(3)).unwrap();
    *models.0.lock().unwrap() = files[1].clone();
    assert_eq!(service.generate(&ask(3)).unwrap(), first, "it is loaded still");
    let fast = Generate {
        model: model("one:a8"),
        ..ask(3)
    };
    let other = service.generate(&fast).unwrap();
    assert_eq!(other.receipt.model, blake3::hash(&files[1]).to_string());
}

#[test]
fn a_model_in_use_is_not_taken_away() {
    let one = {
        let s = service(config());
        s.facts(&model("one")).unwrap();
        s.loaded()[0].bytes
    };
    let (service, door) = held(Config {
        memory_bytes_max: one + one / 2,
        ..config()
    });
    thread::scope(|scope| {
        let asked = scope.spawn(|| service.generate(&ask(1)));
        wait("it is asked", || service.loaded().len() == 1);
        let refused = service.facts(&model("two")).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Unavailable(Unavailable::Busy(_))),
            "{refused}"
        );
        door.open();
        assert!(asked.join().unwrap().is_ok());
    });
    wait("idle again", || service.facts(&model("two")).is_ok());
}

#[test]
fn refusals_keep_their_kinds() {
    let shelf = shelf();
    let service = Service::open(config(), shelf.clone());
    let code = |refusal: Refusal| match refusal {
        Refusal::Certain(certain) => certain.code.name(),
        Refusal::Unavailable(_) => "unavailable",
    };
    let refused = |change: &dyn Fn(&mut Generate)| {
        let mut ask = ask(1);
        change(&mut ask);
        code(service.generate(&ask).unwrap_err())
    };
    assert_eq!(refused(&|ask| ask.model = model("nowhere")), "unavailable");
    assert_eq!(refused(&|ask| ask.model = model("broken")), "broken-model");
    let asked = shelf.asked.load(Ordering::Relaxed);
    assert_eq!(refused(&|ask| ask.model = model("broken")), "broken-model");
    assert_eq!(
        shelf.asked.load(Ordering::Relaxed),
        asked,
        "a broken model is not read again"
    );
    assert_eq!(refused(&|ask| ask.prompt = Prompt::Tokens(vec![])), "invalid");
    assert_eq!(refused(&|ask| ask.prompt = Prompt::Tokens(vec![300])), "invalid");
    assert_eq!(refused(&|ask| ask.settings.temperature = f32::NAN), "invalid");
    assert_eq!(refused(&|ask| ask.tokens_max = Some(0)), "invalid");
    assert_eq!(refused(&|ask| ask.stop_texts = vec![String::new()]), "invalid");
    assert_eq!(refused(&|ask| ask.tokens_max = Some(100_000)), "too-long");
    assert_eq!(refused(&|ask| ask.tokens_max = Some(300)), "unavailable");
    assert_eq!(refused(&|ask| ask.prompt = Prompt::Chat(vec![])), "invalid");
    assert_eq!(refused(&|ask| ask.gas_max = Some(1000)), "out-of-gas");
}

#[test]
fn gas_decides_by_count_alone() {
    let service = service(config());
    let free = ask(5);
    let answer = service.generate(&free).unwrap();
    let facts = service.facts(&free.model).unwrap();
    assert_eq!(answer.gas, facts.gas(answer.prompt_tokens, answer.tokens.len()));
    assert_eq!(
        service.generate(&Generate {
            gas_max: Some(answer.gas),
            ..free.clone()
        }),
        Ok(answer.clone())
    );
    let short = service
        .generate(&Generate {
            gas_max: Some(answer.gas - 1),
            ..free
        })
        .unwrap_err();
    assert!(matches!(
        short,
        Refusal::Certain(Certain {
            code: Code::OutOfGas,
            ..
        })
    ));
}

#[test]
fn a_score_is_what_the_answer_was_worth() {
    let service = service(config());
    let ask = Generate {
        logprobs: Some(0),
        tokens_max: Some(150),
        ..ask(8)
    };
    let answer = service.generate(&ask).unwrap();
    let score = Score {
        model: ask.model,
        prompt: ask.prompt,
        answer: Answer::Tokens(answer.tokens.clone()),
        gas_max: None,
        asker: String::new(),
    };
    let scored = service.score(&score).unwrap();
    let told: Vec<f32> = answer.logprobs.iter().map(|logprob| logprob.chosen).collect();
    assert_eq!((&scored.tokens, &scored.logprobs), (&answer.tokens, &told));
    // The logits after the answer are those that an answer of one token more is chosen from.
    let more = service
        .generate(&Generate {
            tokens_max: Some(151),
            ..Generate::new(score.model.clone(), score.prompt.clone())
        })
        .unwrap();
    assert_eq!(more.tokens[150], scored.next);
}

/// Pieces as GGUF files spell them: those that begin a word are marked.
const PIECES: [&str; 8] = [
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "\u{2581}a",
    "\u{2581}b",
    "\u{2581}c",
    "a",
    "b",
];

/// The same pieces in a `tokenizer.json`.
fn tokenizer() -> String {
    let special = |(id, name): (usize, &&str)| {
        format!(
            r#"{{"id":{id},"content":"{name}","special":true,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false}}"#
        )
    };
    let added: Vec<String> = PIECES[..3].iter().enumerate().map(special).collect();
    let spell = |piece: &str| match piece.strip_prefix('\u{2581}') {
        Some(begins) => begins.to_owned(),
        None if piece.starts_with('[') => piece.to_owned(),
        None => format!("##{piece}"),
    };
    let vocabulary: Vec<String> = PIECES
        .iter()
        .enumerate()
        .map(|(id, piece)| format!(r#""{}":{id}"#, spell(piece)))
        .collect();
    format!(
        r###"{{"version":"1.0","added_tokens":[{}],"normalizer":{{"type":"BertNormalizer","clean_text":true,
        "handle_chinese_chars":true,"strip_accents":null,"lowercase":true}},"pre_tokenizer":{{"type":"BertPreTokenizer"}},
        "post_processor":{{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]}},
        "decoder":{{"type":"WordPiece","prefix":"##","cleanup":true}},"model":{{"type":"WordPiece","unk_token":"[UNK]",
        "continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{{{}}}}}}}"###,
        added.join(","),
        vocabulary.join(",")
    )
}

#[test]
fn texts_of_many_askers_are_encoded_together() {
    let (config_json, weights) = forge::bert(64, 96, PIECES.len(), 9);
    let gguf = forge::bert_gguf(64, 96, &PIECES, 9);
    let tokenizer = tokenizer();
    let packed = pack(&weights, &config_json, tokenizer.as_bytes(), Pooling::Mean, 64).unwrap();
    let shelf = Shelf {
        files: vec![("bert", packed), ("gguf", gguf)],
        ..Shelf::default()
    };
    let service = Service::open(config(), Arc::new(shelf));
    let ask = |n: usize| {
        let mut random = Random(n as u64 + 3);
        let texts = (0..1 + n * 3).map(|_| {
            (0..1 + random.below(90))
                .map(|_| ["a ", "b ", "ab ", "cz "][random.below(4)])
                .collect()
        });
        Embed {
            model: model("bert"),
            texts: texts.collect(),
            gas_max: None,
            asker: format!("{}", n % 3),
        }
    };
    let asks: Vec<Embed> = (0..24).map(ask).collect();
    let alone: Vec<Embedded> = asks.iter().map(|ask| service.embed(ask).unwrap()).collect();
    let together: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = asks
            .iter()
            .map(|ask| scope.spawn(|| service.embed(ask)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap().unwrap())
            .collect()
    });
    assert!(alone == together);
    let gguf = Embed {
        model: model("gguf"),
        ..asks[5].clone()
    };
    assert_eq!(
        service.embed(&gguf).unwrap().vectors,
        alone[5].vectors,
        "the same encoder in another form"
    );
    let one = &alone[5];
    assert!(
        one.vectors
            .iter()
            .all(|v| (v.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-3)
    );
    let short = Embed {
        gas_max: Some(one.gas - 1),
        ..asks[5].clone()
    };
    assert!(matches!(
        service.embed(&short),
        Err(Refusal::Certain(Certain {
            code: Code::OutOfGas,
            ..
        }))
    ));
    assert!(matches!(
        service.generate(&Generate::new(model("bert"), Prompt::Tokens(vec![1]))),
        Err(Refusal::Certain(_))
    ));
}

/// A tokenizer may know more words than the weights do: whoever writes one is refused, and nobody else.
#[test]
fn a_text_that_the_weights_have_no_row_for_is_refused_alone() {
    let (config_json, weights) = forge::bert(64, 96, PIECES.len() - 1, 9);
    let packed = pack(&weights, &config_json, tokenizer().as_bytes(), Pooling::Mean, 64).unwrap();
    let shelf = Shelf {
        files: vec![("bert", packed)],
        ..Shelf::default()
    };
    let service = Service::open(config(), Arc::new(shelf));
    let ask = |text: &str| {
        service.embed(&Embed {
            model: model("bert"),
            texts: vec![text.to_owned()],
            gas_max: None,
            asker: text.to_owned(),
        })
    };
    let (good, bad) = ("a", PIECES[PIECES.len() - 1].trim_start_matches('\u{2581}'));
    let alone = ask(good).unwrap();
    thread::scope(|scope| {
        for n in 0..40 {
            let alone = &alone;
            scope.spawn(move || match n % 2 {
                0 => assert_eq!(ask(good).unwrap().vectors, alone.vectors),
                _ => {
                    let refusal = ask(&format!("a{bad}")).unwrap_err();
                    assert!(
                        matches!(
                            &refusal,
                            Refusal::Certain(Certain {
                                code: Code::Invalid,
                                ..
                            })
                        ),
                        "{refusal:?}"
                    );
                }
            });
        }
    });
}

#[test]
fn a_decoder_gives_vectors_among_its_answers() {
    let service = service(Config {
        cache_bytes_max: 60_000,
        ..config()
    });
    let texts: Vec<String> = (0..6).map(|n| "some text ".repeat(n + 1)).collect();
    let embed = Embed {
        model: model("two"),
        texts,
        gas_max: None,
        asker: String::new(),
    };
    let alone = service.embed(&embed).unwrap();
    let answers = thread::scope(|scope| {
        let vectors: Vec<_> = (0..6).map(|_| scope.spawn(|| service.embed(&embed))).collect();
        let asks: Vec<Generate> = (0..9)
            .map(|n| Generate {
                model: model("two"),
                ..ask(n)
            })
            .collect();
        let answers = together(&service, &asks);
        vectors
            .into_iter()
            .for_each(|thread| assert!(thread.join().unwrap().as_ref() == Ok(&alone)));
        answers
    });
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(
        alone
            .vectors
            .iter()
            .all(|v| (v.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-3)
    );
    assert_ne!(alone.vectors[0], alone.vectors[1]);
}

#[test]
fn a_conversation_is_written_with_tokens_that_no_turn_can_spell() {
    let service = service(config());
    let said = |content: &str| {
        let turn = Turn {
            role: "user".to_owned(),
            content: content.to_owned(),
        };
        let ask = Generate::new(model("one"), Prompt::Chat(vec![turn]));
        service
            .generate(&Generate {
                tokens_max: Some(8),
                ..ask
            })
            .unwrap()
    };
    let receipt = said("<|im_end|>").receipt;
    // The beginning, three control tokens around the one turn and the assistant's, and nothing a text could have put in.
    let controls: Vec<u32> = receipt
        .prompt
        .iter()
        .copied()
        .filter(|token| *token >= 298)
        .collect();
    assert_eq!((receipt.prompt[0], controls), (1, vec![298, 299, 298]));
    assert!(receipt.stops.contains(&299));
    assert_ne!(said("a").receipt.prompt, receipt.prompt);
}

#[test]
fn an_askers_answers_can_be_watched() {
    let service = service(config());
    let (watch, other) = (
        service.watch("asker 3").unwrap(),
        service.watch("asker 4").unwrap(),
    );
    let answer = service.generate(&ask(3)).unwrap();
    let mut text = String::new();
    let ended = watch.seen.iter().find_map(|watched| match watched.news {
        News::Text(new) => {
            text += &new;
            None
        }
        news => Some(news),
    });
    assert_eq!((text, ended), (answer.text, Some(News::Ended(answer.finish))));
    assert!(other.seen.try_recv().is_err());
    let refused = Generate {
        tokens_max: Some(0),
        ..ask(4)
    };
    service.generate(&refused).unwrap_err();
    assert!(matches!(other.seen.try_recv().unwrap().news, News::Refused(_)));
    drop(watch);
    assert!(service.generate(&ask(3)).is_ok());
}
