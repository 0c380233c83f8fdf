//! Hashes, Base64 and parts of URLs.

mod charset;

use super::arguments::{Call, Texts};
use super::definition::Function;
use super::definition::Kind::{Any, Integer, Text};
use super::definition::Returns;
use super::text::{PartColumn, TextColumn};
use super::typing::sql_name;
use arrow::array::{Array, ArrayRef, AsArray, BinaryViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use charset::Charset;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use datafusion_functions::crypto;
use std::fmt::Write;
use std::sync::Arc;

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("md5", "MD5(text)", "the MD5 hash as 32 hexadecimal digits", &[Text], Returns::Text, |call| {
        let hash = invoke(call, &crypto::md5())?;
        Ok(cast(&hash, &DataType::Utf8View)?)
    }),
    Function::new("sha1", "SHA1(text)", "the SHA-1 hash as 40 hexadecimal digits", &[Text], Returns::Text, |call| {
        let texts = call.texts(0)?;
        let mut column = TextColumn::new(call.rows);
        for row in 0..call.rows {
            match texts.get(row) {
                Some(text) => column.write(|out| write_hex(&sha1(text.as_bytes()), out)),
                None => column.push_null(),
            }
        }
        Ok(column.finish())
    }),
    Function::new("sha224", "SHA224(text)", "the SHA-224 hash as 56 hexadecimal digits", &[Text], Returns::Text, |call| {
        digest(call, &crypto::sha224())
    }),
    Function::new("sha256", "SHA256(text)", "the SHA-256 hash as 64 hexadecimal digits", &[Text], Returns::Text, |call| {
        digest(call, &crypto::sha256())
    }),
    Function::new("sha384", "SHA384(text)", "the SHA-384 hash as 96 hexadecimal digits", &[Text], Returns::Text, |call| {
        digest(call, &crypto::sha384())
    }),
    Function::new("sha512", "SHA512(text)", "the SHA-512 hash as 128 hexadecimal digits", &[Text], Returns::Text, |call| {
        digest(call, &crypto::sha512())
    }),
    Function::new(
        "sha2",
        "SHA2(text, bits)",
        "the hash of 224, 256, 384 or 512 bits as hexadecimal digits",
        &[Text, Integer],
        Returns::Text,
        |call| {
            let Some(bits) = call.longs(1)?.constant() else { return call.error("the number of bits must be a constant") };
            match bits {
                224 => digest(call, &crypto::sha224()),
                256 => digest(call, &crypto::sha256()),
                384 => digest(call, &crypto::sha384()),
                512 => digest(call, &crypto::sha512()),
                other => call.error(format!("the number of bits must be 224, 256, 384 or 512, not {other}")),
            }
        },
    ),
    Function::new("to_base64", "TO_BASE64(text)", "encoded in Base64", &[Text], Returns::Text, |call| {
        let texts = call.texts(0)?;
        let mut column = TextColumn::new(call.rows);
        for row in 0..call.rows {
            match texts.get(row) {
                Some(text) => column.write(|out| encode_base64(text.as_bytes(), out)),
                None => column.push_null(),
            }
        }
        Ok(column.finish())
    }),
    Function::new("from_base64", "FROM_BASE64(text)", "decoded from Base64", &[Text], Returns::Text, |call| {
        let texts = call.texts(0)?;
        let mut column = TextColumn::new(call.rows);
        for row in 0..call.rows {
            match texts.get(row).map(decode_base64) {
                None => column.push_null(),
                Some(Some(bytes)) => column.push(Some(&String::from_utf8_lossy(&bytes))),
                Some(None) => return call.error("the text is not Base64"),
            }
        }
        Ok(column.finish())
    }),
    Function::new(
        "encode",
        "ENCODE(text, charset)",
        "its bytes in US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE or UTF-16LE",
        &[Text, Text],
        Returns::By(|_, _| Ok(DataType::BinaryView)),
        |call| {
            let (texts, charsets) = (call.texts(0)?, call.texts(1)?);
            let mut column = BinaryViewBuilder::with_capacity(call.rows);
            for row in 0..call.rows {
                let found = texts.get(row).zip(charset(call, charsets, row)?);
                column.append_option(found.map(|(text, charset)| charset.encode(text)));
            }
            Ok(Arc::new(column.finish()))
        },
    ),
    Function::new(
        "decode",
        "DECODE(bytes, charset)",
        "the text that bytes are in a character set",
        &[Any, Text],
        Returns::By(|types, _| match &types[0] {
            DataType::BinaryView | DataType::Null => Ok(DataType::Utf8View),
            other => plan_err!("BYTES are needed, not {}", sql_name(other)),
        }),
        |call| {
            let (bytes, charsets) = (cast(&call.array(0)?, &DataType::BinaryView)?, call.texts(1)?);
            let bytes = bytes.as_binary_view();
            let mut column = TextColumn::new(call.rows);
            for row in 0..call.rows {
                let found = charset(call, charsets, row)?.filter(|_| bytes.is_valid(row));
                column.push(found.map(|charset| charset.decode(bytes.value(row))).as_deref());
            }
            Ok(column.finish())
        },
    ),
    Function::new(
        "url_encode",
        "URL_ENCODE(text)",
        "as a part of a URL's query: + for a blank, % and hexadecimal digits for what needs them",
        &[Text],
        Returns::Text,
        |call| {
            let texts = call.texts(0)?;
            let mut column = TextColumn::new(call.rows);
            for row in 0..call.rows {
                match texts.get(row) {
                    Some(text) => column.write(|out| encode_url(text, out)),
                    None => column.push_null(),
                }
            }
            Ok(column.finish())
        },
    ),
    Function::new(
        "url_decode",
        "URL_DECODE(text)",
        "a part of a URL's query as text; NULL if it is malformed",
        &[Text],
        Returns::Text,
        |call| {
            let texts = call.texts(0)?;
            let mut column = TextColumn::new(call.rows);
            for row in 0..call.rows {
                column.push(texts.get(row).and_then(decode_url).as_deref());
            }
            Ok(column.finish())
        },
    ),
    Function::new(
        "parse_url",
        "PARSE_URL(url, part [, key])",
        "a part of a URL: HOST, PATH, QUERY, REF, PROTOCOL, AUTHORITY, FILE, USERINFO, or the value of a key of its QUERY",
        &[Text, Text, Text],
        Returns::Text,
        parse_url,
    )
    .optional(1),
];

