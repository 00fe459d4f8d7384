//! A decoder with its cache: sequences of tokens that grow, fork and end, evaluated together.
//!
//! Not here: choosing tokens, fairness between askers. Invariant: what a sequence gets depends on its own tokens alone;
//! how its tokens were cut into calls, and who shared them, never shows.

use std::borrow::Borrow;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::backend::{Backend, Batch, PAGE, Place};
use crate::decoder::Decoder;
use crate::error::Error;

/// Rows that one pass evaluates at most; longer batches are cut.
pub const ROWS_MAX: usize = 256;

/// A model that can be asked.
pub struct Engine<B: Backend> {
    decoder: Decoder<B>,
    cache: B::Cache,
    pages: Pages,
}

/// Tokens that have been evaluated, and the pages that hold their keys and values. Give it back with
/// [`Engine::end`]; pages of a dropped sequence are lost until the engine is.
#[derive(Debug, Default)]
pub struct Sequence {
    tokens: Vec<u32>,
    table: Vec<u32>,
}

impl Sequence {
    /// The tokens evaluated so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

/// What one sequence has in a step.
#[derive(Debug)]
pub struct Part<'a> {
    /// The sequence.
    pub sequence: &'a mut Sequence,
    /// Its new tokens.
    pub new: &'a [u32],
    /// The logits it wants.
    pub wanted: Wanted,
}

/// Which logits a call gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None.
    None,
    /// Those after the last new token of each sequence.
    Last,
    /// Those after every new token.
    All,
}

/// The logits after one token. Those of a pass lie together in memory, which goes when the last of them does.
#[derive(Debug, Clone)]
pub struct Logits {
    all: Arc<Vec<f32>>,
    own: Range<usize>,
}

impl Logits {
    /// Each run of `vocabulary` numbers.
    fn each(values: Vec<f32>, vocabulary: usize) -> impl Iterator<Item = Logits> {
        let all = Arc::new(values);
        (0..all.len() / vocabulary).map(move |at| Logits {
            all: Arc::clone(&all),
            own: at * vocabulary..(at + 1) * vocabulary,
        })
    }
}

impl Deref for Logits {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.all[self.own.clone()]
    }
}

impl Borrow<[f32]> for Logits {
    fn borrow(&self) -> &[f32] {
        self
    }
}

/// Which pages are free, and how many sequences use the others.
#[derive(Debug)]
struct Pages {
    free: Vec<u32>,
    uses: Vec<u32>,
}

impl Pages {
    fn new(count: usize) -> Pages {
        Pages {
            free: (0..count as u32).rev().collect(),
            uses: vec![0; count],
        }
    }

    fn take(&mut self) -> u32 {
        let page = self.free.pop().expect("the caller has counted the free pages");
        assert_eq!(self.uses[page as usize], 0);
        self.uses[page as usize] = 1;
        page
    }

    fn give(&mut self, page: u32) {
        let uses = &mut self.uses[page as usize];
        *uses = uses.checked_sub(1).expect("a page is given back once per use");
        if *uses == 0 {
            self.free.push(page);
        }
    }
}

