//! The bytes of a file as characters, in the portions in which Go's reader takes them.

use crate::registries::document::Mark;

use super::Fault;

/// How many bytes gopkg.in/yaml.v2 reads at once. A byte that is no text is an error only when its portion is needed:
/// behind the end of the first document it may go unseen.
const PORTION: usize = 512;

/// Characters, with as many `\0` behind the end as are asked for.
pub(super) struct Source {
    chars: Vec<char>,
    /// How many characters are there after each portion.
    portions: Vec<usize>,
    /// What is wrong with the portion after the last one.
    broken: Option<Fault>,
    /// Portions taken.
    taken: usize,
    /// Characters taken, and one for each time the end was seen.
    loaded: usize,
    /// Where the current window starts: the reader looks for a byte order mark there.
    window: usize,
}

impl Source {
    /// Decodes UTF-8, or UTF-16 behind a byte order mark.
    pub(super) fn new(bytes: &[u8]) -> Self {
        // yaml.v2 takes an empty file for an empty line.
        let bytes = if bytes.is_empty() { b"\n" } else { bytes };
        let (decode, start): (Decode, usize) = match bytes {
            [0xff, 0xfe, ..] => (|rest| utf16(rest, u16::from_le_bytes), 2),
            [0xfe, 0xff, ..] => (|rest| utf16(rest, u16::from_be_bytes), 2),
            [0xef, 0xbb, 0xbf, ..] => (utf8, 3),
            _ => (utf8, 0),
        };
        let mut source = Self { chars: Vec::new(), portions: Vec::new(), broken: None, taken: 0, loaded: 0, window: 0 };
        source.decode_all(bytes, start, decode);
        source
    }

    fn decode_all(&mut self, bytes: &[u8], start: usize, decode: Decode) {
        let mut at = start;
        let mut end = bytes.len().min(PORTION);
        loop {
            while at < end {
                match decode(&bytes[at..end]) {
                    Decoded::Char(c, width) => {
                        self.chars.push(c);
                        at += width;
                    }
                    Decoded::Cut if end < bytes.len() => break,
                    Decoded::Cut => {
                        self.portions.push(self.chars.len());
                        self.broken = Some(self.fault("the last character is cut off"));
                        return;
                    }
                    Decoded::Wrong(what) => {
                        self.broken = Some(self.fault(what));
                        self.chars.truncate(self.portions.last().copied().unwrap_or(0));
                        return;
                    }
                }
            }
            self.portions.push(self.chars.len());
            if at == bytes.len() {
                return;
            }
            end = bytes.len().min(at + PORTION);
        }
    }

    fn fault(&self, what: &'static str) -> Fault {
        let line_start = self.chars.iter().rposition(|c| *c == '\n').map_or(0, |at| at + 1);
        let line = 1 + self.chars.iter().filter(|c| **c == '\n').count();
        let column = 1 + self.chars.len() - line_start;
        Fault { at: Mark { line: number(line), column: number(column) }, what }
    }

    /// Makes sure that `count` characters (or the end) can be seen from `at`.
    pub(super) fn need(&mut self, at: usize, count: usize) -> Result<(), Fault> {
        if self.loaded >= at + count {
            return Ok(());
        }
        self.window = at;
        while self.loaded < at + count {
            if let Some(end) = self.portions.get(self.taken) {
                self.loaded = *end;
                self.taken += 1;
            } else if let Some(fault) = self.broken {
                return Err(fault);
            } else {
                self.loaded += 1;
                break;
            }
        }
        Ok(())
    }

    /// The character there; `\0` behind the end, since no file may hold one.
    pub(super) fn get(&self, at: usize) -> char {
        self.chars.get(at).copied().unwrap_or('\0')
    }

    /// Whether the window starts with a byte order mark. yaml.v2 looks there whenever a line starts, wherever in the
    /// window that line is, so that a second mark costs each line its first character.
    pub(super) fn window_starts_with_mark(&self) -> bool {
        self.get(self.window) == '\u{feff}'
    }
}

/// A line or column as we show it; a file of 1 MiB has fewer.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

type Decode = fn(&[u8]) -> Decoded;

enum Decoded {
    Char(char, usize),
    /// The bytes end in the middle of a character.
    Cut,
    Wrong(&'static str),
}

fn utf8(bytes: &[u8]) -> Decoded {
    let width = match bytes.first() {
        Some(0x00..=0x7f) => 1,
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        Some(0x80..=0xbf | 0xf8..) => return Decoded::Wrong("a byte that is not UTF-8"),
        None => return Decoded::Cut,
    };
    let Some(whole) = bytes.get(..width) else { return Decoded::Cut };
    match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
        Some(c) => allowed(c, width),
        None => Decoded::Wrong("a byte that is not UTF-8"),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Decoded {
    let at = |start: usize| Some(unit([*bytes.get(start)?, *bytes.get(start + 1)?]));
    let Some(first) = at(0) else { return Decoded::Cut };
    let units = match first {
        0xd800..=0xdbff => match at(2) {
            Some(second) => vec![first, second],
            None => return Decoded::Cut,
        },
        _ => vec![first],
    };
    match char::decode_utf16(units.iter().copied()).next() {
        Some(Ok(c)) => allowed(c, 2 * units.len()),
        Some(Err(_)) | None => Decoded::Wrong("bytes that are not UTF-16"),
    }
}

fn allowed(c: char, width: usize) -> Decoded {
    match c {
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'.. => Decoded::Char(c, width),
        '\0' => Decoded::Wrong("a NUL byte"),
        _ => Decoded::Wrong("a control character, which YAML does not allow"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, (u32, u32)> {
        let mut source = Source::new(bytes);
        source.need(0, bytes.len() + 1).map_err(|fault| (fault.at.line, fault.at.column))?;
        Ok((0..).map(|at| source.get(at)).take_while(|c| *c != '\0').collect())
    }

    #[test]
    fn utf8_and_both_kinds_of_utf16_are_the_same_text() {
        let text = "é: \u{1f600}\n";
        let le: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let be: Vec<u8> = [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect();
        let marked: Vec<u8> = [0xef, 0xbb, 0xbf].into_iter().chain(text.bytes()).collect();
        for bytes in [text.as_bytes(), &le, &be, &marked] {
            assert_eq!(read(bytes), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_byte_that_is_no_text_is_found_in_its_line() {
        for bytes in
            [&b"a: b\nc: \xff"[..], b"a: b\nc: \0", b"a: b\nc: \x07", b"a: b\nc: \xc3", b"a: b\nc: \xed\xa0\x80"]
        {
            assert_eq!(read(bytes), Err((2, 4)));
        }
    }

    #[test]
    fn a_character_across_two_portions_is_whole() {
        for shift in 0..4 {
            let text = format!("{}{}", "a".repeat(PORTION - shift), "\u{1f600}".repeat(3 * PORTION));
            assert_eq!(read(text.as_bytes()), Ok(text));
        }
    }

    #[test]
    fn a_broken_portion_behind_what_is_needed_is_not_seen() {
        let mut bytes = vec![b'a'; PORTION];
        bytes.push(0xff);
        let mut source = Source::new(&bytes);
        assert!(source.need(0, PORTION).is_ok());
        assert!(source.need(0, PORTION + 1).is_err());
    }
}
