//! A strict JSON reader with limits, for files that strangers write.
//!
//! Three things that a general parser leaves out decide its existence (ADR 0025): a key given twice is an error
//! and not the last one's victory, numbers keep their digits so that prices convert exactly, and every error says
//! where in the document it stands (a JSON pointer, RFC 6901).

use super::violation::{Code, Path, Violation};
use std::collections::BTreeMap;

/// The largest document that is read.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// The same with what is noted beside it.
pub(super) const MAX_KEPT: usize = MAX_BYTES + (64 << 10);
/// How deep a document may nest. What is read here nests six deep.
const MAX_DEPTH: usize = 32;
/// How many values a document may have: 16 MiB of brackets must not become a gigabyte of nodes.
const MAX_VALUES: usize = 1 << 20;

/// A JSON value. Numbers are kept as they are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Box<str>),
    Text(Box<str>),
    List(Vec<Json>),
    Object(BTreeMap<Box<str>, Json>),
}

impl Json {
    /// What it is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl Json {
    /// An object of these members.
    pub(super) fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// The canonical bytes: keys in order, no white space, integers in plain digits.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        self.write(&mut text);
        text.into_bytes()
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(digits) => out.push_str(digits),
            Self::Text(text) => write_text(text, out),
            Self::List(items) => {
                let mut before = '[';
                for item in items {
                    out.push(before);
                    item.write(out);
                    before = ',';
                }
                out.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Self::Object(members) => {
                let mut before = '{';
                for (key, value) in members {
                    out.push(before);
                    write_text(key, out);
                    out.push(':');
                    value.write(out);
                    before = ',';
                }
                out.push_str(if members.is_empty() { "{}" } else { "}" });
            }
        }
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string().into())
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Reads one document.
pub(super) fn parse(bytes: &[u8]) -> Result<Json, Violation> {
    parse_within(bytes, MAX_BYTES, MAX_VALUES)
}

/// Reads one document that was kept: the largest that can be published, and what is noted beside it.
pub(super) fn parse_kept(bytes: &[u8]) -> Result<Json, Violation> {
    parse_within(bytes, MAX_KEPT, MAX_VALUES + 64)
}

