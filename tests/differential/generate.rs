//! Grows files by the grammar and mutates them, the same for the same seed.

/// A small generator of random numbers (splitmix64): the same on every machine and for ever.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `count` times.
    pub fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const WORDS: &[&str] = &[
    "docker.io",
    "*",
    "a.example:5000",
    "https://m.example",
    "http://10.0.0.1:5000/v2",
    "yes",
    "true",
    "False",
    "~",
    "null",
    "",
    "007",
    "1.5",
    "2001-01-01",
    "<<",
    "^a/(.*)",
    "p/$1",
    "é",
    "a b",
    "a: b",
    "a #b",
    "'",
    "\"",
    "\\",
    "[",
    "{x}",
    "-",
    "- x",
    "?",
    ":",
    "|",
    "&a",
    "!x",
];

/// Words that are right everywhere.
const PLAIN: &[&str] =
    &["docker.io", "a.example:5000", "https://m.example", "yes", "true", "~", "007", "é", "a b", "p/$1", "null"];

const PIECES: &[&str] = &[
    "&a ",
    "*a",
    "*a ",
    "<<: *a",
    "<<: [*a, *b]",
    "<<: ",
    "&b ",
    "!!str ",
    "!!bool ",
    "!!binary ",
    "!!null ",
    "!!int ",
    "!!float ",
    "! ",
    "!x ",
    "!<x> ",
    "- ",
    "-",
    ": ",
    ":",
    "? ",
    "?",
    ", ",
    ",",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "\\",
    "|",
    "|-\n",
    "|2\n",
    ">",
    ">+\n",
    "#",
    " #",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "  ",
    "    ",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\0",
    "\u{1b}",
    "%YAML 1.1\n---\n",
    "%YAML 1.2\n",
    "%TAG !e! x\n",
    "---",
    "\n---\n",
    "\n...\n",
    "...",
    "~",
    "null",
    "yes",
    "true",
    "mirrors:\n",
    "configs:\n",
    "auths:\n",
    "endpoint: ",
    "rewrite: ",
    "auth: ",
    "tls: ",
    "username: u",
    "password: p",
    "insecure_skip_verify: on",
    "{}",
    "[]",
    "\\x41",
    "\\u00e9",
    "''",
    "``",
    "@",
    "%",
    "\u{1f600}",
];

/// A word, seldom one that means something else without quotes.
fn word(random: &mut Random) -> &'static str {
    if random.once_in(12) { random.pick(WORDS) } else { random.pick(PLAIN) }
}

/// Grows a file: mostly right, in many ways of writing.
pub struct Grower<'r> {
    random: &'r mut Random,
    out: String,
}

impl<'r> Grower<'r> {
    /// A new file.
    pub fn file(random: &mut Random) -> Vec<u8> {
        let mut grower = Grower { random: &mut *random, out: String::new() };
        if grower.random.once_in(2) {
            let head = grower.random.pick(&[
                "---\n",
                "# c\n",
                "%YAML 1.1\n---\n",
                "\u{feff}",
                "x: &a {endpoint: [e]}\n",
                "x: &a {endpoint: [e]}\ny: &b {rewrite: {p: q}}\n",
                "x: &a {ca_file: e}\n",
                "x: &a {auth: {username: u}}\n",
                "--- # c\n",
                "\n\n",
            ]);
            grower.out += head;
        }
        for _ in 0..1 + grower.random.below(3) {
            let key = grower.random.pick(&["mirrors", "configs", "mirrors", "configs", "auths", "x"]);
            grower.entry(key, 0, 1);
        }
        if grower.random.once_in(8) {
            let tail = grower.random.pick(&["---\nx: y\n", "...\n", "# c", "   ", "---\n[", "...\n..."]);
            grower.out += tail;
        }
        let text = grower.out;
        if random.once_in(10) { text.replace('\n', "\r\n").into_bytes() } else { text.into_bytes() }
    }

    /// `key: value`, at an indentation, with what belongs at this depth below it.
    fn entry(&mut self, key: &str, indent: usize, depth: usize) {
        self.out += &" ".repeat(indent);
        let key = self.dressed(key);
        self.out += &key;
        self.out += self.random.pick(&[":", ":", ":", ":", " :", ": # c", ": &a", ": !x"]);
        let (step, is_alias) = (1 + self.random.below(4), self.random.once_in(40));
        if is_alias || (depth > 1 && key == "<<" && !self.random.once_in(4)) {
            self.out += " *a\n";
            return;
        }
        let plain_key = key.trim_matches(['"', '\'']);
        match (depth, plain_key) {
            (1, _) => self.map(indent + step, 2, &["docker.io", "a.example:5000", "\"*\"", "b", "5000"]),
            (_, "endpoint") => {
                let is_indented = self.random.once_in(2);
                self.list(if is_indented { indent + step } else { indent });
            }
            (_, "rewrite") => self.map(indent + step, 9, &["\"^a/(.*)\"", "b", "<<", "''"]),
            (2, _) => self.map(
                indent + step,
                3,
                &["endpoint", "rewrite", "auth", "tls", "endpoint", "auth", "<<", "endpoints"],
            ),
            (_, "auth") if depth == 3 => {
                self.map(indent + step, 9, &["username", "password", "auth", "identity_token", "<<", "token"]);
            }
            (_, "tls") => {
                self.map(indent + step, 9, &["ca_file", "cert_file", "key_file", "insecure_skip_verify", "<<"])
            }
            (_, "insecure_skip_verify") => {
                let value = self.random.pick(&["true", "false", "yes", "off", "Y", "~", "\"true\"", "!!bool on", "1"]);
                self.out += &format!(" {value}\n");
            }
            _ => self.value(indent),
        }
    }

