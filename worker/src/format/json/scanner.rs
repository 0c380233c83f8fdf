//! The tokens of JSON (RFC 8259), strictly.

use super::RecordError;
use std::borrow::Cow;

/// Arrays and objects may lie this deep in each other.
const MAX_DEPTH: usize = 256;

/// A record and how far it has been read. White space before a token is stepped over with the token before it.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// A number.
pub(super) struct Number<'a> {
    /// As it is written.
    pub(super) text: &'a str,
    /// Its value, when it has up to 18 digits and neither fraction nor exponent.
    pub(super) integer: Option<i64>,
}

/// A place to go back to.
#[derive(Clone, Copy)]
pub(super) struct Place {
    at: usize,
    depth: usize,
}

type Scan<T> = Result<T, Box<RecordError>>;

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut scanner = Self { text, at: 0, depth: 0 };
        scanner.space();
        scanner
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The first byte of the next token.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    pub(super) fn place(&self) -> Place {
        Place { at: self.at, depth: self.depth }
    }

    pub(super) fn go_back(&mut self, place: Place) {
        (self.at, self.depth) = (place.at, place.depth);
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Scan<()> {
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected("the end of the record")) }
    }

    /// Takes the bracket that opens an object or array.
    pub(super) fn open(&mut self, bracket: u8) -> Scan<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Box::new(RecordError::Syntax(format!("objects and arrays lie more than {MAX_DEPTH} deep"))));
        }
        self.expect(bracket, if bracket == b'{' { "'{'" } else { "'['" })
    }

    /// Takes the closing bracket if it is there.
    pub(super) fn close(&mut self, bracket: u8) -> bool {
        let closes = self.peek() == Some(bracket);
        if closes {
            self.depth -= 1;
            self.at += 1;
            self.space();
        }
        closes
    }

    /// Takes a comma, and answers true, or the closing bracket.
    pub(super) fn next_or_close(&mut self, bracket: u8) -> Scan<bool> {
        if self.peek() == Some(b',') {
            self.at += 1;
            self.space();
            return Ok(true);
        }
        if self.close(bracket) {
            return Ok(false);
        }
        Err(self.unexpected(if bracket == b'}' { "',' or '}'" } else { "',' or ']'" }))
    }

    pub(super) fn colon(&mut self) -> Scan<()> {
        self.expect(b':', "':'")
    }

    /// Takes the key if it is exactly this one, which has nothing in it that needs an escape.
    pub(super) fn take_key(&mut self, key: &[u8]) -> bool {
        let rest = &self.bytes()[self.at..];
        let matches =
            rest.len() > key.len() + 1 && rest[0] == b'"' && rest[key.len() + 1] == b'"' && rest[1..=key.len()] == *key;
        if matches {
            self.at += key.len() + 2;
            self.space();
        }
        matches
    }

    /// Takes a key.
    pub(super) fn key(&mut self) -> Scan<Cow<'a, [u8]>> {
        Ok(match self.string()? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }

    /// Takes a string.
    pub(super) fn string(&mut self) -> Scan<Cow<'a, str>> {
        let start = self.at + 1;
        self.quote()?;
        self.plain_run();
        if self.peek() == Some(b'"') {
            let text = &self.text[start..self.at];
            self.at += 1;
            self.space();
            return Ok(Cow::Borrowed(text));
        }
        self.at = start - 1;
        let mut text = Vec::new();
        self.string_into(&mut text)?;
        Ok(Cow::Owned(String::from_utf8(text).expect("a string of a record in UTF-8 is UTF-8")))
    }

    /// Takes a string and appends it, with its escapes resolved.
    pub(super) fn string_into(&mut self, out: &mut Vec<u8>) -> Scan<()> {
        self.quote()?;
        loop {
            // Eight bytes are copied before they are looked at; what follows the first special one is cut off again.
            while let Some(word) = self.bytes()[self.at..].first_chunk::<8>() {
                out.extend_from_slice(word);
                let plain = plain_bytes(u64::from_le_bytes(*word));
                self.at += plain;
                if plain < 8 {
                    out.truncate(out.len() - 8 + plain);
                    break;
                }
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.space();
                    return Ok(());
                }
                Some(b'\\') => self.escape(out)?,
                Some(byte) if byte >= 0x20 => {
                    out.push(byte);
                    self.at += 1;
                }
                _ => return Err(self.unexpected("the '\"' that ends a string")),
            }
        }
    }

    /// Takes a number.
    pub(super) fn number(&mut self) -> Scan<Number<'a>> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let (digits, value) = self.digits();
        let leading_zero = digits > 1 && self.bytes()[self.at - digits] == b'0';
        if digits == 0 || leading_zero {
            return Err(self.unexpected("a number"));
        }
        let mut integer = (digits <= 18).then_some(if negative { value.wrapping_neg() } else { value });
        if self.peek() == Some(b'.') {
            self.at += 1;
            integer = None;
            if self.digits().0 == 0 {
                return Err(self.unexpected("a digit after the decimal point"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            integer = None;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits().0 == 0 {
                return Err(self.unexpected("a digit of the exponent"));
            }
        }
        let text = &self.text[start..self.at];
        self.space();
        Ok(Number { text, integer })
    }

    /// Takes `null`, `true` or `false`.
    pub(super) fn literal(&mut self, literal: &'static str) -> Scan<()> {
        if !self.text[self.at..].starts_with(literal) {
            return Err(self.unexpected("a JSON value"));
        }
        self.at += literal.len();
        self.space();
        Ok(())
    }

    /// Takes a value of any kind and answers it as it is written.
    pub(super) fn raw(&mut self) -> Scan<&'a str> {
        let start = self.at;
        self.skip()?;
        Ok(self.text[start..self.at].trim_end_matches([' ', '\t', '\r', '\n']))
    }

    /// Steps over a value of any kind.
    pub(super) fn skip(&mut self) -> Scan<()> {
        // One bit for each open bracket, the innermost lowest: set for objects.
        let mut open = [0_u64; MAX_DEPTH / 64];
        let outside = self.depth;
        loop {
            let mut done = true;
            match self.peek() {
                Some(b'"') => self.skip_string()?,
                Some(b'{') => {
                    self.open(b'{')?;
                    set(&mut open, self.depth - 1, true);
                    done = self.close(b'}');
                    if !done {
                        self.skip_key()?;
                    }
                }
                Some(b'[') => {
                    self.open(b'[')?;
                    set(&mut open, self.depth - 1, false);
                    done = self.close(b']');
                }
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                }
                _ => return Err(self.unexpected("a JSON value")),
            }
            while done && self.depth > outside {
                let object = get(&open, self.depth - 1);
                done = !self.next_or_close(if object { b'}' } else { b']' })?;
                if !done && object {
                    self.skip_key()?;
                }
            }
            if done {
                return Ok(());
            }
        }
    }

    fn skip_key(&mut self) -> Scan<()> {
        self.skip_string()?;
        self.colon()
    }

    fn skip_string(&mut self) -> Scan<()> {
        self.quote()?;
        loop {
            self.plain_run();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.space();
                    return Ok(());
                }
                Some(b'\\') => match self.bytes().get(self.at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                    Some(b'u') => {
                        self.unicode_escape()?;
                    }
                    _ => return Err(self.unexpected("an escape")),
                },
                _ => return Err(self.unexpected("the '\"' that ends a string")),
            }
        }
    }

    /// Steps over bytes of a string that stand for themselves.
    fn plain_run(&mut self) {
        while let Some(word) = self.bytes()[self.at..].first_chunk::<8>() {
            let plain = plain_bytes(u64::from_le_bytes(*word));
            self.at += plain;
            if plain < 8 {
                return;
            }
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Scan<()> {
        let byte = match self.bytes().get(self.at + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.unicode_escape()?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.unexpected("an escape")),
        };
        out.push(byte);
        self.at += 2;
        Ok(())
    }

    /// Takes `\uXXXX`, with the other half of a surrogate pair. A half alone becomes the replacement character.
    fn unicode_escape(&mut self) -> Scan<char> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let between = self.at;
        if self.bytes()[self.at..].starts_with(b"\\u") {
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = between;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn four_digits(&mut self) -> Scan<u32> {
        let digits = self.bytes().get(self.at + 2..self.at + 6).unwrap_or_default();
        let code = digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?));
        match code.filter(|_| digits.len() == 4) {
            Some(code) => {
                self.at += 6;
                Ok(code)
            }
            None => Err(self.unexpected("four hexadecimal digits after '\\u'")),
        }
    }

    /// Steps over digits: how many, and their value, which is right for up to 18.
    fn digits(&mut self) -> (usize, i64) {
        let start = self.at;
        let mut value = 0_i64;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
            self.at += 1;
        }
        (self.at - start, value)
    }

    fn quote(&mut self) -> Scan<()> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        self.at += 1;
        Ok(())
    }

    fn expect(&mut self, byte: u8, name: &'static str) -> Scan<()> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(name));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn unexpected(&self, wanted: &str) -> Box<RecordError> {
        let place = self.at + 1;
        Box::new(RecordError::Syntax(match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) if found.is_control() => {
                format!(
                    "{wanted} expected at byte {place} of the record, control character {:#04x} found",
                    u32::from(found)
                )
            }
            Some(found) => {
                format!("{wanted} expected at byte {place} of the record, '{found}' found")
            }
            None => format!("{wanted} expected, but the record ends"),
        }))
    }
}

/// Appends a value without the white space between its tokens.
pub(super) fn compact(value: &str, out: &mut Vec<u8>) {
    let (mut in_string, mut escaped) = (false, false);
    for byte in value.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
}

/// How many of eight bytes, from the lowest, stand for themselves in a string: up to the first quote, backslash or
/// control character. A byte's high bit is set where it equals, or is less; a borrow only spoils bytes above a hit.
fn plain_bytes(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    const QUOTES: u64 = ONES * 0x22;
    const BACKSLASHES: u64 = ONES * 0x5c;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let special = zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES) | (word.wrapping_sub(ONES * 0x20) & !word);
    (special & HIGHS).trailing_zeros() as usize / 8
}

fn set(bits: &mut [u64; MAX_DEPTH / 64], index: usize, value: bool) {
    let mask = 1 << (index % 64);
    if value {
        bits[index / 64] |= mask;
    } else {
        bits[index / 64] &= !mask;
    }
}

fn get(bits: &[u64; MAX_DEPTH / 64], index: usize) -> bool {
    bits[index / 64] >> (index % 64) & 1 == 1
}
