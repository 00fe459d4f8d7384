//! The outbox against its vector, which was written by hand from the protocol's pages.

use mu::Config;
use mu::delivery::{CronPlace, Place, What};
use mu::lineage::Lineage;
use mu::outbox::{self, Evaluation, Outbox, Sender};
use serde::Deserialize;
use spec::{DataItem, ItemId, Outcome, ProcessId, Signer};

#[derive(Deserialize)]
struct Case {
    case: String,
    seed_hex: String,
    process: ProcessId,
    module: String,
    scheduler: String,
    slot: u64,
    cron: Option<CronPlace>,
    cause: Option<Cause>,
    outcome: Outcome,
    items: Vec<Item>,
    notes: Vec<u32>,
}

#[derive(Deserialize)]
struct Cause {
    root: Option<ItemId>,
    origin: ItemId,
    depth: u32,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Item {
    target: Option<ItemId>,
    anchor: Option<String>,
    data: String,
    tags: Vec<(String, String)>,
}

impl Item {
    fn of(item: &DataItem) -> Item {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Item {
            target: item.target().map(|target| ItemId(*target)),
            anchor: item.anchor().map(|anchor| text(anchor)),
            data: text(&item.data()),
            tags: item
                .tags()
                .iter()
                .map(|tag| (text(&tag.name), text(&tag.value)))
                .collect(),
        }
    }
}

fn build(case: &Case) -> Outbox {
    assert_eq!(case.seed_hex, "09".repeat(32));
    let sender = Sender {
        process: case.process,
        module: case.module.clone(),
        scheduler: case.scheduler.clone(),
    };
    let place = Place {
        slot: case.slot,
        cron: case.cron.clone(),
    };
    let cause = case.cause.as_ref().map(|c| Lineage {
        root: c.root,
        origin: c.origin,
        depth: c.depth,
    });
    let evaluation = Evaluation {
        sender: &sender,
        place: &place,
        cause: cause.as_ref(),
        outcome: &case.outcome,
    };
    outbox::build(&evaluation, &Signer::ed25519(&[9; 32]), &Config::default())
}

fn items(outbox: &Outbox) -> Vec<DataItem> {
    let item = |what: &What| match what {
        What::Message { item, .. } | What::Spawn { item } => Some(item.clone()),
        What::Assign(_) => None,
    };
    outbox
        .deliveries
        .iter()
        .filter_map(|delivery| item(&delivery.what))
        .collect()
}

#[test]
fn the_vector_holds_and_ids_are_reproducible() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../spec/vectors/outbox.json")).unwrap();
    assert_eq!(cases.len(), 3);
    for case in &cases {
        let (first, second) = (build(case), build(case));
        let (first_items, second_items) = (items(&first), items(&second));
        let contents: Vec<_> = first_items.iter().map(Item::of).collect();
        assert_eq!(contents, case.items, "{}", case.case);
        let ids = |items: &[DataItem]| items.iter().map(DataItem::id).collect::<Vec<_>>();
        assert_eq!(ids(&first_items), ids(&second_items), "{}", case.case);
        assert_eq!(
            first.notes.iter().map(|note| note.index).collect::<Vec<_>>(),
            case.notes,
            "{}",
            case.case
        );
        for item in &first_items {
            assert!(DataItem::parse_verified(item.bytes().clone()).is_ok());
        }
    }
}

#[test]
fn a_spawn_with_as_many_tags_as_fit_still_gets_its_reply() {
    let tags = (0..100).map(|n| spec::Tag::new(format!("Custom-{n}"), "x".repeat(29)));
    let tags = [("Reference", "5"), ("From-Slot", "1.0")]
        .map(|(n, v)| spec::Tag::new(n, v))
        .into_iter()
        .chain(tags);
    let parts = spec::ItemParts {
        tags: tags.collect(),
        ..Default::default()
    };
    let key = Signer::ed25519(&[9; 32]);
    let spawn = DataItem::sign(&parts, &key).unwrap();
    let reply = outbox::spawned_reply(&spawn, ProcessId([1; 32]), &key).unwrap();
    assert_eq!((reply.tag("Reference"), reply.tag("Custom-1")), (Some("5"), None));
    assert_eq!(reply.tag("Process"), Some(spawn.id().to_string().as_str()));
}