    fn map(&mut self, indent: usize, depth: usize, keys: &[&str]) {
        let count = self.random.below(4);
        if self.random.once_in(6) {
            let pairs: Vec<String> = (0..count)
                .map(|_| {
                    let key = self.random.pick(keys);
                    let value = if self.random.once_in(8) { self.flow(2) } else { self.fitting(key, depth) };
                    format!("{key}: {value}")
                })
                .collect();
            self.out += &format!(" {{{}}}\n", pairs.join(", "));
            return;
        }
        self.out += "\n";
        for _ in 0..count {
            let key = self.random.pick(keys);
            self.entry(key, indent, depth);
            if self.random.once_in(15) {
                self.out += self.random.pick(&["\n", "  \n", "# c\n", "      # c\n"]);
            }
        }
    }

    fn list(&mut self, indent: usize) {
        if self.random.once_in(3) {
            let value = self.flow(1);
            self.out += &format!(" [{value}]\n");
            return;
        }
        self.out += "\n";
        for _ in 0..self.random.below(4) {
            self.out += &" ".repeat(indent);
            self.out += "-";
            self.value(indent);
        }
    }

    /// A value of the right type, in one line.
    fn fitting(&mut self, key: &str, depth: usize) -> String {
        let word = word(self.random);
        let word = self.dressed(word);
        match (depth, key) {
            (_, "<<") => "*a".to_owned(),
            (_, "endpoint") => format!("[{word}, x]"),
            (_, "rewrite") => format!("{{x: {word}}}"),
            (_, "tls") => format!("{{ca_file: {word}, insecure_skip_verify: on}}"),
            (3, "auth") => format!("{{username: {word}, password: ''}}"),
            (2, _) => format!("{{endpoint: [{word}], tls: {{}}}}"),
            (_, "insecure_skip_verify") => "true".to_owned(),
            _ => word,
        }
    }

    /// A value in brackets, or none.
    fn flow(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.once_in(2) {
            let word = word(self.random);
            return self.dressed(word);
        }
        let items: Vec<String> = (0..self.random.below(3)).map(|_| self.flow(depth - 1)).collect();
        match self.random.below(3) {
            0 => format!("[{}]", items.join(", ")),
            1 => {
                let key = self.random.pick(&["endpoint", "auth", "tls", "username", "rewrite", "<<", "ca_file"]);
                format!("{{{key}: {}}}", items.join(","))
            }
            _ => items.join(", "),
        }
    }

    fn value(&mut self, indent: usize) {
        let pad = " ".repeat(indent + 2);
        let word = word(self.random);
        let value = match self.random.below(8) {
            0 => format!("{}\n{pad}{word}\n", self.random.pick(&["|", ">", "|-", ">+", "|2", ">-\n"])),
            1 => format!("{word}\n{pad}{word}\n"),
            2 => format!("\"{word}\n{pad}\\\n{pad}\\x41{word}\"\n"),
            _ => self.dressed(word) + "\n",
        };
        self.out += &format!(" {value}");
    }

    fn dressed(&mut self, word: &str) -> String {
        match self.random.below(12) {
            0 | 1 => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
            2 => format!("'{}'", word.replace('\'', "''")),
            3 if self.random.once_in(3) => {
                format!("{}{word}", self.random.pick(&["!!str ", "!x ", "&a ", "&b ", "! ", "!!binary ", "!!bool "]))
            }
            _ => word.to_owned(),
        }
    }
}

/// Changes a file in one to four places.
pub fn mutate(random: &mut Random, text: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(14) {
            0..=4 => {
                let piece = if random.once_in(3) { random.pick(WORDS) } else { random.pick(PIECES) };
                bytes.splice(at..at, piece.bytes());
            }
            5 => drop(bytes.drain(at..(at + 1 + random.below(3)).min(bytes.len()))),
            6 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            7 => lines(random, &mut bytes, |lines, at, to| {
                let line = lines[at].clone();
                lines.insert(to, line);
            }),
            8 => lines(random, &mut bytes, |lines, at, _| drop(lines.remove(at))),
            9 => lines(random, &mut bytes, |lines, at, to| lines.swap(at, to)),
            10 => lines(random, &mut bytes, |lines, at, to| {
                let line = lines[at].clone();
                let text = line.iter().position(|b| *b != b' ').unwrap_or(0);
                lines[at] = [vec![b' '; to % 9], line[text..].to_vec()].concat();
            }),
            11 => bytes.truncate(at),
            12 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(200)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                // The value of a line is replaced.
                let word = random.pick(WORDS).as_bytes().to_vec();
                lines(random, &mut bytes, |lines, at, _| {
                    if let Some(colon) = lines[at].iter().position(|b| *b == b':') {
                        lines[at].truncate(colon + 1);
                        lines[at].push(b' ');
                        lines[at].extend(&word);
                    }
                });
            }
        }
    }
    bytes
}

fn lines(random: &mut Random, bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>, usize, usize)) {
    let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let (at, to) = (random.below(lines.len()), random.below(lines.len()));
    change(&mut lines, at, to);
    *bytes = lines.join(&b'\n');
}
