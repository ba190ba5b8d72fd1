//! Values as they may stand behind a key, in front of a colon or in a list.

/// All of them.
#[rustfmt::skip]
pub const VALUES: &[&str] = &[
    "007", "1e3", "yes", "2001-01-01", "0x10", "1.50", "null", "~", "", "\"\"", "''", "true", "True", "TRUE", "tRUE",
    "false", "False", "FALSE", "Yes", "YES", "On", "ON", "No", "NO", "Off", "OFF", "off", "NULL", "on", "y", "Y",
    "no", "off", "n", "N", "\"true\"", "'true'", "1", "0", ".inf", ".nan", "<<", "=", "\"~\"", "\"null\"", "Null",
    "!!str ~", "!!str yes", "!!str", "!!bool yes", "!!bool \"true\"", "!!bool x", "!!bool 1", "!!int 1", "!!int x",
    "!!int 0x1f", "!!int 1_000", "!!int \"7\"", "!!int 0b12", "!!int 0b-1", "!!int -0b1", "!!int 09", "!!int 010",
    "!!int 0o17", "!!int 18446744073709551616", "!!int 18446744073709551615", "!!int -9223372036854775808",
    "!!int -9223372036854775809", "!!int +5", "!!int 1.0", "!!int 2001-01-01", "!!int _1", "!!int 1_", "!!int 0x",
    "!!int 0_7", "!!float 1", "!!float 1.5", "!!float x", "!!float .inf", "!!float -.Inf", "!!float .nan",
    "!!float 1e999", "!!float 0x1p3", "!!float 18446744073709551615", "!!float +.5e-3", "!!float 1.", "!!float .",
    "!!float 1e", "!!float 1_0.5", "!!null ~", "!!null x", "!!null \"\"", "!!null", "!!binary aHVudGVyMg==",
    "!!binary a", "!!binary", "!!binary \"aHVu\\ndGVyMg==\"", "!!binary YQ", "!!binary YR==",
    "!!binary |\n        aHVu\n        dGVyMg==\n", "!!timestamp x", "!!timestamp 2001", "!!merge <<", "!!merge x",
    "!x yes", "!x ~", "! yes", "! ~", "! \"yes\"", "!<tag:yaml.org,2002:bool> yes", "!<x> yes", "!!x yes", "!y!x yes",
    "!%C3%A9 x", "!%zz x", "! ", "&a yes", "&a", "&a !!str yes", "!!str &a yes", "&a &b x", "!!str !!str x", "*a",
    "*", "&", "*x", "& x", "a b", "a: b", "a #b", "a#b", "#a", "- a", "-a", "?a", ":a", "? a", ": a", "a:", "a:b",
    "a,b", "a]b", "[a", "[a]", "{a}", "{a: b}", "[]", "{}", "%a", "@a", "`a", "|a", "|", ">", "|+", ">-", "|1", "|0",
    "|10", "|-1", "|1-", "|--", "| #c", "|#c", "a\n b", "a\n\n b", "a\n  # c\n  b", "'a\n\n  b'", "\"a\n\n  b\"",
    "\"a\\\n  b\"", "\"a \\\n  b\"", "\"a\\\n\n  b\"", "\"a  \n  b\"", "'a''b'", "'a", "\"a", "'a'b", "\"a\"b",
    "\"\\0\\a\\b\\t\\n\\v\\f\\r\\e\\ \\\"\\'\\\\\\N\\_\\L\\P\"", "\"\\/\"", "\"\\x41\\u00e9\\U0001f600\"", "\"\\x4\"",
    "\"\\ud800\"", "\"\\Uffffffff\"", "\"\\", "\"\\q\"", "\"\\\t\"", "\"\t\"", "a\tb", "\ta", "a\t", "\t", "a \\",
    "\\", "a\u{a0}b", "\u{feff}a", "a\u{feff}", "\u{2028}", "a\u{2029}b", "a\u{85}b", "...", "---", "..", "--",
    "'---'", "\"\n---\n\"", "a\n---\n", "[a,\n---\n]", "[a, b", "[a b]", "[a,, b]", "[,]", "[a,]", "{,}", "{a,}",
    "{a: b,}", "[a: b]", "[? a : b]", "[? a]", "[?]", "[? ]", "[? , a]", "[? : a]", "[: a]", "[:]", "[a:]", "{a:}",
    "{:}", "{: a}", "{? a}", "{? }", "{?}", "{\"a\":b}", "{a:b}", "[a?b]", "[?b]", "[-]", "[- a]", "[-a]", "[-\n a]",
    "[!!str, a]", "[!!str a, b]", "[!!str]", "[*a, b]", "[&a, b]", "[&a b, *a]", "{&a b: *a}", "{*a: b}", "[a]: b",
    "[]: b", "{}: b", "[[]]: b", "{a: []}: b", "[a\n]: b", "[|]", "[>a]", "[a|b]", "[#a]", "[a #b\n]", "[a#b]",
    "[%a]", "[@a]", "{a: {b: {c: d}}}", "x: &a {b: *a}", "{<<: {a: b}}",
];
