//! D-Bus messages to and from bytes (D-Bus Specification, "Message Format").

use std::io;

use zbus::wire::serialized::{Context, Data};
use zbus::wire::{Endian, to_bytes};
use zbus::{ObjectPath, OwnedVariant, Signature, Type};

/// Call, answer, error, signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// The part before the header fields: order of bytes, kind, flags, version,
/// length of the body, serial, length of the fields.
pub(crate) const FIXED: usize = 16;
/// The longest message that is read (the specification's limit is 128 MiB).
const LONGEST: usize = 16 << 20;

/// A message, received or to be sent.
#[derive(Debug)]
pub(crate) struct Message {
    pub kind: Kind,
    pub serial: u32,
    pub reply_serial: Option<u32>,
    pub path: Option<String>,
    pub interface: Option<String>,
    pub member: Option<String>,
    pub error: Option<String>,
    pub destination: Option<String>,
    /// The types of the arguments, one after the other.
    signature: String,
    body: Vec<u8>,
    endian: Endian,
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn context(endian: Endian) -> Context {
    Context::new(endian, 0)
}

impl Message {
    pub fn new<B: serde::Serialize + Type>(kind: Kind, body: &B) -> io::Result<Message> {
        let endian = Endian::Little;
        Ok(Message {
            kind,
            serial: 0,
            reply_serial: None,
            path: None,
            interface: None,
            member: None,
            error: None,
            destination: None,
            signature: B::SIGNATURE.to_string_no_parens(),
            body: to_bytes(context(endian), body)
                .map_err(invalid)?
                .bytes()
                .to_vec(),
            endian,
        })
    }

    /// Its arguments.
    pub fn body<B: for<'d> serde::Deserialize<'d> + Type>(&self) -> io::Result<B> {
        let wanted = B::SIGNATURE.to_string_no_parens();
        if self.signature != wanted {
            return Err(invalid(format!(
                "{:?} carries {}, not {wanted}",
                self.member, self.signature,
            )));
        }
        let data = Data::new(self.body.as_slice(), context(self.endian));
        data.deserialize().map(|(body, _)| body).map_err(invalid)
    }

    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let length = u32::try_from(self.body.len()).map_err(invalid)?;
        let mut bytes = vec![b'l', self.kind as u8, 0, 1];
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.serial.to_le_bytes());
        // The length of the fields, if present.
        bytes.extend([0; 4]);
        for (code, kind, text) in [
            (PATH, b'o', &self.path),
            (INTERFACE, b's', &self.interface),
            (MEMBER, b's', &self.member),
            (ERROR_NAME, b's', &self.error),
            (DESTINATION, b's', &self.destination),
        ] {
            if let Some(text) = text {
                begin_field(&mut bytes, code, kind);
                let length = u32::try_from(text.len()).map_err(invalid)?;
                bytes.extend(length.to_le_bytes());
                bytes.extend(text.bytes());
                bytes.push(0);
            }
        }
        if let Some(serial) = self.reply_serial {
            begin_field(&mut bytes, REPLY_SERIAL, b'u');
            bytes.extend(serial.to_le_bytes());
        }
        if !self.signature.is_empty() {
            // Not with the library, which would put the arguments in
            // parentheses.
            begin_field(&mut bytes, SIGNATURE, b'g');
            bytes.push(u8::try_from(self.signature.len()).map_err(invalid)?);
            bytes.extend(self.signature.bytes());
            bytes.push(0);
        }
        let fields = u32::try_from(bytes.len() - FIXED).map_err(invalid)?;
        bytes[FIXED - 4..FIXED].copy_from_slice(&fields.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    /// The length of a message with this beginning; `None` until [`FIXED`]
    /// bytes are there.
    pub fn length(start: &[u8]) -> io::Result<Option<usize>> {
        let Some(fixed) = start.get(..FIXED) else {
            return Ok(None);
        };
        let endian = endian(fixed[0])?;
        let number = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&fixed[at..at + 4]);
            (match endian {
                Endian::Little => u32::from_le_bytes(bytes),
                Endian::Big => u32::from_be_bytes(bytes),
            }) as usize
        };
        let length = (FIXED + number(12)).next_multiple_of(8) + number(4);
        if length > LONGEST {
            return Err(invalid("a message of more than 16 MiB"));
        }
        Ok(Some(length))
    }

    /// A message of exactly these bytes; `None` if its kind is not known.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<Message>> {
        type Header = (u8, u8, u8, u8, u32, u32, Vec<(u8, OwnedVariant)>);

        let endian = endian(*bytes.first().ok_or_else(|| invalid("no byte"))?)?;
        let data = Data::new(bytes, context(endian));
        let (header, size): (Header, usize) = data.deserialize().map_err(invalid)?;
        let (_, kind, _, _, _, serial, fields) = header;
        let kind = match kind {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Ok(None),
        };
        let body = bytes.get(size.next_multiple_of(8)..).unwrap_or_default();
        let mut message = Message {
            kind,
            serial,
            reply_serial: None,
            path: None,
            interface: None,
            member: None,
            error: None,
            destination: None,
            signature: String::new(),
            body: body.to_vec(),
            endian,
        };
        for (code, value) in fields {
            let place = match code {
                PATH => {
                    let path: ObjectPath<'_> = value.downcast_ref().map_err(invalid)?;
                    message.path = Some(path.to_string());
                    continue;
                }
                REPLY_SERIAL => {
                    message.reply_serial = Some(value.downcast_ref().map_err(invalid)?);
                    continue;
                }
                SIGNATURE => {
                    let signature: Signature = value.downcast_ref().map_err(invalid)?;
                    message.signature = signature.to_string_no_parens();
                    continue;
                }
                INTERFACE => &mut message.interface,
                MEMBER => &mut message.member,
                ERROR_NAME => &mut message.error,
                DESTINATION => &mut message.destination,
                _ => continue,
            };
            let text: String = value.downcast_ref().map_err(invalid)?;
            *place = Some(text);
        }
        Ok(Some(message))
    }
}

