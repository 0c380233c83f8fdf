//! Text as bytes in a character set, as Java does it: what a set lacks becomes `?`, malformed bytes become `U+FFFD`.

use std::char::{REPLACEMENT_CHARACTER, decode_utf16};

/// A way to write text as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Ascii,
    Latin1,
    Utf8,
    /// With a byte order mark, big end first without one.
    Utf16,
    Utf16BigEnd,
    Utf16LittleEnd,
}

impl Charset {
    /// The one with a name, in any case; the error says which there are.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        match name.to_ascii_uppercase().as_str() {
            "US-ASCII" => Ok(Self::Ascii),
            "ISO-8859-1" => Ok(Self::Latin1),
            "UTF-8" => Ok(Self::Utf8),
            "UTF-16" => Ok(Self::Utf16),
            "UTF-16BE" => Ok(Self::Utf16BigEnd),
            "UTF-16LE" => Ok(Self::Utf16LittleEnd),
            _ => Err(format!(
                "there is no character set '{name}': write US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE or UTF-16LE"
            )),
        }
    }

    /// The bytes of a text.
    pub(super) fn encode(self, text: &str) -> Vec<u8> {
        let narrow =
            |most: u32| text.chars().map(move |letter| if u32::from(letter) <= most { letter as u8 } else { b'?' });
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Ascii => narrow(0x7f).collect(),
            Self::Latin1 => narrow(0xff).collect(),
            Self::Utf16BigEnd => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Self::Utf16LittleEnd => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Self::Utf16 if text.is_empty() => Vec::new(),
            Self::Utf16 => [0xfe, 0xff].into_iter().chain(Self::Utf16BigEnd.encode(text)).collect(),
        }
    }

    /// The text of bytes.
    pub(super) fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            Self::Ascii => {
                let letter = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { REPLACEMENT_CHARACTER };
                bytes.iter().map(letter).collect()
            }
            Self::Utf16BigEnd => wide(bytes, u16::from_be_bytes),
            Self::Utf16LittleEnd => wide(bytes, u16::from_le_bytes),
            Self::Utf16 => match bytes {
                [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
                [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
                rest => wide(rest, u16::from_be_bytes),
            },
        }
    }
}

fn wide(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (units, rest) = bytes.as_chunks::<2>();
    let letters = decode_utf16(units.iter().map(|bytes| unit(*bytes)));
    let letters = letters.map(|letter| letter.unwrap_or(REPLACEMENT_CHARACTER));
    letters.chain((!rest.is_empty()).then_some(REPLACEMENT_CHARACTER)).collect()
}
