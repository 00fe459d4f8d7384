//! The proof file: one way to write a proof, and reading what anybody may have written.
//!
//! Pure. The invariant: what decodes encodes to the same bytes, and every byte is under the checksum at the end.
//! Source: spec/proof.md, "The file".

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    At, BlockClaim, Body, Carried, Member, Place, Proof, Refused, Result, Stretch, Tail, refuse, refused,
};
use crate::chunks::{Hash, sha256};
use crate::digest::PATH_MAX;
use crate::item::DataItem;
use crate::midstate::{Sha256, Sha384};
use crate::placement::BlockPlace;
use crate::transaction::Transaction;
use crate::withheld::Withheld;

/// First bytes of the file.
pub const MAGIC: &[u8; 8] = b"WEFTPRF\n";
/// The version written, and the newest read.
pub const VERSION: u32 = 1;
/// Longest file that is read: a whole proof of a large item has all its chunks.
pub const FILE_LEN_MAX: usize = 256 << 20;
/// Most stretches.
const STRETCHES_MAX: usize = 1024;
/// Longest hash of a block.
const BLOCK_HASH_LEN_MAX: usize = 64;
/// Bytes of the checksum.
const SUM_LEN: usize = 32;

impl Proof {
    /// The file's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::from(&MAGIC[..]);
        out.put_u32_le(VERSION);
        put_member(&mut out, &self.subject);
        for member in [&self.assignment, &self.previous, &self.next] {
            put_option(&mut out, member.as_ref(), put_member);
        }
        put_option(&mut out, self.digest.as_ref(), |out, item| {
            put_blob(out, item.bytes());
        });
        put_carrier(&mut out, &self.carrier);
        put_option(&mut out, self.place.as_ref(), put_place);
        let sum = sha256(&[&out]);
        out.put_slice(&sum);
        out.freeze()
    }

    /// Reads a file. Only its form is checked: see [`Proof::verify`] and [`Proof::read_verified`].
    ///
    /// # Errors
    /// Names the part that cannot be read.
    pub fn decode(bytes: &Bytes) -> Result<Proof> {
        let mut reader = Reader::begin(bytes)?;
        let proof = Proof {
            subject: reader.at(super::SUBJECT).member()?,
            assignment: reader.at(super::ASSIGNMENT).option(Reader::member)?,
            previous: reader.at(super::PREVIOUS).option(Reader::member)?,
            next: reader.at(super::NEXT).option(Reader::member)?,
            digest: reader.at(super::DIGEST).option(Reader::item)?,
            carrier: reader.at(super::CARRIER).carrier()?,
            place: reader.at(super::PLACE).option(Reader::place)?,
        };
        match reader.bytes.len() - reader.at {
            SUM_LEN => Ok(proof),
            _ => refuse("the file", "bytes follow the proof, or its checksum is cut off"),
        }
    }

    /// Reads and verifies. What the parts show comes first, so that a broken one is named; then the checksum over all.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn read_verified(bytes: &Bytes) -> Result<(Proof, super::Shown)> {
        let proof = Proof::decode(bytes)?;
        let shown = proof.verify()?;
        let (body, sum) = bytes.split_at(bytes.len() - SUM_LEN);
        match sha256(&[body])[..] == *sum {
            true => Ok((proof, shown)),
            false => refuse(
                "the file's checksum",
                "it is not that of the file: the block's fields, or the checksum itself, were altered",
            ),
        }
    }
}

