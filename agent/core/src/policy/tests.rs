use proptest::prelude::*;

use super::*;

/// The block of the documentation, with every key at its default.
const DEFAULTS: &str = r#"
version: 1
mode: manage            # manage | report | restore
adopt: refuse           # refuse | replace
pause: false
order: canary           # canary | servers-first
maxUnavailable: 1       # number or "10%"
settle: 2s
windows: []             # - {days: [Sat, Sun], start: "02:00", end: "05:00", zone: Europe/Berlin}
deadline: 120s
drift: restore          # restore | report
preflight: {credential: enforce, tls: warn, name: warn, route: warn, realm: warn, api: warn}   # enforce | warn | off
proof: {images: [], timeout: 60s}
secrets: []             # - {namespace: honeydue, name: gitea-credentials}
allowRemoval: false
unit: ""                # when discovery cannot decide; also as Node annotation
"#;

fn errors(text: &str) -> Vec<String> {
    Policy::parse(text).expect_err(text).iter().map(ToString::to_string).collect()
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    assert_eq!(Policy::parse(DEFAULTS), Ok(Policy::default()));
    for empty in ["", "# nothing\n", "---\n", "{}"] {
        assert_eq!(Policy::parse(empty), Ok(Policy::default()), "{empty:?}");
    }
}

#[test]
fn every_key_is_read_into_its_field() {
    let text = r#"
mode: restore
adopt: replace
pause: true
order: servers-first
maxUnavailable: "10%"
settle: 1m 30s
windows:
  - {days: [Sat, Sun], start: "22:00", end: "05:00", zone: Europe/Berlin}
deadline: 5 minutes
drift: report
preflight: {credential: warn, tls: enforce, name: off, route: enforce, realm: off, api: enforce}
proof: {images: ["r.example.com/app:1"], timeout: 2m}
secrets: [{namespace: honeydue, name: gitea-credentials}]
allowRemoval: true
unit: k3s-agent@a.service
"#;
    use Enforcement::{Enforce, Off, Warn};
    let zone = jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").expect("a zone");
    let clock = |text| Clock::parse(text).expect("a time");
    let expected = Policy {
        mode: Mode::Restore,
        adopt: Adopt::Replace,
        pause: true,
        order: Order::ServersFirst,
        max_unavailable: MaxUnavailable::Percent(10),
        settle: Duration::from_secs(90),
        windows: vec![Window {
            days: vec![Day::Saturday, Day::Sunday],
            start: clock("22:00"),
            end: clock("05:00"),
            zone,
        }],
        deadline: Duration::from_secs(300),
        drift: Drift::Report,
        preflight: Preflight { credential: Warn, tls: Enforce, name: Off, route: Enforce, realm: Off, api: Enforce },
        proof: Proof { images: vec!["r.example.com/app:1".into()], timeout: Duration::from_secs(120) },
        secrets: vec![SecretName { namespace: "honeydue".into(), name: "gitea-credentials".into() }],
        allow_removal: true,
        unit: "k3s-agent@a.service".into(),
    };
    assert_eq!(Policy::parse(text), Ok(expected));
}

