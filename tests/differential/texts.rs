//! Whole files, by subject.

/// All of them.
pub fn texts() -> impl Iterator<Item = &'static str> {
    [NOTHING, DOCUMENTS, STRUCTURE, DOUBLED, MERGES, BLOCKS, LINES].into_iter().flatten().copied()
}

/// Hardly anything.
#[rustfmt::skip]
const NOTHING: &[&str] = &[
    "", "\n", " ", "# only a comment\n", "---", "---\n", "--- \n...\n", "~", "null", "--- ~\n", "...", "...\na: b\n",
    "--- a", "a", "- a", "[]", "{}", "\"\"", "&a", "&a []", "!!map {}", "!!null x", "!!str",
];

/// Several documents, their marks, and directives.
#[rustfmt::skip]
const DOCUMENTS: &[&str] = &[
    "mirrors: {a: }\n---\nconfigs: {b: }\n", "mirrors: {a: }\n---\n\"broken", "mirrors: {a: }\n--- |\n",
    "---\nmirrors: {a: }\n...\n", "---\n---\nmirrors: {a: }\n", "mirrors: {a: }\n...\ngarbage: [\n",
    "mirrors: {a: }\n...\n...\n", "mirrors: {a: }\n---\n---\n", "--- mirrors: {a: }\n", "--- {mirrors: {a: }}\n",
    "mirrors: {a: }\n%YAML 1.2\n", "mirrors: {a: }\n... x\n", "mirrors: {a: }\n--- # c\n",
    "%YAML 1.1\n---\nmirrors: {a: }\n", "%YAML 1.2\n---\nmirrors: {a: }\n", "%YAML 1.1\nmirrors: {a: }\n",
    "%YAML 1.1 # c\n--- {}\n", "%YAML 1.1#c\n--- {}\n", "%YAML 1.1 x\n--- {}\n", "%YAML 1\n--- {}\n",
    "%YAML 1.001\n---\n", "%YAML 01.01\n--- {}\n", "%YAML 1.1\n%YAML 1.1\n--- {}\n", "%YAML\n---\n", "%YAML 1.1",
    "%YAML 1.1\n", "%FOO a\n--- {}\n", "%\n--- {}\n", "%TAG ! tag:x,\n--- {mirrors: !a {b: }}\n",
    "%TAG !! tag:yaml.org,2002:\n--- {mirrors: {b: !!str }}\n", "%TAG !! x\n--- {mirrors: {b: !!str }}\n",
    "%TAG !e! x\n%TAG !e! y\n--- {}\n", "%TAG !e x\n--- {}\n", "%TAG e x\n--- {}\n", "%TAG !e!\n--- {}\n",
    "%TAG !e! tag:yaml.org,2002:\n---\nmirrors: {a: {endpoint: [!e!binary YQ==]}}\n", "%TAG !e! %C3%A9,[]x\n--- {}\n",
    " %YAML 1.1\n--- {}\n",
];