fn put_option<T>(out: &mut BytesMut, value: Option<&T>, put: impl FnOnce(&mut BytesMut, &T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_blob(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("parts of a proof are below 4 GiB"));
    out.put_slice(bytes);
}

fn put_member(out: &mut BytesMut, member: &Member) {
    let (form, bytes) = match &member.body {
        Body::Whole(item) => (0, item.bytes().clone()),
        Body::Head(head) => (1, head.encode()),
        Body::Wrapper(item) => (2, item.bytes().clone()),
    };
    out.put_u8(form);
    put_blob(out, &bytes);
    put_option(out, member.at.as_ref(), |out, at| {
        out.put_u64_le(at.offset);
        put_option(out, at.path.as_ref(), |out, (index, path)| {
            out.put_u64_le(*index);
            assert!(path.len() <= PATH_MAX, "no tree is that high");
            out.put_u8(path.len() as u8);
            path.iter().for_each(|hash| out.put_slice(hash));
        });
    });
}

/// The header as the network writes it, and the account: a secp256k1 key does not travel, and any content with any
/// signature tells some key.
fn put_transaction(out: &mut BytesMut, transaction: &Transaction) {
    put_blob(out, transaction.to_json(None).as_bytes());
    out.put_slice(transaction.owner.address().bytes());
}

fn put_carrier(out: &mut BytesMut, carrier: &Carried) {
    match carrier {
        Carried::Transaction(transaction) => {
            out.put_u8(0);
            put_transaction(out, transaction);
        }
        Carried::Item { item, tail } => {
            out.put_u8(1);
            put_blob(out, &item.encode());
            out.put_u64_le(tail.before);
            out.put_slice(&tail.state.bytes());
            put_blob(out, &tail.bytes);
        }
    }
}

fn put_place(out: &mut BytesMut, place: &Place) {
    put_option(out, place.transaction.as_ref(), put_transaction);
    out.put_u64_le(place.base);
    assert!(place.stretches.len() <= STRETCHES_MAX, "makers keep to the limit");
    out.put_u32_le(place.stretches.len() as u32);
    for stretch in &place.stretches {
        out.put_u64_le(stretch.chunk_start);
        out.put_u32_le(stretch.skipped);
        out.put_slice(&stretch.state.bytes());
        put_blob(out, &stretch.data_path);
        put_blob(out, &stretch.bytes);
    }
    put_blob(out, &place.tx_path);
    out.put_u64_le(place.end);
    out.put_u64_le(place.block.height);
    put_blob(out, &place.block.hash);
    out.put_slice(&place.block.place.tx_root);
    out.put_u64_le(place.block.place.start);
    out.put_u64_le(place.block.place.end);
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    place: &'static str,
}

impl<'a> Reader<'a> {
    fn begin(bytes: &'a Bytes) -> Result<Reader<'a>> {
        let mut reader = Reader {
            bytes,
            at: 0,
            place: "the file",
        };
        if bytes.len() > FILE_LEN_MAX {
            return refuse(reader.place, "longer than 256 MiB");
        }
        if reader.take(MAGIC.len())? != MAGIC[..] {
            return refuse(reader.place, "it does not begin as a proof file does");
        }
        match reader.u32()? {
            VERSION => Ok(reader),
            other => refuse(
                reader.place,
                format!("it is of version {other}, this program knows {VERSION}; use a newer program"),
            ),
        }
    }

    fn at(&mut self, place: &'static str) -> &mut Reader<'a> {
        self.place = place;
        self
    }

    fn error(&self, why: impl ToString) -> Refused {
        refused(self.place, why)
    }

    fn take(&mut self, len: usize) -> Result<Bytes> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("the bytes end in the middle of it"))?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        Ok(*taken.first_chunk().expect("as many as were taken"))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn blob(&mut self) -> Result<Bytes> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Reader<'a>) -> Result<T>) -> Result<Option<T>> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.error("a presence byte is neither 0 nor 1")),
        }
    }

    fn item(&mut self) -> Result<DataItem> {
        let bytes = self.blob()?;
        DataItem::parse(bytes).map_err(|error| self.error(error))
    }

    fn head(&mut self) -> Result<Withheld> {
        let bytes = self.blob()?;
        Withheld::decode(&bytes).map_err(|error| self.error(error))
    }

    fn member(&mut self) -> Result<Member> {
        let body = match self.u8()? {
            0 => Body::Whole(self.item()?),
            1 => Body::Head(self.head()?),
            2 => Body::Wrapper(self.item()?),
            _ => return Err(self.error("its form is none of 0, 1 and 2")),
        };
        let at = self.option(|reader| {
            Ok(At {
                offset: reader.u64()?,
                path: reader.option(Reader::path)?,
            })
        })?;
        Ok(Member { body, at })
    }

    fn path(&mut self) -> Result<(u64, Vec<Hash>)> {
        let index = self.u64()?;
        let len = usize::from(self.u8()?);
        if len > PATH_MAX {
            return Err(self.error("its path is longer than any tree is high"));
        }
        let hashes = (0..len).map(|_| self.array());
        Ok((index, hashes.collect::<Result<_>>()?))
    }

    fn transaction(&mut self) -> Result<Transaction> {
        let json = self.blob()?;
        let (transaction, _) = Transaction::from_json(&json).map_err(|error| self.error(error))?;
        // Another spelling of the same transaction would be a second file of one proof.
        if transaction.to_json(None).as_bytes() != json {
            return Err(self.error("the transaction is not spelt in its one way"));
        }
        match self.array()? == transaction.owner.address().0 {
            true => Ok(transaction),
            false => Err(self.error("its signature is another account's than the one beside it")),
        }
    }

    fn carrier(&mut self) -> Result<Carried> {
        match self.u8()? {
            0 => self.transaction().map(Carried::Transaction),
            1 => Ok(Carried::Item {
                item: self.head()?,
                tail: Tail {
                    before: self.u64()?,
                    state: Sha384::from_bytes(&self.array()?),
                    bytes: self.blob()?,
                },
            }),
            _ => Err(self.error("its kind is neither 0 nor 1")),
        }
    }

    fn stretch(&mut self) -> Result<Stretch> {
        Ok(Stretch {
            chunk_start: self.u64()?,
            skipped: self.u32()?,
            state: Sha256::from_bytes(&self.array()?),
            data_path: self.blob()?,
            bytes: self.blob()?,
        })
    }

    fn place(&mut self) -> Result<Place> {
        let transaction = self.option(Reader::transaction)?;
        let base = self.u64()?;
        let count = self.u32()? as usize;
        if count > STRETCHES_MAX {
            return Err(self.error("more than 1,024 stretches"));
        }
        let stretches = (0..count).map(|_| self.stretch()).collect::<Result<_>>()?;
        let (tx_path, end, height, hash) = (self.blob()?, self.u64()?, self.u64()?, self.blob()?);
        if hash.len() > BLOCK_HASH_LEN_MAX {
            return Err(self.error("a block's hash has up to 64 bytes"));
        }
        let place = BlockPlace {
            tx_root: self.array()?,
            start: self.u64()?,
            end: self.u64()?,
        };
        Ok(Place {
            transaction,
            base,
            stretches,
            tx_path,
            end,
            block: BlockClaim { height, hash, place },
        })
    }
}