impl<B: Backend> Engine<B> {
    /// An engine whose cache holds that many positions of all sequences together.
    ///
    /// # Errors
    /// The device has no room.
    pub fn new(decoder: Decoder<B>, positions: usize) -> Result<Engine<B>, Error> {
        let pages = positions.div_ceil(PAGE).max(1);
        let cache = decoder.backend().cache(decoder.cache_shape(pages))?;
        Ok(Engine {
            decoder,
            cache,
            pages: Pages::new(pages),
        })
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder<B> {
        &self.decoder
    }

    /// Positions that no sequence holds.
    pub fn free(&self) -> usize {
        self.pages.free.len() * PAGE
    }

    /// Evaluates new tokens of several sequences together; gives the logits wanted, sequence by sequence.
    ///
    /// # Errors
    /// A token outside the vocabulary, a sequence past its limit, or a cache without room: nothing has changed then.
    /// A device that failed: the sequences are then worth nothing and must be ended.
    pub fn extend(
        &mut self,
        sequences: &mut [(&mut Sequence, &[u32])],
        wanted: Wanted,
    ) -> Result<Vec<Vec<Logits>>, Error> {
        let part = |(sequence, new)| Part {
            sequence,
            new,
            wanted,
        };
        let parts = sequences
            .iter_mut()
            .map(|(sequence, new)| (&mut **sequence, *new));
        self.step(&mut parts.map(part).collect::<Vec<_>>())
    }

    /// As [`Engine::extend`], each sequence with the logits it wants.
    ///
    /// # Errors
    /// As [`Engine::extend`].
    pub fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<Logits>>, Error> {
        let rows = self.place(parts)?;
        let tables = parts.iter().map(|part| part.sequence.table.clone()).collect();
        self.evaluate(
            &rows,
            Batch {
                places: vec![],
                tables,
            },
        )
    }

    /// The normed last layer of every token of a text that stands alone, one after the other.
    ///
    /// # Errors
    /// As [`Engine::extend`]. Nothing is held afterwards.
    pub fn states(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let (mut sequence, mut states) = (Sequence::default(), vec![]);
        let part = Part {
            sequence: &mut sequence,
            new: tokens,
            wanted: Wanted::None,
        };
        let rows = self.place(&mut [part])?;
        let mut batch = Batch {
            places: vec![],
            tables: vec![sequence.table.clone()],
        };
        let mut result = Ok(());
        for rows in rows.chunks(ROWS_MAX) {
            batch.places = rows.iter().map(|row| row.1).collect();
            let tokens: Vec<u32> = rows.iter().map(|row| row.0).collect();
            let given = self.decoder.states(&mut self.cache, &tokens, &batch);
            match given {
                Ok(given) => states.extend(given),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.end(sequence);
        result.map(|()| states)
    }

    /// Gives new tokens their pages and places: a row each, with whether its logits are wanted.
    fn place(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<(u32, Place, bool)>, Error> {
        self.admit(parts)?;
        let mut rows = vec![];
        for (index, part) in parts.iter_mut().enumerate() {
            let (sequence, new, wanted) = (&mut *part.sequence, part.new, part.wanted);
            let start = sequence.tokens.len();
            let pages = (start + new.len()).div_ceil(PAGE) - sequence.table.len();
            sequence.table.extend((0..pages).map(|_| self.pages.take()));
            sequence.tokens.extend(new);
            for (at, token) in new.iter().enumerate() {
                let position = (start + at) as u32;
                let place = Place {
                    sequence: index as u32,
                    position,
                    from: 0,
                    to: position + 1,
                };
                let last = at + 1 == new.len();
                let gives = wanted == Wanted::All || wanted == Wanted::Last && last;
                rows.push((*token, place, gives));
            }
        }
        Ok(rows)
    }

    fn evaluate(&mut self, rows: &[(u32, Place, bool)], mut batch: Batch) -> Result<Vec<Vec<Logits>>, Error> {
        let mut logits = vec![vec![]; batch.tables.len()];
        for rows in rows.chunks(ROWS_MAX) {
            batch.places = rows.iter().map(|row| row.1).collect();
            let tokens: Vec<u32> = rows.iter().map(|row| row.0).collect();
            let wanted: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].2).collect();
            let values = self.decoder.forward(&mut self.cache, &tokens, &batch, &wanted)?;
            for (at, values) in wanted
                .iter()
                .zip(Logits::each(values, self.decoder.model().vocabulary))
            {
                logits[batch.places[*at].sequence as usize].push(values);
            }
        }
        Ok(logits)
    }

    fn admit(&self, parts: &[Part<'_>]) -> Result<(), Error> {
        let (vocabulary, positions) = (self.decoder.model().vocabulary, self.decoder.positions());
        let mut pages = 0;
        for Part { sequence, new, .. } in parts {
            if let Some(token) = new.iter().find(|token| **token as usize >= vocabulary) {
                return Err(Error::Invalid(format!(
                    "token {token} of a vocabulary of {vocabulary}"
                )));
            }
            let length = sequence.tokens.len() + new.len();
            if length > positions {
                let (actual, limit) = (length as u64, positions as u64);
                return Err(Error::Limit {
                    what: "a sequence's length in tokens",
                    actual,
                    limit,
                });
            }
            pages += length.div_ceil(PAGE) - sequence.table.len();
        }
        match pages <= self.pages.free.len() {
            true => Ok(()),
            false => Err(Error::Limit {
                what: "the cache, in pages",
                actual: pages as u64,
                limit: self.pages.free.len() as u64,
            }),
        }
    }

    /// A sequence that begins as another did, up to `length` tokens; whole pages are shared, so it may be shorter.
    pub fn fork(&mut self, sequence: &Sequence, length: usize) -> Sequence {
        let pages = length.min(sequence.tokens.len()) / PAGE;
        let table = sequence.table[..pages].to_vec();
        for page in &table {
            self.pages.uses[*page as usize] += 1;
        }
        Sequence {
            tokens: sequence.tokens[..pages * PAGE].to_vec(),
            table,
        }
    }

    /// Gives a sequence's pages back.
    pub fn end(&mut self, sequence: Sequence) {
        for page in sequence.table {
            self.pages.give(page);
        }
    }
}
