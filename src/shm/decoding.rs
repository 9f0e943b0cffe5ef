//! postcard's decoding, in which lists of bytes and floats are copied in one piece: see `encoding.rs`.

use core::any::TypeId;
use core::cell::Cell;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::sync::OnceLock;

use postcard::de_flavors::Slice;
use postcard::{Error, Result};
use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, Visitor};

use super::encoding::AsIs;

/// Decodes a value; the bytes that are left.
#[inline]
pub(super) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<(T, &'de [u8])> {
    let mut input = postcard::Deserializer::from_bytes(bytes);
    let value = T::deserialize(In(&mut input))?;
    Ok((value, input.finalize()?))
}

/// The visitors that `Vec<T>` has, for `u8`, `i8`, `f32` and `f64`. serde keeps the type to itself, so it is asked for the
/// vectors, and what comes with the question is remembered.
pub(super) fn visitors() -> &'static [Option<TypeId>; 4] {
    static ALL: OnceLock<[Option<TypeId>; 4]> = OnceLock::new();
    ALL.get_or_init(|| [visitor_of::<u8>(), visitor_of::<i8>(), visitor_of::<f32>(), visitor_of::<f64>()])
}

fn visitor_of<T: de::DeserializeOwned>() -> Option<TypeId> {
    let seen = Cell::new(None);
    // It refuses, whatever it is asked.
    let _ = Vec::<T>::deserialize(Asked(&seen));
    seen.get()
}

/// Remembers the visitor by which a list is asked for.
struct Asked<'a>(&'a Cell<Option<TypeId>>);

impl<'de> de::Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(Error::WontImplement)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        self.0.set(Some(typeid::of::<V>()));
        Err(Error::WontImplement)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A value as what it is already.
fn same<T: 'static, U>(value: T) -> Option<U> {
    if typeid::of::<U>() != TypeId::of::<T>() {
        return None;
    }
    let value = ManuallyDrop::new(value);
    // SAFETY: T and U are one type but for lifetimes, of which T has none; nobody uses or drops the value any more.
    Some(unsafe { NonNull::from(&value).cast::<U>().read() })
}

/// postcard's deserializer, but for lists.
struct In<'a, 'de>(&'a mut postcard::Deserializer<'de, Slice<'de>>);

impl<'de> In<'_, 'de> {
    /// The bytes that are left, out of which `take` takes some.
    #[inline]
    fn rest<R>(&mut self, take: impl FnOnce(&mut &'de [u8]) -> R) -> Result<R> {
        let input = core::mem::replace(self.0, postcard::Deserializer::from_bytes(&[]));
        let mut rest = input.finalize()?;
        let taken = take(&mut rest);
        *self.0 = postcard::Deserializer::from_bytes(rest);
        Ok(taken)
    }

    /// A list of items that travel as they are, if that is what this visitor wants.
    #[inline]
    fn list<V: Visitor<'de>>(&mut self) -> Result<Option<V::Value>> {
        macro_rules! if_it_is {
            ($($item:ty: $n:literal),*) => {
                $(
                    if typeid::of::<V::Value>() == TypeId::of::<Vec<$item>>()
                        && visitors()[$n] == Some(typeid::of::<V>())
                    {
                        return self.items::<$item>().map(same);
                    }
                )*
            };
        }
        if_it_is!(u8: 0, i8: 1);
        #[cfg(target_endian = "little")]
        if_it_is!(f32: 2, f64: 3);
        Ok(None)
    }

    fn items<T: AsIs>(&mut self) -> Result<Vec<T>> {
        let len = usize::deserialize(&mut *self.0)?;
        let bytes = len.checked_mul(size_of::<T>()).ok_or(Error::DeserializeUnexpectedEnd)?;
        let bytes = self.rest(|rest| rest.split_off(..bytes))?.ok_or(Error::DeserializeUnexpectedEnd)?;
        let mut items: Vec<T> = Vec::new();
        items.try_reserve_exact(len).map_err(|_| Error::DeserializeUnexpectedEnd)?;
        // SAFETY: room for as many items as there are bytes for; the vector's memory is nobody else's.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), items.as_mut_ptr().cast(), bytes.len()) };
        // SAFETY: written just now, and any bytes are an item (`FromBytes`).
        unsafe { items.set_len(len) };
        Ok(items)
    }
}

macro_rules! ask_for_values {
    ($($name:ident)*) => {
        $(
            #[inline]
            fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
                self.0.$name(visitor)
            }
        )*
    };
}

impl<'de> de::Deserializer<'de> for In<'_, 'de> {
    type Error = Error;

    ask_for_values! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match u8::deserialize(&mut *self.0)? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => Err(Error::DeserializeBadOption),
        }
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        if let Some(list) = self.list::<V>()? {
            return Ok(list);
        }
        let len = usize::deserialize(&mut *self.0)?;
        visitor.visit_seq(Items { input: self, len })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Items { input: self, len })
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, len: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let len = usize::deserialize(&mut *self.0)?;
        visitor.visit_map(Items { input: self, len })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The items of a list, or the keys and values of a map, one by one.
struct Items<'a, 'de> {
    input: In<'a, 'de>,
    len: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if self.len == 0 {
            return Ok(None);
        }
        self.len -= 1;
        seed.deserialize(In(&mut *self.input.0)).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        // Believed by serde up to a megabyte.
        Some(self.len)
    }
}

impl<'de> de::MapAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        seed.deserialize(In(&mut *self.input.0))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.len)
    }
}

impl<'de> de::EnumAccess<'de> for In<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self)> {
        let index = u32::deserialize(&mut *self.0)?;
        Ok((seed.deserialize(IntoDeserializer::<Error>::into_deserializer(index))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for In<'_, 'de> {
    type Error = Error;

    #[inline]
    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}
