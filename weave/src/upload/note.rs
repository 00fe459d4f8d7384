//! The uploader's notes: what it decided and what it saw, each in the log before the next effect.
//!
//! Not here: what follows from them (`ledger`). The invariant: a note that is read was written whole by this version
//! or an older one; a newer one is refused. Source: spec/storage.md, "Notes".

use bytes::{Buf, BufMut, Bytes, BytesMut};
use spec::chunks::Hash;
use spec::{CarrierTags, DataItem, ItemId, Transaction};

use crate::record::{Note, NoteKind};

/// A sealed segment became a bundle.
pub const BUNDLED: NoteKind = NoteKind(0x0110);
/// A transaction or a bundler's item was signed for a bundle.
pub const SIGNED: NoteKind = NoteKind(0x0111);
/// A carrier got further, or was thrown back.
pub const MOVED: NoteKind = NoteKind(0x0112);
/// A bundler promised it.
pub const PROMISED: NoteKind = NoteKind(0x0113);
/// The version written, and the newest read.
const VERSION: u8 = 1;
/// Longest text of a note, in bytes.
const TEXT_MAX: usize = 255;

/// How a carrier gets to the weave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Route {
    /// A transaction of our own.
    L1,
    /// A bundling service of this name.
    Bundler(String),
}

impl Route {
    /// Its name in reports and notes.
    pub fn name(&self) -> &str {
        match self {
            Route::L1 => "l1",
            Route::Bundler(name) => name,
        }
    }

    fn read(text: String) -> Route {
        match &*text {
            "l1" => Route::L1,
            _ => Route::Bundler(text),
        }
    }
}

/// A sealed segment as a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundled {
    /// Counts the node's carriers, from 0.
    pub sequence: u64,
    /// Number of the segment file.
    pub segment: u64,
    /// SHA-256 of the file as it was then: withholding changes it.
    pub segment_sha256: Hash,
    /// Root of the tree over the bundle's chunks.
    pub data_root: Hash,
    /// Bytes of the bundle.
    pub bundle_len: u64,
    /// Records of the segment that are items.
    pub items: u64,
    /// The items of the bundle that the node signed: wrappers, segment item, digest item, in order.
    pub own: Vec<DataItem>,
}

impl Bundled {
    /// The segment item.
    ///
    /// # Panics
    /// Never for one that was read: it has two own items at least.
    pub fn segment_item(&self) -> ItemId {
        self.segment_data_item().id()
    }

    /// The same, whole.
    ///
    /// # Panics
    /// As [`Bundled::segment_item`].
    pub fn segment_data_item(&self) -> &DataItem {
        &self.own[self.own.len() - 2]
    }
}

/// What carries a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vehicle {
    /// A transaction whose data the bundle is.
    Transaction(Box<Transaction>),
    /// A data item whose data the bundle is: its bytes before the data.
    Item(Bytes),
}

/// A vehicle was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// For which carrier.
    pub sequence: u64,
    /// Where it goes.
    pub route: Route,
    /// The chain's height then.
    pub height: u64,
    /// What it costs, in winston.
    pub cost: u128,
    /// Its id.
    pub id: ItemId,
    /// It.
    pub vehicle: Vehicle,
}

impl Signed {
    /// The earlier carriers that a transaction names; none for an item, whose chain nothing is decided by.
    pub fn previous(&self) -> Vec<ItemId> {
        let Vehicle::Transaction(transaction) = &self.vehicle else {
            return Vec::new();
        };
        let tags = CarrierTags::read(&transaction.content.tags);
        tags.map(|tags| tags.previous).unwrap_or_default()
    }
}

/// How far a vehicle got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A peer or bundler took it.
    Posted,
    /// Enough peers took all chunks.
    Seeded,
    /// It is in a block.
    Mined,
    /// It is deep enough in the chain, and peers proved that its data is there.
    Permanent,
    /// Its data was proved again, long after.
    Archived,
    /// Its block was taken back.
    Unmined,
    /// It can never be mined any more.
    Expired,
    /// Its data is missing at all peers: it is not permanent any more.
    Lost,
}

