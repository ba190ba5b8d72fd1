//! One input for each thing that is known about the parser that k3s uses, so that none is left to chance.

use super::texts::texts;
use super::values::VALUES;

/// The longest key that may stand without `?`, and one more.
fn long_keys() -> Vec<Vec<u8>> {
    let key = |length: usize| format!("mirrors:\n  {}:\n    endpoint: [a]\n", "a".repeat(length)).into_bytes();
    let accented = |length: usize| format!("mirrors:\n  {}: {{}}\n", "é".repeat(length)).into_bytes();
    let explicit = format!("mirrors:\n  ? {}\n  : endpoint: [a]\n", "a".repeat(3000)).into_bytes();
    vec![
        key(1022),
        key(1023),
        key(1024),
        key(1025),
        key(3000),
        accented(1000),
        accented(1024),
        accented(1030),
        explicit,
    ]
}

fn encodings() -> Vec<Vec<u8>> {
    let text = "mirrors:\n  \"é\":\n    endpoint: [\"\u{1f600}\"]\n";
    let utf16 = |mark: [u8; 2], unit: fn(u16) -> [u8; 2]| {
        mark.into_iter().chain(text.encode_utf16().flat_map(unit)).collect::<Vec<u8>>()
    };
    let mut inputs = vec![
        utf16([0xff, 0xfe], u16::to_le_bytes),
        utf16([0xfe, 0xff], u16::to_be_bytes),
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        [b"\xef\xbb\xbf\xef\xbb\xbf", text.as_bytes()].concat(),
        text.replace('\n', "\r\n").into_bytes(),
        text.replace('\n', "\r").into_bytes(),
        text.replace('\n', "\u{85}").into_bytes(),
        text.replace('\n', "\u{2028}").into_bytes(),
        b"mirrors:\n  a: {endpoint: [\"\xff\"]}\n".to_vec(),
        b"mirrors:\n  a: {endpoint: [\"\0\"]}\n".to_vec(),
        b"mirrors:\n  a: {endpoint: [\"\x07\"]}\n".to_vec(),
        b"mirrors:\n  a: {endpoint: [\"\x7f\"]}\n".to_vec(),
        b"mirrors: {}\n# \xed\xa0\x80\n".to_vec(),
        b"\xef\xbb\xbf".to_vec(),
        b"\xff\xfe".to_vec(),
        b"\xfe\xff\x00".to_vec(),
        b"\xef".to_vec(),
        b"\x00".to_vec(),
        b"a\xc3".to_vec(),
        // Behind a second mark each line loses its first character, until the reader's window moves on.
        format!("\u{feff}\u{feff}\n#mirrors: {{a: }}\n{}#mirrors: {{b: }}\n", "#\n".repeat(400)).into_bytes(),
    ];
    // What is no text behind the first document may go unseen, portion by portion.
    for length in (470..530).chain([0, 400, 600, 1020, 1024, 1100, 2000]) {
        let padding = "#".repeat(length);
        inputs.push([b"mirrors: {a: }\n", padding.as_bytes(), b"\n---\n\xff"].concat());
        inputs.push([b"mirrors: {a: }\n---\n", padding.as_bytes(), b"\xff"].concat());
        inputs.push([b"mirrors: {a: }\n...\n", padding.as_bytes(), b"\xe2\x82"].concat());
        inputs.push([b"mirrors: {a: }\n...\n", padding.as_bytes(), b"\x00"].concat());
    }
    inputs
}

fn aliases() -> Vec<Vec<u8>> {
    let mut laughs = String::from("x0: &x0 {endpoint: [a]}\n");
    for level in 1..9 {
        let below = vec![format!("*x{}", level - 1); 10].join(", ");
        laughs += &format!("x{level}: &x{level} {{<<: [{below}]}}\n");
    }
    laughs += "mirrors: {a: *x8}\n";
    let many = |count: usize| {
        let uses: String = (0..count).map(|host| format!("  h{host}: *x\n")).collect();
        format!("x: &x {{endpoint: [a, b, c, d, e, f]}}\nmirrors:\n{uses}").into_bytes()
    };
    // The borders of what yaml.v2 calls excessive: nearly all of 1000 steps, and a little less of 400,000.
    let share = |entries: usize, uses: usize, others: usize| {
        let rewrites: String = (0..entries).map(|number| format!("a{number}: b, ")).collect();
        let others: String = (0..others).map(|host| format!("  o{host}:\n")).collect();
        let uses: String = (0..uses).map(|host| format!("  h{host}: *x\n")).collect();
        format!("x: &x {{rewrite: {{{rewrites}}}}}\nmirrors:\n{others}{uses}").into_bytes()
    };
    let mut inputs = vec![laughs.into_bytes(), many(10), many(120), many(2000), many(9000)];
    inputs.extend((485..505).map(|entries| share(entries, 1, 0)));
    inputs.extend((0..12).map(|others| share(600, 1, others)));
    inputs.extend([share(60, 3385, 0), share(60, 3405, 0)]);
    inputs
}

/// All rows.
pub fn inputs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = texts().map(|text| text.as_bytes().to_vec()).collect();
    for value in VALUES {
        for place in PLACES {
            inputs.push(place.replace('@', value).into_bytes());
        }
    }
    for nothing in ["", "~", "null", "{}", "[]", "x", "[x]", "{x: y}", "\"\"", "\"null\"", "!!null x", "!!null ~", "*a"]
    {
        for key in ["mirrors", "configs", "auths", "x"] {
            inputs.push(format!("{key}: {nothing}\n").into_bytes());
            inputs.push(format!("{key}: {{h: {nothing}}}\n").into_bytes());
        }
        for key in ["endpoint", "rewrite"] {
            inputs.push(format!("mirrors: {{h: {{{key}: {nothing}}}}}\n").into_bytes());
        }
        for key in ["auth", "tls"] {
            inputs.push(format!("configs: {{h: {{{key}: {nothing}}}}}\n").into_bytes());
        }
    }
    inputs.extend(long_keys());
    inputs.extend(encodings());
    inputs.extend(aliases());
    inputs
}

/// A value, in each place where text, a boolean or a key may stand.
const PLACES: &[&str] = &[
    "configs:\n  h:\n    auth:\n      password: @\n",
    "configs:\n  h:\n    tls:\n      insecure_skip_verify: @\n",
    "mirrors:\n  h:\n    endpoint:\n    - @\n",
    "mirrors:\n  h:\n    rewrite:\n      @: x\n",
    "mirrors:\n  @: {endpoint: [x]}\n",
    "{configs: {h: {tls: {insecure_skip_verify: @, ca_file: @}}}}",
];