/// Indentation, brackets, keys, types and unknown keys.
#[rustfmt::skip]
const STRUCTURE: &[&str] = &[
    "x: {[]: b}\nmirrors: {a: }\n", "x: [[]: b]\n", "x: {{}: b}\n", "? []\n: b\nmirrors: {a: }\n", "[]: b\nmirrors: {a: }\n", "{}: b\nmirrors: {a: }\n",
    "x: [[]: b, {}: c]\nmirrors: {a: }\n", "x: [{} : b]\nmirrors: {a: }\n",
    "Mirrors: {a: }\n", "mirrors:\n\ta: {}\n", "mirrors:\n  a:\n\t  endpoint: []\n", "mirrors:\t{a: }\n",
    "mirrors: {a:\t}\n", "mirrors: {\ta: }\n", "\tmirrors: {a: }\n", "mirrors:\n  a: {}\n b: {}\n",
    "mirrors:\n  a: {}\n   b: {}\n", " mirrors:\n  a: {}\n configs: {}\n", " mirrors: {}\nconfigs: {}\n",
    "mirrors:\na:\n", "mirrors\n  a: {}\n", "mirrors :\n  a: {}\n", "mirrors:a: {}\n", "mirrors: a: b\n",
    "mirrors: *x\n", "mirrors:\n  *: {}\n", "mirrors:\n  \"*\": {endpoint: [a]}\n",
    "mirrors:\n  '*': {endpoint: [a]}\n", "mirrors:\n  *a: {}\n", "mirrors:\n  &a h: {}\n  *a : {endpoint: [x]}\n",
    "mirrors:\n  &a h: {}\n  *a: {endpoint: [x]}\n", "mirrors:\n  ? h\n  : endpoint: [x]\n", "mirrors:\n  ? h\n",
    "mirrors:\n  ?\n  : endpoint: [x]\n", "mirrors:\n  ? [h]\n  : {}\n", "mirrors:\n  ? {h: i}\n  : {}\n",
    "mirrors:\n  ? |\n    h\n  : endpoint: [x]\n", "? mirrors\n: {a: }\n", "mirrors:\n- a\n",
    "mirrors:\n  a:\n    endpoint:\n    - x\n    rewrite: {y: z}\n", "mirrors:\n  a:\n    endpoint:\n  - x\n",
    "mirrors:\n  a:\n    endpoint:\n    - - x\n", "mirrors:\n  a:\n    endpoint:\n    -\n    - ~\n    - x\n",
    "mirrors:\n  a:\n    endpoint:\n    - x: y\n", "mirrors:\n  a:\n    endpoint:\n    -x\n",
    "mirrors:\n  a:\n    endpoint: x\n", "mirrors:\n  a:\n    endpoint: https://x\n",
    "mirrors:\n  a:\n    endpoint: [https://x, \"\"]\n", "mirrors:\n  a:\n    endpoint: [ 'x' , \"y\" , z ]\n",
    "mirrors:\n  a:\n    endpoint: [\nx,\ny\n]\n", "mirrors:\n  a:\n    endpoint: [\n  x\n    ]\n",
    "mirrors: {a: {endpoint: [x]}\n", "mirrors: {a: {endpoint: [x}}\n", "mirrors: {a: }}\n", "mirrors: ]\n",
    "mirrors: {a: } x\n", "mirrors: {a: } # x\n", "mirrors: {a: }# x\n", "configs:\n  a:\n    auth: user:pass\n",
    "configs:\n  a:\n    auth: {}\n    tls: {}\n", "configs:\n  a:\n    auth:\n    tls:\n",
    "configs:\n  a: {}\n  b:\n  c: ~\n",
    "configs:\n  a:\n    auth:\n      username: u\n      password: p\n      auth: YTpi\n      identity_token: t\n      identitytoken: x\n      identityToken: x\n      token: x\n",
    "configs:\n  a:\n    tls:\n      ca_file: /c\n      cert_file: /d\n      key_file: /e\n      insecure_skip_verify: true\n",
    "auths:\n  a:\n    username: u\n", "auths: [a]\n", "auths: {a: {username: [b]}}\n", "auths: {a: b}\n",
    "mirrors: {a: {endpoints: [x], rewrites: {}, header: {}, override_path: true, capabilities: [pull], server: x}}\nmirror: {}\nconfig: {}\nconfigs: {a: {tls: {ca: x, caFile: x, skip_verify: true, insecure: true}}}\n",
    "unknown: [{\n  a: *b}]\n", "unknown: {a: b, a: c}\nmirrors: {a: }\n", "unknown: !!int x\n",
    "mirrors: {a: {unknown: !!binary x}}\n",
];

/// Keys that stand twice.
#[rustfmt::skip]
const DOUBLED: &[&str] = &[
    "mirrors: {a: {endpoint: [x]}, b: {}}\nmirrors: {a: {rewrite: {y: z}}, c: {}}\n",
    "mirrors: {a: {endpoint: [x]}, a: {rewrite: {y: z}}}\n",
    "configs: {a: {auth: {username: u}, auth: {password: p}}}\n",
    "configs: {a: {auth: {username: u}}, a: {auth: {password: p}}}\n",
    "configs: {a: {tls: {ca_file: x}, tls: {insecure_skip_verify: true}}}\n",
    "configs: {a: {auth: {username: u}, auth: }}\n", "configs: {a: {auth: , auth: {username: u}}}\n",
    "configs: {a: {auth: {username: u}, auth: {}}}\n", "mirrors: {a: {endpoint: [x, y], endpoint: [z]}}\n",
    "mirrors: {a: {endpoint: [x, y], endpoint: }}\n", "mirrors: {a: {endpoint: [x], endpoint: []}}\n",
    "mirrors: {a: {rewrite: {x: y, z: w}, rewrite: {x: v}}}\n", "mirrors: {a: {rewrite: {x: y}, rewrite: }}\n",
    "mirrors: {a: {rewrite: {x: y, x: }}}\n", "mirrors: {a: }\nmirrors: \n", "mirrors: {a: }\nmirrors: {}\n",
    "mirrors: {a: }\nmirrors: x\n", "configs: {a: {auth: {username: u, username: v, username: }}}\n",
    "configs: {a: {tls: {insecure_skip_verify: true, insecure_skip_verify: }}}\n",
    "mirrors: {a: {endpoint: [x]}, a: }\n", "mirrors: {1: {endpoint: [x]}, \"1\": {}, 0x1: {}}\n",
    "mirrors: {~: {endpoint: [x]}, \"\": {}}\n",
];