fn invoke(call: &Call<'_>, udf: &Arc<ScalarUDF>) -> Result<ArrayRef> {
    let text = call.array(0)?;
    let returns = udf.return_type(&[text.data_type().clone()])?;
    let args = ScalarFunctionArgs {
        arg_fields: vec![Arc::new(Field::new("text", text.data_type().clone(), true))],
        args: vec![ColumnarValue::Array(text)],
        number_rows: call.rows,
        return_field: Arc::new(Field::new(udf.name(), returns, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    udf.invoke_with_args(args)?.into_array(call.rows)
}

fn digest(call: &Call<'_>, udf: &Arc<ScalarUDF>) -> Result<ArrayRef> {
    let hashes = cast(&invoke(call, udf)?, &DataType::BinaryView)?;
    let mut column = TextColumn::new(call.rows);
    for hash in hashes.as_binary_view() {
        match hash {
            Some(hash) => column.write(|out| write_hex(hash, out)),
            None => column.push_null(),
        }
    }
    Ok(column.finish())
}

fn write_hex(bytes: &[u8], out: &mut String) {
    bytes.iter().for_each(|byte| write!(out, "{byte:02x}").expect("a string takes all text"));
}

/// FIPS 180-4, section 6.1.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state = [0x6745_2301u32, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64) + if padded.len() % 64 > 56 { 64 } else { 0 }, 0);
    let bits = (message.len() as u64).wrapping_mul(8);
    let end = padded.len();
    padded[end - 8..].copy_from_slice(&bits.to_be_bytes());
    for block in padded.as_chunks::<64>().0 {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.into_iter().enumerate() {
            let (mix, constant) = match i / 20 {
                0 => ((b & c) | (!b & d), 0x5A82_7999),
                1 => (b ^ c ^ d, 0x6ED9_EBA1),
                2 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6u32),
            };
            let next = a.rotate_left(5).wrapping_add(mix).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut out = [0; 20];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode_base64(bytes: &[u8], out: &mut String) {
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
}

/// RFC 4648 with or without the padding, as Java's basic decoder.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut word, mut bits) = (0u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        word = word << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out)
}

/// As Java's `URLEncoder` with UTF-8.
fn encode_url(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'.' | b'-' | b'*' | b'_' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => write!(out, "%{byte:02X}").expect("a string takes all text"),
        }
    }
}

/// As Java's `URLDecoder` with UTF-8.
fn decode_url(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let digit = |place: usize| char::from(digits[place]).to_digit(16);
                (digit(0)? * 16 + digit(1)?) as u8
            }
            byte => *byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn charset(call: &Call<'_>, names: Texts<'_>, row: usize) -> Result<Option<Charset>> {
    names.get(row).map(|name| Charset::named(name).map_err(|message| call.mistake(message))).transpose()
}

fn parse_url(call: &Call<'_>) -> Result<ArrayRef> {
    let (urls, parts) = (call.texts(0)?, call.texts(1)?);
    let keys = if call.count() > 2 { Some(call.texts(2)?) } else { None };
    let mut column = PartColumn::new(urls, call.rows);
    for row in 0..call.rows {
        let part = urls.get(row).zip(parts.get(row)).and_then(|(url, part)| url_part(url, part, row, keys));
        column.push(row, part);
    }
    Ok(column.finish())
}

fn url_part<'t>(url: &'t str, part: &str, row: usize, keys: Option<Texts<'_>>) -> Option<&'t str> {
    let (protocol, rest) = url.split_once(':')?;
    if !["http", "https", "ftp", "file", "jar", "mailto"].iter().any(|known| protocol.eq_ignore_ascii_case(known)) {
        return None;
    }
    let (rest, reference) = rest.split_once('#').map_or((rest, None), |(rest, reference)| (rest, Some(reference)));
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (authority, file) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = file.split_once('?').map_or((file, None), |(path, query)| (path, Some(query)));
    if let Some(keys) = keys {
        let key = keys.get(row)?;
        let pairs = query.filter(|_| part == "QUERY")?.split('&');
        return pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value);
    }
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    match part {
        "HOST" => {
            Some(host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host))
        }
        "PATH" => Some(path),
        "QUERY" => query,
        "REF" => reference,
        "PROTOCOL" => Some(protocol),
        "FILE" => Some(file),
        "AUTHORITY" => Some(authority),
        "USERINFO" => user,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn hashes_and_encodings_are_the_standard_ones() {
        check(
            "MD5('test') -> STRING 098f6bcd4621d373cade4e832627b4f6
             SHA1('test') -> STRING a94a8fe5ccb19ba61c4c0873d391e987982fbbd3
             SHA1('') -> STRING da39a3ee5e6b4b0d3255bfef95601890afd80709
             SHA1(REPEAT('a', 119)) -> STRING ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56
             SHA1(REPEAT('a', 56)) -> STRING c2db330f6083854c99d4b5bfb6e8f29f201be699
             SHA224('test') -> STRING 90a3ed9e32b2aaf4c61c410eb925426119e1a9dc53d4286ade99a809
             SHA256('test') -> STRING 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
             SHA2('test', 224) -> STRING 90a3ed9e32b2aaf4c61c410eb925426119e1a9dc53d4286ade99a809
             CHAR_LENGTH(SHA384('')) -> INT 96
             CHAR_LENGTH(SHA512('')) -> INT 128
             MD5(CAST(NULL AS VARCHAR)) -> STRING NULL
             TO_BASE64('hello world') -> STRING aGVsbG8gd29ybGQ=
             TO_BASE64('f') -> STRING Zg==
             FROM_BASE64('aGVsbG8gd29ybGQ=') -> STRING hello world
             FROM_BASE64('Zg') -> STRING f
             FROM_BASE64('?') -> error not Base64
             PARSE_URL('http://facebook.com/path1/p.php?k1=v1&k2=v2#Ref1', 'HOST') -> STRING facebook.com
             PARSE_URL('http://facebook.com/path1/p.php?k1=v1&k2=v2#Ref1', 'PATH') -> STRING /path1/p.php
             PARSE_URL('http://facebook.com/path1/p.php?k1=v1&k2=v2#Ref1', 'QUERY') -> STRING k1=v1&k2=v2
             PARSE_URL('http://facebook.com/path1/p.php?k1=v1&k2=v2#Ref1', 'QUERY', 'k2') -> STRING v2
             PARSE_URL('http://facebook.com/path1/p.php?k1=v1&k2=v2#Ref1', 'REF') -> STRING Ref1
             PARSE_URL('http://facebook.com/path1/p.php?k1=v1&k2=v2#Ref1', 'FILE') -> STRING /path1/p.php?k1=v1&k2=v2
             PARSE_URL('http://u:p@h:80/', 'USERINFO') -> STRING u:p
             PARSE_URL('http://u:p@h:80/', 'AUTHORITY') -> STRING u:p@h:80
             PARSE_URL('http://u:p@h:80/', 'HOST') -> STRING h
             ENCODE('é€', 'UTF-8') -> BYTES c3a9e282ac
             ENCODE('é€', 'iso-8859-1') -> BYTES e93f
             ENCODE('é', 'US-ASCII') -> BYTES 3f
             ENCODE('a', 'UTF-16') -> BYTES feff0061
             ENCODE('a', 'UTF-16LE') -> BYTES 6100
             ENCODE('a', 'UTF-7') -> error there is no character set 'UTF-7'
             DECODE(ENCODE('é𝄞', 'UTF-16'), 'UTF-16') -> STRING é𝄞
             DECODE(ENCODE('é', 'UTF-16LE'), 'UTF-16LE') -> STRING é
             DECODE(ENCODE('é', 'UTF-8'), 'US-ASCII') -> STRING ��
             DECODE(ENCODE('é', 'ISO-8859-1'), 'ISO-8859-1') -> STRING é
             DECODE(1, 'UTF-8') -> error BYTES are needed
             URL_ENCODE('a b/é~*') -> STRING a+b%2F%C3%A9%7E*
             URL_DECODE('a+b%2f%C3%A9') -> STRING a b/é
             URL_DECODE('100%') -> STRING NULL
             URL_DECODE('%zz') -> STRING NULL
             PARSE_URL('nonsense', 'HOST') -> STRING NULL",
        );
    }
}