impl Step {
    const ALL: [Step; 8] = [
        Step::Posted,
        Step::Seeded,
        Step::Mined,
        Step::Permanent,
        Step::Archived,
        Step::Unmined,
        Step::Expired,
        Step::Lost,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Step::Posted => "posted",
            Step::Seeded => "seeded",
            Step::Mined => "mined",
            Step::Permanent => "permanent",
            Step::Archived => "archived",
            Step::Unmined => "unmined",
            Step::Expired => "expired",
            Step::Lost => "lost",
        }
    }
}

/// A vehicle got further, or was thrown back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Which carrier.
    pub sequence: u64,
    /// Which vehicle.
    pub id: ItemId,
    /// How far.
    pub step: Step,
    /// The transaction in which it is mined; the vehicle itself, or the bundler's.
    pub transaction: Option<ItemId>,
    /// Height of its block, else of the chain.
    pub height: u64,
    /// The peers that said so.
    pub by: String,
}

/// A bundler's promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promised {
    /// Which carrier.
    pub sequence: u64,
    /// Which item.
    pub id: ItemId,
    /// Height by which it will be mined.
    pub deadline: u64,
    /// The receipt as it came; its signature was checked.
    pub receipt: Bytes,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// See [`BUNDLED`].
    Bundled(Bundled),
    /// See [`SIGNED`].
    Signed(Signed),
    /// See [`MOVED`].
    Moved(Moved),
    /// See [`PROMISED`].
    Promised(Promised),
}

/// Why a note cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Of a newer version.
    #[error("a note of the uploader has version {0}, this program knows {VERSION}; use a newer program")]
    Newer(u8),
    /// It breaks off, or says what none says.
    #[error("a note of the uploader is broken: its {0}")]
    Broken(&'static str),
}

type Result<T> = std::result::Result<T, Unreadable>;

impl Told {
    /// The note to write.
    pub fn encode(&self) -> Note {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        let kind = match self {
            Told::Bundled(bundled) => put_bundled(&mut out, bundled),
            Told::Signed(signed) => put_signed(&mut out, signed),
            Told::Moved(moved) => put_moved(&mut out, moved),
            Told::Promised(promised) => put_promised(&mut out, promised),
        };
        let body = out.freeze();
        Note { kind, body }
    }

    /// Reads a note; `None` if it is not the uploader's.
    ///
    /// # Errors
    /// A newer version, or a broken one.
    pub fn read(note: &Note) -> Result<Option<Told>> {
        if !(BUNDLED.0..=PROMISED.0).contains(&note.kind.0) {
            return Ok(None);
        }
        let mut from = Reader(note.body.clone());
        match from.u8("version")? {
            VERSION => {}
            newer => return Err(Unreadable::Newer(newer)),
        }
        let told = match note.kind {
            BUNDLED => Told::Bundled(from.bundled()?),
            SIGNED => Told::Signed(from.signed()?),
            MOVED => Told::Moved(from.moved()?),
            _ => Told::Promised(from.promised()?),
        };
        match from.0.is_empty() {
            true => Ok(Some(told)),
            false => Err(Unreadable::Broken("end")),
        }
    }
}

fn put_bundled(out: &mut BytesMut, bundled: &Bundled) -> NoteKind {
    assert!(bundled.own.len() >= 2, "a bundle ends in two items of the node");
    out.put_u64_le(bundled.sequence);
    out.put_u64_le(bundled.segment);
    out.put_slice(&bundled.segment_sha256);
    out.put_slice(&bundled.data_root);
    out.put_u64_le(bundled.bundle_len);
    out.put_u64_le(bundled.items);
    out.put_u32_le(u32::try_from(bundled.own.len()).expect("a segment has fewer records than 2^32"));
    for item in &bundled.own {
        put_bytes(out, item.bytes());
    }
    BUNDLED
}