/// Anchors, aliases and merge keys.
#[rustfmt::skip]
const MERGES: &[&str] = &[
    "x: &x {endpoint: [y]}\nmirrors: {a: *x, b: *x}\n",
    "x-tls: &t\n  tls:\n    ca_file: /c\nconfigs:\n  a: *t\n  b:\n    <<: *t\n    auth: {username: u}\n",
    "mirrors: {a: &x {endpoint: [y]}, b: {<<: *x}}\n",
    "mirrors: {a: &x {endpoint: [y]}, b: {<<: *x, endpoint: [z]}}\n",
    "mirrors: {a: &x {endpoint: [y]}, b: {endpoint: [z], <<: *x}}\n",
    "mirrors: {a: &x {endpoint: [y]}, b: &y {endpoint: [z], rewrite: {r: s}}, c: {<<: [*x, *y]}}\n",
    "mirrors: {a: &x {endpoint: [y]}, b: &y {endpoint: [z], rewrite: {r: s}}, c: {<<: [*y, *x]}}\n",
    "mirrors: {a: {<<: {endpoint: [y]}}}\n", "mirrors: {a: {<<: [{endpoint: [y]}, {endpoint: [z]}]}}\n",
    "mirrors: {a: {<<: []}}\n", "mirrors: {a: {<<: }}\n", "mirrors: {a: {<<: x}}\n", "mirrors: {a: {<<: [x]}}\n",
    "mirrors: {a: {<<: [[]]}}\n", "x: &x y\nmirrors: {a: {<<: *x}}\n",
    "x: &x [{endpoint: [y]}]\nmirrors: {a: {<<: *x}}\n", "x: &x [{endpoint: [y]}]\nmirrors: {a: {<<: [*x]}}\n",
    "mirrors: {<<: {a: {endpoint: [y]}}, b: }\n", "<<: {mirrors: {a: }}\nconfigs: {b: }\n",
    "mirrors: {a: {\"<<\": {endpoint: [y]}}}\n", "mirrors: {a: {!!merge \"<<\": {endpoint: [y]}}}\n",
    "mirrors: {a: {!!merge <<: {endpoint: [y]}}}\n", "mirrors: {a: {! <<: {endpoint: [y]}}}\n",
    "mirrors: {a: {! \"<<\": {endpoint: [y]}}}\n", "mirrors: {a: {!!str <<: {endpoint: [y]}}}\n",
    "mirrors: {a: {<<: {endpoint: [y]}, <<: {endpoint: [z]}}}\n", "mirrors: {\"<<\": {a: }}\n",
    "mirrors: {a: {rewrite: {<<: {x: y}, z: w}}}\n", "mirrors: {a: {rewrite: {z: w, <<: {z: v}}}}\n",
    "mirrors: {a: {rewrite: {\"<<\": x}}}\n", "mirrors: {a: {rewrite: {<<: x}}}\n",
    "configs: {a: {auth: {username: u, <<: {username: v, password: p}}}}\n",
    "configs: {a: {auth: {<<: {username: v, password: p}, username: u}}}\n",
    "configs: {a: {<<: {auth: {username: v}}, auth: {password: p}}}\n",
    "configs: {a: &x {auth: {username: v}}, b: {<<: *x, auth: {password: p}}}\n", "mirrors: &x {a: *x}\n",
    "mirrors: {a: &x {rewrite: *x}}\n", "mirrors: {a: &x {<<: *x}}\n", "mirrors: {a: &x {<<: [*x]}}\n",
    "mirrors: {a: &x {unknown: *x}}\n", "x: &x {y: &x {endpoint: [b]}, z: *x}\nmirrors: {a: *x}\n",
    "mirrors: {&x a: {endpoint: [*x]}}\n", "mirrors: {a: {endpoint: &x [*x]}}\n",
    "mirrors: {a: {endpoint: [&x b, *x, &x c, *x]}}\n", "mirrors: *x\nx: &x {}\n",
    "x: &x\nmirrors: {a: *x, *x : {endpoint: [b]}}\n", "x: &x !!binary YQ==\nmirrors: {*x : {endpoint: [*x]}}\n",
    "x: &x yes\nconfigs: {a: {tls: {insecure_skip_verify: *x}, auth: {username: *x}}}\n",
    "x: &a:b {}\nmirrors: {a: *a:b}\n", "x: &a-b_1 {}\nmirrors: {a: *a-b_1}\n", "x: &é {}\n", "x: &a,b c\n",
    "mirrors: {a: &x}\nconfigs: {b: *x}\n", "mirrors: { ? &x a : &y , b: *y}\n",
];

