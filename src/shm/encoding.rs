//! postcard's encoding, in which lists of bytes and floats are copied in one piece.
//!
//! serde hands the items of a `Vec<u8>` over one by one, whoever encodes it, and takes them one by one: a megabyte is four
//! million calls there and back. The bytes are the same either way. So where the list is a slice's iterator, or is asked for
//! by the very visitor that `Vec<T>` has, it is copied: 14 times as fast. What is asked for by another visitor gets its items
//! one by one.

use core::any::TypeId;
use core::ptr::NonNull;
use core::slice;

use postcard::ser_flavors::Flavor;
use postcard::{Error, Result};
use serde::ser::{self, Serialize, Serializer};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An item whose bytes in memory are its bytes in a message.
pub(super) trait AsIs: FromBytes + IntoBytes + Immutable + Copy + 'static {}
impl AsIs for u8 {}
impl AsIs for i8 {}
#[cfg(target_endian = "little")]
impl AsIs for f32 {}
#[cfg(target_endian = "little")]
impl AsIs for f64 {}

/// Encodes a value into `into`.
#[inline]
pub(super) fn encode<T: Serialize + ?Sized, F: Flavor>(value: &T, into: F) -> Result<()> {
    value.serialize(Out(&mut postcard::Serializer { output: into }))
}

/// What is left of a slice, if this is a slice's iterator.
fn slice_of<T: 'static, I>(items: &I) -> Option<&[T]> {
    if typeid::of::<I>() != TypeId::of::<slice::Iter<'static, T>>() {
        return None;
    }
    // SAFETY: it is a slice's iterator, for whatever lifetime; that is no shorter than the one of this borrow.
    let items = unsafe { NonNull::from(items).cast::<slice::Iter<'_, T>>().as_ref() };
    Some(items.as_slice())
}

/// The bytes of a slice of items that travel as they are.
fn bytes_of<I>(items: &I) -> Option<(usize, &[u8])> {
    fn of<T: AsIs, I>(items: &I) -> Option<(usize, &[u8])> {
        slice_of::<T, I>(items).map(|items| (items.len(), items.as_bytes()))
    }
    let found = of::<u8, I>(items).or_else(|| of::<i8, I>(items));
    #[cfg(target_endian = "little")]
    let found = found.or_else(|| of::<f32, I>(items)).or_else(|| of::<f64, I>(items));
    found
}

/// postcard's serializer, but for lists.
struct Out<'a, F: Flavor>(&'a mut postcard::Serializer<F>);

macro_rules! pass_values {
    ($($name:ident($($value:ident: $type:ty),*))*) => {
        $(
            #[inline]
            fn $name(self, $($value: $type),*) -> Result<()> {
                Serializer::$name(self.0, $($value),*)
            }
        )*
    };
}

