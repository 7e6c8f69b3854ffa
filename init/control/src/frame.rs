//! Framing: a little-endian `u32` length, then that many bytes of JSON.

use serde::Serialize;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is over the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// The announced length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The value cannot be written as JSON.
    #[error("cannot write the message as JSON: {0}")]
    Unrepresentable(String),
}

/// One message as a frame of at most `limit` bytes of JSON.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)
        .map_err(|error| FrameError::Unrepresentable(error.to_string()))?;
    let length = frame.len() - 4;
    match u32::try_from(length) {
        Ok(announced) if length <= limit => frame[..4].copy_from_slice(&announced.to_le_bytes()),
        _ => return Err(FrameError::TooLong { length, limit }),
    }
    Ok(frame)
}

/// Bytes that arrived, from which whole frames are taken.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    limit: usize,
}

impl FrameBuffer {
    /// An empty buffer for frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    /// Appends what arrived. It holds at most one frame and one read more, as
    /// long as the caller takes all frames after each push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame's JSON, or `None` until more bytes come.
    ///
    /// # Errors
    /// A frame that announces more than the limit: nothing after it can be
    /// read, so the connection is to be closed.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((header, _)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > self.limit {
            return Err(FrameError::TooLong {
                length,
                limit: self.limit,
            });
        }
        if self.bytes.len() < 4 + length {
            return Ok(None);
        }
        let rest = self.bytes.split_off(4 + length);
        let mut frame = std::mem::replace(&mut self.bytes, rest);
        frame.drain(..4);
        Ok(Some(frame))
    }

    /// Whether part of a frame waits for the rest.
    pub fn is_partial(&self) -> bool {
        !self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn a_frame_comes_back_whole_when_it_arrives_byte_by_byte() {
        let frame = encode(&Request::Status, 100).unwrap();
        let mut buffer = FrameBuffer::new(100);
        for (index, byte) in frame.iter().enumerate() {
            assert_eq!(buffer.next_frame().unwrap(), None, "after {index} bytes");
            buffer.push(&[*byte]);
        }
        let json = buffer.next_frame().unwrap().unwrap();
        assert_eq!(
            serde_json::from_slice::<Request>(&json).unwrap(),
            Request::Status
        );
        assert!(!buffer.is_partial());
    }

    #[test]
    fn two_frames_in_one_read_are_both_taken() {
        let mut bytes = encode(&Request::Status, 100).unwrap();
        bytes.extend(encode(&Request::Reboot, 100).unwrap());
        let mut buffer = FrameBuffer::new(100);
        buffer.push(&bytes);
        assert!(buffer.next_frame().unwrap().is_some());
        assert!(buffer.next_frame().unwrap().is_some());
        assert_eq!(buffer.next_frame().unwrap(), None);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut buffer = FrameBuffer::new(10);
        buffer.push(&11u32.to_le_bytes());
        assert_eq!(
            buffer.next_frame(),
            Err(FrameError::TooLong {
                length: 11,
                limit: 10
            })
        );
    }

    #[test]
    fn a_message_over_the_limit_is_not_written() {
        assert!(matches!(
            encode(&"x".repeat(100), 10),
            Err(FrameError::TooLong { length: 102, .. })
        ));
    }

    #[test]
    fn an_unknown_field_of_a_request_is_refused() {
        let json = r#"{"request":"start","service":"x","force":true}"#;
        let error = serde_json::from_str::<Request>(json).unwrap_err();
        assert!(error.to_string().contains("force"), "{error}");
    }
}