/// Block scalars.
#[rustfmt::skip]
const BLOCKS: &[&str] = &[
    "mirrors:\n  a:\n    endpoint:\n    - |\n      x\n      y\n    - >\n      x\n      y\n\n      z\n    - |-\n      x\n    - |+\n      x\n\n    - >-\n      x\n       y\n      z\n    - |2\n        x\n    - |2-\n       x\n    - >+1\n      x\n\n",
    "mirrors:\n  a:\n    endpoint:\n    - |\n      x", "mirrors:\n  a:\n    endpoint:\n    - |",
    "mirrors:\n  a:\n    endpoint:\n    - |\n     x\n    y\n",
    "mirrors:\n  a:\n    endpoint:\n    - |\n\n\n      x\n     y\n",
    "mirrors:\n  a:\n    endpoint:\n    - |\n        \n      x\n",
    "mirrors:\n  a:\n    endpoint:\n    - |\n      x\n\t\n", "mirrors:\n  a:\n    endpoint:\n    - |\n\tx\n",
    "mirrors:\n  a:\n    endpoint:\n    - >\n      x\n      \ty\n",
    "mirrors:\n  a:\n    endpoint:\n    - >\n\n      x\n\n\n       y\n\n      z\n", "mirrors: |\n a\n",
    "configs:\n  a:\n    auth:\n      password: |\n        p\n      username: >-\n        u\n", "--- |\na\n",
    "--- >1\n a\n", "|\n a\n", "configs:\n  a:\n    auth:\n      password: | # c\n        p\n",
    "configs:\n  a:\n    auth:\n      password: |\n        p\n      # c\n      username: u\n",
    "configs:\n  a:\n    auth:\n      password: |\r\n        p\r\n        q\r\n",
    "configs:\n  a:\n    auth:\n      password: |\n        p\u{2028}        q\u{85}        r\n",
];

/// Scalars over several lines, and keys that look like something else.
#[rustfmt::skip]
const LINES: &[&str] = &[
    "configs:\n  a:\n    auth:\n      password: a\n        b\n\n        c\n",
    "configs:\n  a:\n    auth:\n      password: a\n      b\n", "configs:\n  a:\n    auth:\n      password: 'a\nb'\n",
    "configs:\n  a:\n    auth:\n      password: \"a\n\n\nb \\\n  c\"\n",
    "configs:\n  a:\n    auth:\n      password:\n        p\n",
    "configs:\n  a:\n    auth:\n      password:\n      p\n",
    "configs:\n  a:\n    auth:\n      password: a\n        b: c\n",
    "configs:\n  a:\n    auth:\n      password: \"a\": b\n", "configs:\n  a:\n    auth:\n      \"password\"    : p\n",
    "configs:\n  a:\n    auth:\n      'password':p\n", "configs:\n  a:\n    auth: {password:p}\n",
    "configs:\n  a:\n    auth: {\"password\":p}\n", "configs:\n  a:\n    auth: {password: p,username: u}\n",
    "configs:\n  a:\n    auth: {password: a:b, username: http://x}\n", "configs:\n  a:\n    auth: {password: a?b}\n",
    "configs:\n  a:\n    auth: {password: ?b}\n", "mirrors:\n  a.b:5000: {endpoint: [x]}\n",
    "mirrors:\n  [fd00::1]:5000: {endpoint: [x]}\n", "mirrors:\n  \"[fd00::1]:5000\": {endpoint: [x]}\n",
    "mirrors:\n  fd00::1: {endpoint: [x]}\n", "mirrors: {a.b:5000: {endpoint: [x]}}\n",
    "mirrors: {5000: , yes: , ~: , 1.5: , 0x10: , \"a\": }\n",
];