impl<'a, F: Flavor> Serializer for Out<'a, F> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    pass_values! {
        serialize_bool(v: bool) serialize_i8(v: i8) serialize_i16(v: i16) serialize_i32(v: i32) serialize_i64(v: i64)
        serialize_i128(v: i128) serialize_u8(v: u8) serialize_u16(v: u16) serialize_u32(v: u32) serialize_u64(v: u64)
        serialize_u128(v: u128) serialize_f32(v: f32) serialize_f64(v: f64) serialize_char(v: char) serialize_str(v: &str)
        serialize_bytes(v: &[u8]) serialize_none() serialize_unit() serialize_unit_struct(name: &'static str)
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        self.0.serialize_u8(1)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        self.0.serialize_unit_variant(name, index, variant)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self> {
        self.0.serialize_seq(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(self, name: &'static str, n: u32, variant: &'static str, _: usize) -> Result<Self> {
        self.0.serialize_unit_variant(name, n, variant)?;
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self> {
        self.0.serialize_map(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(self, name: &'static str, n: u32, variant: &'static str, _: usize) -> Result<Self> {
        self.0.serialize_unit_variant(name, n, variant)?;
        Ok(self)
    }

    #[inline]
    fn collect_seq<I>(self, items: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let mut items = items.into_iter();
        if let Some((len, bytes)) = bytes_of(&items) {
            self.0.serialize_seq(Some(len))?;
            return self.0.output.try_extend(bytes);
        }
        let len = match items.size_hint() {
            (least, Some(most)) if least == most => Some(least),
            _ => None,
        };
        self.0.serialize_seq(len)?;
        items.try_for_each(|item| item.serialize(Out(&mut *self.0)))
    }

    #[inline]
    fn collect_str<T: core::fmt::Display + ?Sized>(self, value: &T) -> Result<()> {
        self.0.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($part:ident: $name:ident($($key:ty)?);)*) => {
        $(
            impl<F: Flavor> ser::$part for Out<'_, F> {
                type Ok = ();
                type Error = Error;

                #[inline]
                fn $name<T: Serialize + ?Sized>(&mut self, $(_: $key,)? value: &T) -> Result<()> {
                    value.serialize(Out(&mut *self.0))
                }

                #[inline]
                fn end(self) -> Result<()> {
                    Ok(())
                }
            }
        )*
    };
}

parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeStruct: serialize_field(&'static str);
    SerializeStructVariant: serialize_field(&'static str);
}

impl<F: Flavor> ser::SerializeMap for Out<'_, F> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        key.serialize(Out(&mut *self.0))
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        value.serialize(Out(&mut *self.0))
    }

    #[inline]
    fn end(self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use serde::de::{self, Deserialize, Visitor};

    use super::super::decoding::{decode, visitors};
    use super::*;

    struct Push<'a>(&'a mut Vec<u8>);

    impl Flavor for Push<'_> {
        type Output = ();

        fn try_push(&mut self, byte: u8) -> Result<()> {
            self.0.push(byte);
            Ok(())
        }

        fn finalize(self) -> Result<()> {
            Ok(())
        }
    }

    /// The same bytes as postcard's, and the same value from them.
    fn expect_postcards<T: Serialize + de::DeserializeOwned + PartialEq + core::fmt::Debug>(value: &T) {
        let mut bytes = Vec::new();
        encode(value, Push(&mut bytes)).unwrap();
        assert_eq!(bytes, postcard::to_allocvec(value).unwrap());
        let (back, rest) = decode::<T>(&bytes).unwrap();
        assert_eq!((&back, rest), (value, &[][..]));
        // Of fewer bytes it is no value, and never a crash.
        for len in 0..bytes.len().min(300) {
            assert_eq!(decode::<T>(&bytes[..len]).is_ok(), postcard::take_from_bytes::<T>(&bytes[..len]).is_ok());
        }
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Kind {
        Unit,
        One(Vec<u8>),
        Two(u8, Vec<f64>),
        Named { list: Vec<u8>, more: Option<Vec<i8>> },
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct All {
        bytes: Vec<u8>,
        boxed: Box<[u8]>,
        nested: Vec<Vec<u8>>,
        floats: (Vec<f32>, Vec<f64>),
        numbers: Vec<u64>,
        queue: VecDeque<u8>,
        array: [u8; 5],
        kinds: Vec<Kind>,
        map: BTreeMap<String, Vec<u8>>,
        text: Option<String>,
        unit: (),
        letter: char,
        large: (i16, i32, i64, i128, u128, bool),
    }

    #[test]
    fn it_is_postcards_encoding() {
        for n in [0_u8, 1, 3, 200] {
            let bytes: Vec<u8> = (0..n).rev().collect();
            let signed: Vec<i8> = bytes.iter().map(|byte| byte.cast_signed()).collect();
            let named = || Kind::Named { list: bytes.clone(), more: (n > 0).then(|| signed.clone()) };
            let all = All {
                bytes: bytes.clone(),
                boxed: bytes.clone().into(),
                nested: vec![bytes.clone(), vec![], bytes.clone()],
                floats: (bytes.iter().map(|n| f32::from(*n) / 3.0).collect(), vec![f64::MIN, -0.0, f64::EPSILON]),
                numbers: bytes.iter().map(|n| u64::MAX >> (n % 64)).collect(),
                queue: bytes.iter().copied().collect(),
                array: [n; 5],
                kinds: vec![Kind::Unit, Kind::One(bytes.clone()), Kind::Two(n, vec![0.1; usize::from(n)]), named()],
                map: (0..n).map(|n| (n.to_string(), vec![n; 3])).collect(),
                text: (n > 1).then(|| "text".to_owned()),
                unit: (),
                letter: 'ü',
                large: (-1, i32::MIN, i64::MAX, i128::MIN, u128::MAX, n > 0),
            };
            expect_postcards(&all);
            expect_postcards(&(bytes.clone(),));
            expect_postcards(&signed);
        }
    }

    #[test]
    fn lists_of_bytes_and_floats_are_copied_in_one_piece() {
        assert_eq!(bytes_of(&[1_u8, 2].iter()), Some((2, &[1, 2][..])));
        assert_eq!(bytes_of(&[1.0_f64].iter()).map(|found| found.1.len()), Some(8));
        assert_eq!(bytes_of(&[1_u16].iter()), None, "these are packed");
        assert_eq!(bytes_of(&[true].iter()), None, "not every byte is one");
        assert!(visitors().iter().all(Option::is_some), "serde asks for vectors in another way");
        let mut all: Vec<_> = visitors().to_vec();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    /// A list that is longer than its message takes no memory.
    #[test]
    fn lengths_are_not_believed() {
        for bytes in
            [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..], &[0xff, 0xff, 0xff, 0x7f, 1], &[2, 0]]
        {
            assert!(decode::<Vec<u8>>(bytes).is_err());
            assert!(decode::<Vec<f64>>(bytes).is_err());
            assert!(decode::<(Vec<i8>, u8)>(bytes).is_err());
        }
    }

    /// A visitor of somebody's own that gives a vector of bytes, but not of those that it is given.
    #[test]
    fn other_visitors_see_each_item() {
        #[derive(Debug, PartialEq)]
        struct Doubled(Vec<u8>);

        impl<'de> Deserialize<'de> for Doubled {
            fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
                struct Double;
                impl<'de> Visitor<'de> for Double {
                    type Value = Vec<u8>;

                    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        f.write_str("bytes")
                    }

                    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> core::result::Result<Vec<u8>, A::Error> {
                        let mut all = Vec::new();
                        while let Some(item) = items.next_element::<u8>()? {
                            all.push(2 * item);
                        }
                        Ok(all)
                    }
                }
                deserializer.deserialize_seq(Double).map(Doubled)
            }
        }
        assert_eq!(decode::<Doubled>(&[3, 1, 2, 3]).unwrap().0, Doubled(vec![2, 4, 6]));
    }
}