fn put_signed(out: &mut BytesMut, signed: &Signed) -> NoteKind {
    out.put_u64_le(signed.sequence);
    put_text(out, signed.route.name());
    out.put_u64_le(signed.height);
    out.put_u128_le(signed.cost);
    out.put_slice(&signed.id.0);
    match &signed.vehicle {
        Vehicle::Transaction(transaction) => {
            out.put_u8(0);
            put_bytes(out, transaction.to_json(None).as_bytes());
        }
        Vehicle::Item(head) => {
            out.put_u8(1);
            put_bytes(out, head);
        }
    }
    SIGNED
}

fn put_moved(out: &mut BytesMut, moved: &Moved) -> NoteKind {
    out.put_u64_le(moved.sequence);
    out.put_slice(&moved.id.0);
    let step = Step::ALL.iter().position(|step| *step == moved.step);
    out.put_u8(step.expect("ALL holds every step") as u8);
    out.put_u8(u8::from(moved.transaction.is_some()));
    out.put_slice(moved.transaction.as_ref().map_or(&[][..], |id| &id.0));
    out.put_u64_le(moved.height);
    put_text(out, &moved.by);
    MOVED
}

fn put_promised(out: &mut BytesMut, promised: &Promised) -> NoteKind {
    out.put_u64_le(promised.sequence);
    out.put_slice(&promised.id.0);
    out.put_u64_le(promised.deadline);
    put_bytes(out, &promised.receipt);
    PROMISED
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("record_bytes_max is far below 4 GiB"));
    out.put_slice(bytes);
}

/// A text, cut to [`TEXT_MAX`] bytes.
fn put_text(out: &mut BytesMut, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_MAX)];
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

struct Reader(Bytes);

impl Reader {
    fn take(&mut self, len: usize, what: &'static str) -> Result<Bytes> {
        match len <= self.0.len() {
            true => Ok(self.0.split_to(len)),
            false => Err(Unreadable::Broken(what)),
        }
    }

