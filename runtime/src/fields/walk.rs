//! A serializer that writes nothing: it walks a value field by field and fails
//! at the first one that is set and not enforced.
//!
//! Building a tree of the whole value would work too, at five times the cost: a
//! seccomp profile has hundreds of names.

use std::fmt::{self, Display, Write};

use serde::Serialize;
use serde::ser::{
    Error, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, Serializer,
};

use super::{Found, ZERO_IS_UNSET, find};

/// Where the walk is.
#[derive(Default)]
pub(super) struct Walk {
    /// In the form of [`super::ENFORCED`].
    pattern: String,
    /// The same with indices and keys.
    place: String,
}

/// The field that is set and not enforced.
#[derive(Debug)]
pub(super) struct Refused {
    pub field: String,
}

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    /// A value that cannot be written; its message takes the place of a name.
    fn custom<T: Display>(message: T) -> Refused {
        Refused {
            field: message.to_string(),
        }
    }
}

impl Walk {
    /// A value is set here.
    fn set(&self) -> Result<(), Refused> {
        if find(&self.pattern) == Found::Field {
            return Ok(());
        }
        Err(Refused {
            field: self.place.clone(),
        })
    }

    fn number(&self, zero: bool) -> Result<(), Refused> {
        self.set_if(!zero || !ZERO_IS_UNSET.contains(&self.pattern.as_str()))
    }

    fn set_if(&self, set: bool) -> Result<(), Refused> {
        if set { self.set() } else { Ok(()) }
    }

    /// Walks what is below a name; in a map the name may be any.
    fn enter<T: Serialize + ?Sized>(
        &mut self,
        name: &str,
        value: &T,
        in_map: bool,
    ) -> Result<(), Refused> {
        let ends = (self.pattern.len(), self.place.len());
        for path in [&mut self.pattern, &mut self.place] {
            if !path.is_empty() {
                path.push('.');
            }
        }
        let dot = self.pattern.len();
        self.pattern.push_str(name);
        self.place.push_str(name);
        let mut found = find(&self.pattern);
        if found == Found::Nothing && in_map {
            self.pattern.truncate(dot);
            self.pattern.push('*');
            found = find(&self.pattern);
        }
        if found != Found::Field {
            value.serialize(&mut *self)?;
        }
        self.pattern.truncate(ends.0);
        self.place.truncate(ends.1);
        Ok(())
    }
}

/// An absent value, an empty one and `false` ask for nothing. Zero does ask for
/// something, with the exceptions of [`ZERO_IS_UNSET`].
impl<'a> Serializer for &'a mut Walk {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeMap = Fields<'a>;
    type SerializeStruct = Fields<'a>;
    // The specification has none of these; one would be refused by its place.
    type SerializeTupleStruct = Impossible<(), Refused>;
    type SerializeTupleVariant = Impossible<(), Refused>;
    type SerializeStructVariant = Impossible<(), Refused>;

    fn serialize_bool(self, value: bool) -> Result<(), Refused> {
        self.set_if(value)
    }
    fn serialize_i8(self, value: i8) -> Result<(), Refused> {
        self.number(value == 0)
    }
    fn serialize_i16(self, value: i16) -> Result<(), Refused> {
        self.number(value == 0)
    }
    fn serialize_i32(self, value: i32) -> Result<(), Refused> {
        self.number(value == 0)
    }
    fn serialize_i64(self, value: i64) -> Result<(), Refused> {
        self.number(value == 0)
    }
    fn serialize_u8(self, value: u8) -> Result<(), Refused> {
        self.number(value == 0)
    }
    fn serialize_u16(self, value: u16) -> Result<(), Refused> {
        self.number(value == 0)
    }
    fn serialize_u32(self, value: u32) -> Result<(), Refused> {
        self.number(value == 0)
    }
    fn serialize_u64(self, value: u64) -> Result<(), Refused> {
        self.number(value == 0)
    }
    fn serialize_f32(self, _: f32) -> Result<(), Refused> {
        self.set()
    }
    fn serialize_f64(self, _: f64) -> Result<(), Refused> {
        self.set()
    }
    fn serialize_char(self, _: char) -> Result<(), Refused> {
        self.set()
    }
    fn serialize_str(self, value: &str) -> Result<(), Refused> {
        self.set_if(!value.is_empty())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Refused> {
        self.set_if(!value.is_empty())
    }
    fn serialize_none(self) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), Refused> {
        self.set()
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.enter(variant, value, false)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Refused> {
        Ok(Items {
            walk: self,
            index: 0,
        })
    }
    fn serialize_tuple(self, _: usize) -> Result<Items<'a>, Refused> {
        self.serialize_seq(None)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Fields<'a>, Refused> {
        Ok(Fields {
            walk: self,
            key: String::new(),
        })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Refused> {
        self.serialize_map(None)
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Refused>, Refused> {
        Err(Refused::custom(&self.place))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Refused>, Refused> {
        Err(Refused::custom(&self.place))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Refused>, Refused> {
        Err(Refused::custom(&self.place))
    }
}

/// The items of a list that is not itself an enforced field.
pub(super) struct Items<'a> {
    walk: &'a mut Walk,
    index: usize,
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let walk = &mut *self.walk;
        let ends = (walk.pattern.len(), walk.place.len());
        walk.pattern.push_str("[]");
        // Writing to a string does not fail.
        let _ = write!(walk.place, "[{}]", self.index);
        value.serialize(&mut *walk)?;
        walk.pattern.truncate(ends.0);
        walk.place.truncate(ends.1);
        self.index += 1;
        Ok(())
    }

    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}

impl SerializeTuple for Items<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}

/// The fields of a structure or the keys of a map.
pub(super) struct Fields<'a> {
    walk: &'a mut Walk,
    key: String,
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.walk.enter(name, value, false)
    }

    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}

impl SerializeMap for Fields<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        match serde_json::to_value(key) {
            Ok(serde_json::Value::String(key)) => {
                self.key = key;
                Ok(())
            }
            Ok(_) | Err(_) => Err(Refused::custom(&self.walk.place)),
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.walk.enter(&self.key, value, true)
    }

    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}