fn parse_within(bytes: &[u8], max_bytes: usize, max_values: usize) -> Result<Json, Violation> {
    let root = Path::root();
    if bytes.len() > max_bytes {
        return Err(Violation::new(Code::TooLarge, root, format!("{} bytes of at most {max_bytes}", bytes.len())));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(Violation::new(Code::NotUtf8, root, "not UTF-8"));
    };
    if text.trim().is_empty() {
        return Err(Violation::new(Code::Empty, root, "an empty document"));
    }
    let mut reader = Reader { text, at: 0, path: root, depth: 0, values: max_values };
    let value = reader.value()?;
    reader.space();
    if reader.at < text.len() { Err(reader.syntax("nothing after the document")) } else { Ok(value) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    path: Path,
    depth: usize,
    /// How many more values it may have.
    values: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fail(&self, code: Code, message: impl Into<String>) -> Violation {
        Violation::new(code, self.path.clone(), message)
    }

    fn syntax(&self, expected: &str) -> Violation {
        self.fail(Code::NotJson, format!("byte {}: expected {expected}", self.at))
    }

    fn expect(&mut self, byte: u8, expected: &str) -> Result<(), Violation> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.syntax(expected))
        }
    }

    fn value(&mut self) -> Result<Json, Violation> {
        self.space();
        if self.values == 0 {
            return Err(self.fail(Code::TooManyValues, "more values than are read"));
        }
        self.values -= 1;
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json, Violation>) -> Result<Json, Violation> {
        if self.depth == MAX_DEPTH {
            return Err(self.fail(Code::TooDeep, format!("nests deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Json, Violation> {
        let mut members = BTreeMap::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.syntax("a key"));
            }
            let key = self.string()?;
            self.path.push(&key);
            if members.contains_key(&key) {
                return Err(self.fail(Code::DuplicateKey, "the key is given twice"));
            }
            self.space();
            self.expect(b':', "':'")?;
            let value = self.value()?;
            members.insert(key, value);
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => {
                    self.expect(b'}', "',' or '}'")?;
                    return Ok(Json::Object(members));
                }
            }
        }
    }

    fn list(&mut self) -> Result<Json, Violation> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::List(items));
        }
        loop {
            self.path.push_index(items.len());
            items.push(self.value()?);
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => {
                    self.expect(b']', "',' or ']'")?;
                    return Ok(Json::List(items));
                }
            }
        }
    }

    fn word(&mut self) -> Result<Json, Violation> {
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.syntax("a value"))
    }

    fn digits(&mut self) -> Result<(), Violation> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.syntax("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Json, Violation> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Json::Number(self.text[start..self.at].into()))
    }

    fn string(&mut self) -> Result<Box<str>, Violation> {
        self.at += 1;
        let start = self.at;
        // Most have no escape: one slice.
        let mut text = String::new();
        let mut from = start;
        loop {
            match self.peek() {
                None | Some(0..=0x1f) => return Err(self.syntax("the end of the text")),
                Some(b'"') => {
                    text.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    return Ok(text.into());
                }
                Some(b'\\') => {
                    text.push_str(&self.text[from..self.at]);
                    text.push(self.escape()?);
                    from = self.at;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Violation> {
        self.at += 1;
        let escaped = self.peek();
        self.at += 1;
        Ok(match escaped {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 1;
                return Err(self.syntax("an escape"));
            }
        })
    }

    fn unicode(&mut self) -> Result<char, Violation> {
        let high = self.hex()?;
        let point = match high {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                let low = self.hex()?;
                match low {
                    0xdc00..=0xdfff => 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00),
                    _ => return Err(self.syntax("the second half of a surrogate pair")),
                }
            }
            _ => high,
        };
        char::from_u32(point).ok_or_else(|| self.syntax("a character and not half of one"))
    }

    fn hex(&mut self) -> Result<u32, Violation> {
        let digits = self.text.get(self.at..self.at + 4).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(point) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
            return Err(self.syntax("four hexadecimal digits"));
        };
        self.at += 4;
        Ok(point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (Code, String) {
        let violation = parse(text.as_bytes()).unwrap_err();
        (violation.code(), violation.path().to_string())
    }

    #[test]
    fn values_are_read_and_numbers_keep_their_digits() {
        let value = parse(br#" {"a": [1.50e-07, true, null, "x\u00e9\ud83d\ude00\n"], "b": {}} "#).unwrap();
        let Json::Object(members) = value else { panic!() };
        let Json::List(items) = &members["a"] else { panic!() };
        assert_eq!(items[0], Json::Number("1.50e-07".into()));
        assert_eq!(items[3], Json::Text("xé😀\n".into()));
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = r#"{"a":[],"b":{},"c":[1,-2.5e3,null,true,"q\"\\\u0001é"]}"#;
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(value.to_bytes()).unwrap(), text);
    }

    #[test]
    fn an_error_says_what_and_where() {
        assert_eq!(error(""), (Code::Empty, String::new()));
        assert_eq!(error(" \n"), (Code::Empty, String::new()));
        assert_eq!(error(r#"{"a": {"b": NaN}}"#), (Code::NotJson, "/a/b".into()));
        assert_eq!(error(r#"{"a": [0, {"b/c": 1, "b/c": 2}]}"#), (Code::DuplicateKey, "/a/1/b~1c".into()));
        // The same key in another spelling.
        assert_eq!(error(r#"{"a": 1, "\u0061": 2}"#), (Code::DuplicateKey, "/a".into()));
        for wrong in ["{", "[1,]", "01", "1.", ".5", "+1", "1e", "\"\u{1}\"", r#""\ud800""#, "tru", "{} {}", "'a'"] {
            assert_eq!(error(wrong).0, Code::NotJson, "{wrong}");
        }
        assert_eq!(parse(&[b'"', 0xff, b'"']).unwrap_err().code(), Code::NotUtf8);
    }

    #[test]
    fn depth_size_and_number_of_values_are_bounded() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(deep(MAX_DEPTH + 1).as_bytes()).unwrap_err().code(), Code::TooDeep);
        assert_eq!(parse(deep(1 << 20).as_bytes()).unwrap_err().code(), Code::TooDeep);
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(parse(many.as_bytes()).unwrap_err().code(), Code::TooManyValues);
        let mut largest = vec![b' '; MAX_BYTES];
        largest[0] = b'1';
        assert!(parse(&largest).is_ok());
        largest.push(b' ');
        assert_eq!(parse(&largest).unwrap_err().code(), Code::TooLarge);
    }
}