/// A header field up to its value: aligned to 8 bytes, then a variant's type.
fn begin_field(bytes: &mut Vec<u8>, code: u8, kind: u8) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend([code, 1, kind, 0]);
}

fn endian(byte: u8) -> io::Result<Endian> {
    match byte {
        b'l' => Ok(Endian::Little),
        b'B' => Ok(Endian::Big),
        _ => Err(invalid("not a D-Bus message")),
    }
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let body = ("name", vec![("Slice", Variant::from("a.slice"))]);
        let mut call = Message::new(Kind::Call, &body).unwrap();
        call.serial = 7;
        call.path = Some("/org/example".into());
        call.interface = Some("org.example.Thing".into());
        call.member = Some("Do".into());
        call.destination = Some("org.example".into());
        let bytes = call.to_bytes().unwrap();
        assert_eq!(Message::length(&bytes).unwrap(), Some(bytes.len()));
        // The types of the arguments, not of a structure of them.
        let signature = b"\x08\x01g\0\x06sa(sv)\0";
        assert!(bytes.windows(signature.len()).any(|part| part == signature));
        assert_eq!(Message::length(&bytes[..15]).unwrap(), None);
        let read = Message::parse(&bytes).unwrap().unwrap();
        assert_eq!(read.kind, Kind::Call);
        assert_eq!(read.serial, 7);
        assert_eq!(read.path.as_deref(), Some("/org/example"));
        assert_eq!(read.member.as_deref(), Some("Do"));
        let (name, properties): (String, Vec<(String, OwnedVariant)>) = read.body().unwrap();
        assert_eq!(name, "name");
        assert_eq!(properties[0].0, "Slice");
        assert!(read.body::<String>().is_err());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert!(Message::length(&[b'x'; 16]).is_err());
        let mut huge = [0xff; 16];
        huge[0] = b'l';
        assert!(Message::length(&huge).is_err());
        assert!(Message::parse(&[]).is_err());
        assert!(Message::parse(b"l\x01\0\x01\0\0\0\0\x01\0\0\0\xff\0\0\0").is_err());
    }
}
