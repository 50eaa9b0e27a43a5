//! Values for the fields of messages: counted up, so that no two fields of a message look alike,
//! or drawn from a seed.

use std::borrow::Cow;

use ottla_protocol::{AnyMessage, Records};
use ottla_record::Uuid;

/// One message of the generated list.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The message with a value for each field of the version, defaults for the rest.
    pub(crate) fill: fn(&mut Values, i16) -> Box<dyn AnyMessage>,
    pub(crate) default: fn() -> Box<dyn AnyMessage>,
}

/// A type that can be given a value.
pub(crate) trait Fill: Sized {
    fn fill(values: &mut Values, version: i16) -> Self;
}

/// A source of values.
pub(crate) struct Values {
    state: u64,
    drawn: bool,
    /// How many arrays are around the value.
    depth: u32,
}

impl Values {
    /// Numbers in sequence, every option some, two elements in outer arrays and one in inner ones.
    pub(crate) fn counted() -> Self {
        Self { state: 0, drawn: false, depth: 0 }
    }

    /// Anything at all, extremes and nulls included, the same for the same seed.
    #[allow(dead_code, reason = "the oracle counts only")]
    pub(crate) fn drawn(seed: u64) -> Self {
        Self { state: seed, drawn: true, depth: 0 }
    }

    pub(crate) fn next<T: Fill>(&mut self, version: i16) -> T {
        T::fill(self, version)
    }

    pub(crate) fn option<T: Fill>(&mut self, nullable: bool, version: i16) -> Option<T> {
        if nullable && self.drawn && self.number().is_multiple_of(3) {
            None
        } else {
            Some(self.next(version))
        }
    }

    /// The next number; all 64 bits count when drawn.
    pub(crate) fn number(&mut self) -> u64 {
        if !self.drawn {
            self.state += 1;
            return self.state;
        }
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A length that when drawn is mostly small, and now and then needs two bytes as a varint.
    fn len(&mut self, counted: usize) -> usize {
        match self.drawn.then(|| self.number() % 32) {
            None => counted,
            Some(0) => 200,
            Some(n) => n as usize % 9,
        }
    }
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(impl Fill for $type {
            fn fill(values: &mut Values, _: i16) -> Self {
                values.number() as Self
            }
        })*
    };
}

integers!(i8 i16 u16 i32 u32 i64);

impl Fill for f64 {
    fn fill(values: &mut Values, _: i16) -> Self {
        values.number() as i32 as Self / 4.0
    }
}

impl Fill for bool {
    fn fill(values: &mut Values, _: i16) -> Self {
        values.number() % 2 == 1
    }
}

impl Fill for Uuid {
    fn fill(values: &mut Values, _: i16) -> Self {
        Self(std::array::from_fn(|_| values.number() as u8))
    }
}

impl Fill for Cow<'static, str> {
    fn fill(values: &mut Values, _: i16) -> Self {
        let n = values.number();
        if !values.drawn {
            return format!("s{n}").into();
        }
        let len = values.len(0);
        (0..len).map(|_| ['a', '-', 'ä', '龍', '\0'][values.number() as usize % 5]).collect()
    }
}

impl Fill for Cow<'static, [u8]> {
    fn fill(values: &mut Values, _: i16) -> Self {
        let len = values.len(2);
        (0..len).map(|_| values.number() as u8).collect()
    }
}

impl Fill for Records<'static> {
    fn fill(values: &mut Values, version: i16) -> Self {
        Self::Bytes(values.next(version))
    }
}

impl<T: Fill> Fill for Vec<T> {
    fn fill(values: &mut Values, version: i16) -> Self {
        let len = match (values.drawn, values.depth) {
            (false, 0) => 2,
            (false, _) => 1,
            (true, depth) => (values.number() % 4).saturating_sub(u64::from(depth / 2)) as usize,
        };
        values.depth += 1;
        let elements = (0..len).map(|_| values.next(version)).collect();
        values.depth -= 1;
        elements
    }
}
