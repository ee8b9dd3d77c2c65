//! As much JSON as a load report needs: the numbers of an object and of the objects in it.

use super::Unreadable;

/// Deeper than this no report goes.
const DEPTH: usize = 16;
const MALFORMED: Unreadable = Unreadable::Malformed("JSON");

/// Calls `found` with the outer key (empty at the top), the key and the text of each number of the object in `json`
/// and of those one level below. Other values are passed over; strings are not unescaped.
pub(super) fn numbers<'j>(
    json: &'j str,
    mut found: impl FnMut(&'j str, &'j str, &'j str) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut reader = Reader { rest: json };
    reader.skip_space();
    reader.object(&mut |reader, outer| match reader.peek() {
        Some(b'{') => reader.object(&mut |reader, key| match reader.value(1)? {
            Some(number) => found(outer, key, number),
            None => Ok(()),
        }),
        _ => match reader.value(0)? {
            Some(number) => found("", outer, number),
            None => Ok(()),
        },
    })?;
    reader.skip_space();
    if reader.rest.is_empty() { Ok(()) } else { Err(MALFORMED) }
}

struct Reader<'j> {
    rest: &'j str,
}

type Member<'r, 'j> = &'r mut dyn FnMut(&mut Reader<'j>, &'j str) -> Result<(), Unreadable>;

impl<'j> Reader<'j> {
    fn peek(&self) -> Option<u8> {
        self.rest.bytes().next()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    /// Takes this ASCII character, and the space behind it.
    fn take(&mut self, what: u8) -> bool {
        let there = self.peek() == Some(what);
        if there {
            self.rest = &self.rest[1..];
            self.skip_space();
        }
        there
    }

    fn expect(&mut self, what: u8) -> Result<(), Unreadable> {
        if self.take(what) { Ok(()) } else { Err(MALFORMED) }
    }

    fn object(&mut self, member: Member<'_, 'j>) -> Result<(), Unreadable> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            member(self, key)?;
            if !self.take(b',') {
                return self.expect(b'}');
            }
        }
    }

    fn string(&mut self) -> Result<&'j str, Unreadable> {
        if self.peek() != Some(b'"') {
            return Err(MALFORMED);
        }
        let text = &self.rest[1..];
        let mut escaped = false;
        let end = text.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let end = end.ok_or(MALFORMED)?;
        self.rest = &text[end + 1..];
        self.skip_space();
        Ok(&text[..end])
    }

    /// Passes over a value; its text where it is a number.
    fn value(&mut self, depth: usize) -> Result<Option<&'j str>, Unreadable> {
        if depth > DEPTH {
            return Err(MALFORMED);
        }
        match self.peek().ok_or(MALFORMED)? {
            b'{' => self.object(&mut |reader, _| reader.value(depth + 1).map(drop)).map(|()| None),
            b'[' => self.array(depth).map(|()| None),
            b'"' => self.string().map(|_| None),
            _ => self.word().map(|word| (!matches!(word, "true" | "false" | "null")).then_some(word)),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Unreadable> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    /// A number, or one of the three words.
    fn word(&mut self) -> Result<&'j str, Unreadable> {
        let of_word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let end = self.rest.find(|c| !of_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_space();
        if word.is_empty() { Err(MALFORMED) } else { Ok(word) }
    }
}