    fn u8(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.take(1, what)?.get_u8())
    }

    fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(self.take(4, what)?.get_u32_le())
    }

    fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(self.take(8, what)?.get_u64_le())
    }

    fn hash(&mut self, what: &'static str) -> Result<Hash> {
        let bytes = self.take(32, what)?;
        Ok(bytes[..].try_into().expect("32 bytes were taken"))
    }

    fn bytes(&mut self, what: &'static str) -> Result<Bytes> {
        let len = self.u32(what)?;
        self.take(len as usize, what)
    }

    fn text(&mut self, what: &'static str) -> Result<String> {
        let len = self.u8(what)?;
        let bytes = self.take(len.into(), what)?;
        String::from_utf8(bytes.into()).map_err(|_| Unreadable::Broken(what))
    }

    fn bundled(&mut self) -> Result<Bundled> {
        let bundled = Bundled {
            sequence: self.u64("sequence")?,
            segment: self.u64("segment")?,
            segment_sha256: self.hash("hash")?,
            data_root: self.hash("root")?,
            bundle_len: self.u64("length")?,
            items: self.u64("items")?,
            own: self.own()?,
        };
        match bundled.own.len() >= 2 {
            true => Ok(bundled),
            false => Err(Unreadable::Broken("own items")),
        }
    }

    fn own(&mut self) -> Result<Vec<DataItem>> {
        let count = self.u32("count of items")?;
        let mut own = Vec::new();
        for _ in 0..count {
            let item = DataItem::parse(self.bytes("own item")?);
            let item = item.map_err(|_| Unreadable::Broken("own item"))?;
            item.trust_own_log();
            own.push(item);
        }
        Ok(own)
    }

    fn signed(&mut self) -> Result<Signed> {
        Ok(Signed {
            sequence: self.u64("sequence")?,
            route: Route::read(self.text("route")?),
            height: self.u64("height")?,
            cost: self.take(16, "cost")?.get_u128_le(),
            id: ItemId(self.hash("id")?),
            vehicle: self.vehicle()?,
        })
    }

    fn vehicle(&mut self) -> Result<Vehicle> {
        let (kind, bytes) = (self.u8("vehicle")?, self.bytes("vehicle")?);
        match kind {
            0 => {
                let read = Transaction::from_json(&bytes).map_err(|_| Unreadable::Broken("transaction"))?;
                Ok(Vehicle::Transaction(Box::new(read.0)))
            }
            1 => Ok(Vehicle::Item(bytes)),
            _ => Err(Unreadable::Broken("vehicle")),
        }
    }

    fn moved(&mut self) -> Result<Moved> {
        let (sequence, id) = (self.u64("sequence")?, ItemId(self.hash("id")?));
        let step = Step::ALL.get(usize::from(self.u8("step")?)).copied();
        let step = step.ok_or(Unreadable::Broken("step"))?;
        let transaction = match self.u8("transaction")? {
            0 => None,
            _ => Some(ItemId(self.hash("transaction")?)),
        };
        Ok(Moved {
            sequence,
            id,
            step,
            transaction,
            height: self.u64("height")?,
            by: self.text("peers")?,
        })
    }

    fn promised(&mut self) -> Result<Promised> {
        Ok(Promised {
            sequence: self.u64("sequence")?,
            id: ItemId(self.hash("id")?),
            deadline: self.u64("deadline")?,
            receipt: self.bytes("receipt")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use spec::transaction::Content;
    use spec::{ItemParts, Signer};

    use super::*;

    fn all() -> Vec<Told> {
        let item = DataItem::sign(&ItemParts::default(), &Signer::ed25519(&[1; 32])).expect("signed");
        let wallet = Signer::ethereum(&[2; 32]).expect("a key");
        let transaction = Content::carrying(b"data").sign(&wallet).expect("signed");
        let signed = |id, route, vehicle| Signed {
            sequence: 7,
            route,
            height: 9,
            cost: 1 << 70,
            id,
            vehicle,
        };
        let moved = |step| Moved {
            sequence: 7,
            id: transaction.id,
            step,
            transaction: (step == Step::Mined).then_some(transaction.id),
            height: 3,
            by: "a, b".into(),
        };
        let mut all = vec![
            Told::Bundled(Bundled {
                sequence: 7,
                segment: 4,
                segment_sha256: [1; 32],
                data_root: [2; 32],
                bundle_len: 1000,
                items: 3,
                own: vec![item.clone(), item.clone()],
            }),
            Told::Signed(signed(
                transaction.id,
                Route::L1,
                Vehicle::Transaction(Box::new(transaction.clone())),
            )),
            Told::Signed(signed(
                item.id(),
                Route::Bundler("b".into()),
                Vehicle::Item(item.bytes().clone()),
            )),
            Told::Promised(Promised {
                sequence: 7,
                id: item.id(),
                deadline: 200,
                receipt: Bytes::from_static(b"{}"),
            }),
        ];
        all.extend(Step::ALL.map(|step| Told::Moved(moved(step))));
        all
    }

    #[test]
    fn every_note_reads_back_and_every_cut_or_newer_one_is_refused() {
        for told in all() {
            let note = told.encode();
            assert_eq!(Told::read(&note), Ok(Some(told)));
            for len in 0..note.body.len() {
                let (kind, body) = (note.kind, note.body.slice(..len));
                assert!(Told::read(&Note { kind, body }).is_err(), "cut at {len}");
            }
            let mut longer = note.body.to_vec();
            longer.push(0);
            let body = longer.clone().into();
            assert!(
                Told::read(&Note {
                    kind: note.kind,
                    body
                })
                .is_err()
            );
            longer[0] = VERSION + 1;
            let (kind, body) = (note.kind, longer.into());
            assert_eq!(
                Told::read(&Note { kind, body }),
                Err(Unreadable::Newer(VERSION + 1))
            );
        }
        let (kind, body) = (NoteKind(0x0200), Bytes::new());
        assert_eq!(Told::read(&Note { kind, body }), Ok(None));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let by = "é".repeat(200);
        let moved = Moved {
            sequence: 0,
            id: ItemId([0; 32]),
            step: Step::Posted,
            transaction: None,
            height: 0,
            by,
        };
        let Ok(Some(Told::Moved(read))) = Told::read(&Told::Moved(moved).encode()) else {
            panic!("a note of its kind")
        };
        assert_eq!(read.by, "é".repeat(127));
    }
}