#[test]
fn mistakes_are_named_with_place_key_and_remedy() {
    for (text, expected) in [
        ("maxUnavailble: 1", "line 1, column 1: maxUnavailble: unknown key; did you mean `maxUnavailable`?"),
        ("a: 1\n", "line 1, column 1: a: unknown key; known here: version, mode"),
        ("preflight:\n  tsl: warn", "line 2, column 3: preflight.tsl: unknown key; did you mean `tls`?"),
        ("version: 2", "line 1, column 10: version: version 2 is not known here: this release reads version 1 only"),
        ("version: \"1\"", "version: must be the number 1, not a text"),
        ("mode: mange", "line 1, column 7: mode: must be one of `manage`, `report`, `restore`; did you mean `manage`?"),
        ("pause: yes", "line 1, column 8: pause: must be `true` or `false`, without quotes, not a text"),
        ("pause: \"true\"", "pause: must be `true` or `false`"),
        ("preflight: {tls: false}", "preflight.tls: must be one of `enforce`, `warn`, `off`"),
        ("maxUnavailable: 0", "at least 1"),
        ("maxUnavailable: -1", "at least 1"),
        ("maxUnavailable: 1.5", "at least 1"),
        ("maxUnavailable: \"2\"", "a number of nodes"),
        ("maxUnavailable: 0%", "1 to 100"),
        ("maxUnavailable: 101%", "1 to 100"),
        ("settle: 2", "settle: must be a duration with its unit"),
        ("settle: 0s", "between 1ms and 10m"),
        ("settle: -2s", "between 1ms and 10m"),
        ("settle: 11m", "between 1ms and 10m"),
        ("settle: soon", "is not a duration"),
        ("deadline: 2h", "between 1s and 60m"),
        ("proof: {timeout: 1h}", "between 1s and 30m"),
        ("windows: [{start: \"02:00\", end: \"05:00\"}]", "windows[0]: needs `start`, `end` and `zone`"),
        ("windows: [{start: \"2:00\", end: \"05:00\", zone: UTC}]", "windows[0].start: must be a time of day"),
        ("windows: [{start: \"02:00\", end: \"02:00\", zone: UTC}]", "starts when it ends"),
        ("windows: [{start: \"02:00\", end: \"05:00\", zone: Europe/Berln}]", "did you mean `Europe/Berlin`?"),
        (
            "windows: [{days: [Saturday], start: \"02:00\", end: \"05:00\", zone: UTC}]",
            "windows[0].days[0]: must be one of",
        ),
        ("windows: {days: [Sat]}", "windows: must be a list, not a mapping"),
        ("proof: {images: [app]}", "proof.images[0]: must be an image with its registry"),
        ("secrets: [{name: a}]", "secrets[0]: needs `namespace` and `name`"),
        ("secrets: [{name: A_b, namespace: x}]", "secrets[0].name: must be a Kubernetes name"),
        ("secrets: [{name: a, namespace: x}, {name: a, namespace: x}]", "secrets[1]: stands in the list already"),
        ("unit: ../x", "unit: must be the name of a systemd unit"),
        ("- a", "(top level): must be a mapping, not a list"),
        ("mode: manage\nmode: manage", "line 2, column 1: (top level): is not YAML: duplicate mapping key: mode"),
        ("mode: [", "is not YAML"),
        ("mode: manage\n---\nmode: report", "is not YAML"),
    ] {
        let errors = errors(text);
        assert!(errors.iter().any(|error| error.contains(expected)), "{text}\n{errors:#?}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let errors = errors("mode: x\npuse: true\nsettle: 2\nproof: {timeout: 1h, image: []}\n");
    assert_eq!(errors.len(), 5, "{errors:#?}");
}

#[test]
fn a_huge_or_deep_text_is_refused() {
    assert!(errors(&"# comment\n".repeat(10_000))[0].contains("longer than"));
    assert!(errors(&"[".repeat(10_000))[0].contains("is not YAML"));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
    assert!(errors(bomb)[0].contains("is not YAML"));
}

#[test]
fn per_cents_are_rounded_down_and_one_is_always_let_through() {
    assert_eq!(MaxUnavailable::Percent(10).of(39), 3);
    assert_eq!(MaxUnavailable::Percent(10).of(5), 1);
    assert_eq!(MaxUnavailable::Percent(100).of(5), 5);
    assert_eq!(MaxUnavailable::Number(3).of(0), 3);
}

#[test]
fn without_windows_it_is_always_open_and_with_them_in_any() {
    let noon = "2026-01-10T12:00:00Z".parse().expect("a time");
    assert!(Policy::default().is_open(noon));
    let windows = |text: &str| Policy::parse(&format!("windows: [{text}]")).expect("valid");
    let night = "{start: \"01:00\", end: \"02:00\", zone: UTC}";
    assert!(!windows(night).is_open(noon));
    assert!(windows(&format!("{night}, {{start: \"12:00\", end: \"12:01\", zone: UTC}}")).is_open(noon));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>(), key in prop::sample::select(vec!["settle", "windows", "mode", "secrets"])) {
        let _ = Policy::parse(&text);
        let _ = Policy::parse(&format!("{key}: {text}"));
    }
}
