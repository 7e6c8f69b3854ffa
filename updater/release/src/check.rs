//! What is wrong with a channel, and where in it.

use jiff::Timestamp;

/// Reads a time.
pub fn time(text: &str) -> Result<Timestamp, String> {
    if text.len() > 64 {
        return Err("a time has at most 64 bytes".to_owned());
    }
    text.parse()
        .map_err(|error| format!("'{}' is no time (RFC 3339): {error}", text.escape_debug()))
}

/// Something is wrong with a field.
#[derive(Debug)]
pub struct Wrong {
    /// Where the field is, such as `offers[0].manifest.root.length`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Remembers where it is looking and the first thing that is wrong.
#[derive(Debug, Default)]
pub struct Check {
    place: Vec<String>,
    first: Option<Wrong>,
}

impl Check {
    /// Looks at what is below `field`.
    pub fn within(&mut self, field: &str, look: impl FnOnce(&mut Self)) {
        self.place.push(field.to_owned());
        look(self);
        self.place.pop();
    }

    /// Tells what is wrong with `field`.
    pub fn wrong(&mut self, field: &str, problem: String) {
        if self.first.is_none() {
            let mut place = self.place.join(".");
            if !place.is_empty() {
                place.push('.');
            }
            self.first = Some(Wrong {
                field: place + field,
                problem,
            });
        }
    }

    /// The first thing that is wrong.
    pub fn end(self) -> Result<(), Wrong> {
        self.first.map_or(Ok(()), Err)
    }
}
