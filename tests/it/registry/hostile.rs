//! Documents that mean harm, or were written in a hurry: refused with a code and a place, and nothing moves.

use super::fixtures::{at, catalog, codes, registry};
use fallway::facts::{Capabilities, Price};
use fallway::registry::{Alias, Catalog, Code, Envelope, ModelVersion, Nack, Placement, Publication, Snapshot};
use fallway::shape::Sticky;

/// What `registry` says to a document, after which everything must be as before.
fn refused(document: &[u8]) -> Vec<(Code, String)> {
    let registry = registry();
    let before = registry.view();
    let nack: Nack = match Publication::parse(document) {
        Ok(publication) => registry.publish(&publication.force("please"), at(1)).unwrap_err(),
        Err(nack) => nack,
    };
    assert!(!nack.to_string().is_empty());
    assert!(nack.violations().iter().all(|violation| violation.to_string().is_ascii()), "{nack}");
    // A source is told the same.
    assert!(registry.receive(document, at(1)).is_err());
    assert!(std::sync::Arc::ptr_eq(&before, &registry.view()), "something moved");
    codes(&nack)
}

fn version(fields: &str) -> String {
    format!(r#"{{"models": {{"m": {{"versions": {{"1": {{"state": "live"{fields}}}}}}}}}}}"#)
}

#[test]
fn each_wrong_document_has_its_code_and_its_place() {
    let deep = format!("{{\"models\": {}1{}}}", "[".repeat(50), "]".repeat(50));
    let here = "/models/m/versions/1";
    for (document, code, path) in [
        (String::new(), Code::Empty, String::new()),
        (" \n\t".to_owned(), Code::Empty, String::new()),
        ("null".to_owned(), Code::WrongType, String::new()),
        ("[]".to_owned(), Code::WrongType, String::new()),
        ("{".to_owned(), Code::NotJson, String::new()),
        (version(r#", "context": NaN"#), Code::NotJson, format!("{here}/context")),
        (version(r#", "context": Infinity"#), Code::NotJson, format!("{here}/context")),
        (version(r#", "context": -1"#), Code::Negative, format!("{here}/context")),
        (version(r#", "context": 0"#), Code::OutOfRange, format!("{here}/context")),
        (version(r#", "context": 1e3"#), Code::WrongType, format!("{here}/context")),
        (version(r#", "context": 99999999999999999999"#), Code::OutOfRange, format!("{here}/context")),
        (version(r#", "context": "many""#), Code::WrongType, format!("{here}/context")),
        (version(r#", "contxt": 1"#), Code::UnknownField, format!("{here}/contxt")),
        (version(r#", "state": "live""#), Code::DuplicateKey, format!("{here}/state")),
        (version(r#", "\u0073tate": "live""#), Code::DuplicateKey, format!("{here}/state")),
        (version(r#", "capabilities": ["magic"]"#), Code::UnknownValue, format!("{here}/capabilities")),
        (version(r#", "context": 100, "output": 101"#), Code::InconsistentLimits, format!("{here}/output")),
        (version(r#", "price": [{"input": -1, "output": 0}]"#), Code::Negative, format!("{here}/price/0/input")),
        (version(r#", "price": [{"input": 1000000000001, "output": 0}]"#), Code::OutOfRange, format!("{here}/price")),
        (
            version(r#", "price": [{"input": 18446744073709551616, "output": 0}]"#),
            Code::OutOfRange,
            format!("{here}/price/0/input"),
        ),
        (version(r#", "price": [{"input": 1}]"#), Code::Missing, format!("{here}/price/0/output")),
        (version(r#", "price": []"#), Code::UnorderedTiers, format!("{here}/price")),
        (
            version(r#", "price": [{"above": 5, "input": 1, "output": 1}]"#),
            Code::UnorderedTiers,
            format!("{here}/price"),
        ),
        (version(r#", "sunset_ms": 5"#), Code::NotDeprecated, here.to_owned()),
        (version(r#", "revision": "a b""#), Code::InvalidId, format!("{here}/revision")),
        (
            r#"{"models": {"m": {"versions": {"1": {"state": "alive"}}}}}"#.to_owned(),
            Code::UnknownValue,
            format!("{here}/state"),
        ),
        (r#"{"models": {"m": {"versions": {"1": {}}}}}"#.to_owned(), Code::Missing, format!("{here}/state")),
        (r#"{"aliases": {"a": {"targets": []}}}"#.to_owned(), Code::SplitSum, "/aliases/a/targets".to_owned()),
        (r#"{"aliases": {"a": {}}}"#.to_owned(), Code::Missing, "/aliases/a/targets".to_owned()),
        (
            r#"{"aliases": {"a": {"targets": [{"to": "a"}], "sticky": "glue"}}}"#.to_owned(),
            Code::UnknownValue,
            "/aliases/a/sticky".to_owned(),
        ),
        (
            r#"{"put": {}, "remove": {"aliases": ["nobody"]}}"#.to_owned(),
            Code::NotFound,
            "/remove/aliases/nobody".to_owned(),
        ),
        (r#"{"put": {"models": 1}}"#.to_owned(), Code::WrongType, "/put/models".to_owned()),
        (deep, Code::TooDeep, format!("/models{}", "/0".repeat(31))),
    ] {
        let found = refused(document.as_bytes());
        assert!(found.contains(&(code, path.clone())), "{document}: {code} at {path:?}, found {found:?}");
    }
    assert_eq!(refused(&[b'{', b'"', 0xff, b'"', b'}'])[0].0, Code::NotUtf8);
    assert_eq!(refused(&[0xef, 0xbb, 0xbf, b'{', b'}'])[0].0, Code::NotJson, "a byte order mark is no JSON");
}

#[test]
fn a_byte_too_many_is_too_many() {
    let mut document = catalog().to_bytes();
    document.resize(16 << 20, b' ');
    assert!(Catalog::parse(&document).is_ok());
    document.push(b' ');
    assert_eq!(refused(&document), [(Code::TooLarge, String::new())]);
    // What a program builds is held to the same: it could not be read back.
    let long = "x".repeat(120);
    let mut large = Catalog::new().version("m", "1", ModelVersion::new(fallway::registry::State::Live));
    for n in 0..60_000 {
        large = large.placement(format!("{long}-{n}"), Placement::new("m@1", &*long, "r", format!("e{n}")));
    }
    let nack = fallway::registry::Snapshot::new(large).unwrap_err();
    assert_eq!(nack.violations()[0].code(), Code::TooLarge);
}

#[test]
fn names_are_plain_and_endpoints_are_no_addresses() {
    for name in
        ["", " ", "a b", "-a", "é", "a\u{202e}b", "a\u{200b}", "ｍ", "a\0", "a\n", "a\"b", "a\\b", &"x".repeat(129)]
    {
        let placement = Placement::new("llama-8b@1", "acme", "eu", "x");
        for (what, wrong) in [
            ("models", catalog().version(name, "1", ModelVersion::new(fallway::registry::State::Draft))),
            ("models", catalog().version("m", name, ModelVersion::new(fallway::registry::State::Draft))),
            ("placements", catalog().placement(name, placement.clone())),
            ("placements", catalog().placement("p", Placement::new("llama-8b@1", name, "eu", "x"))),
            ("placements", catalog().placement("p", Placement::new("llama-8b@1", "acme", name, "x"))),
            ("placements", catalog().placement("p", Placement::new("llama-8b@1", "acme", "eu", name))),
            ("placements", catalog().placement("p", placement.residency([name]))),
            ("aliases", catalog().alias(name, Alias::to("llama-8b@1"))),
        ] {
            let found = refused(&wrong.to_bytes());
            assert_eq!(found[0].0, Code::InvalidId, "{name:?}: {found:?}");
            assert!(found[0].1.starts_with(&format!("/{what}/")), "{name:?}: {found:?}");
        }
    }
    for endpoint in ["https://host/v1", "admin:hunter2@host:443/v1"] {
        let address = catalog().placement("p", Placement::new("llama-8b@1", "acme", "eu", endpoint));
        assert_eq!(refused(&address.to_bytes()), [(Code::EndpointIsAddress, "/placements/p/endpoint".to_owned())]);
    }
    let two = catalog().version("m", "1@2", ModelVersion::new(fallway::registry::State::Draft));
    assert_eq!(refused(&two.to_bytes())[0].0, Code::InvalidId);
}

#[test]
fn references_lead_somewhere_and_never_in_circles() {
    let alias = |targets: &[(&str, u32)]| Alias::split(targets.iter().map(|(target, share)| (*target, *share)));
    let chain = |length: usize| {
        let mut catalog = catalog().alias("a0", Alias::to("llama-8b@1"));
        for n in 1..length {
            catalog = catalog.alias(format!("a{n}"), Alias::to(format!("a{}", n - 1)));
        }
        catalog
    };
    assert_eq!(chain(4).check(), []);
    let live = || ModelVersion::new(fallway::registry::State::Live);
    for (wrong, code, path) in [
        (catalog().alias("a", Alias::to("a")), Code::AliasCycle, "/aliases/a"),
        (catalog().alias("a", Alias::to("b")).alias("b", Alias::to("a")), Code::AliasCycle, "/aliases/b"),
        (catalog().alias("a", Alias::to("chat").fallback(["a"])), Code::AliasCycle, "/aliases/a/fallback/0"),
        (catalog().alias("a", Alias::to("chat").fallback(["nobody"])), Code::UnknownTarget, "/aliases/a/fallback/0"),
        (
            catalog().alias("a", Alias::to("chat").fallback(["small", "small"])),
            Code::DuplicateTarget,
            "/aliases/a/fallback/1",
        ),
        (chain(5), Code::AliasTooDeep, "/aliases/a4"),
        (catalog().alias("a", Alias::to("nobody")), Code::UnknownTarget, "/aliases/a/targets/0"),
        (
            catalog().alias("a", alias(&[("small", 5_000), ("small", 5_000)])),
            Code::DuplicateTarget,
            "/aliases/a/targets/1",
        ),
        (catalog().alias("a", alias(&[("small", 9_999)])), Code::SplitSum, "/aliases/a/targets"),
        (catalog().alias("a", alias(&[("small", u32::MAX), ("chat", 10_001)])), Code::SplitSum, "/aliases/a/targets"),
        (catalog().alias("llama-8b@1", Alias::to("chat")), Code::AmbiguousName, "/aliases/llama-8b@1"),
        (catalog().version("n", "1", live()).alias("a", Alias::to("n@1")), Code::NoPlacement, "/aliases/a/targets/0"),
        (
            catalog().version("llama-8b", "1", ModelVersion::new(fallway::registry::State::Retired)),
            Code::NotServable,
            "/aliases/small/targets/0",
        ),
        (
            catalog().placement("eu-s", Placement::new("llama-8b@1", "acme", "eu", "c").weight(0)),
            Code::NoPlacement,
            "/aliases/small/targets/0",
        ),
        (
            catalog().placement("p", Placement::new("nobody@1", "a", "b", "c")),
            Code::UnknownVersion,
            "/placements/p/version",
        ),
        (
            catalog().placement("twin", Placement::new("llama-8b@1", "acme", "eu-west", "eu-c")),
            Code::DuplicatePlacement,
            "/placements/twin",
        ),
        (
            catalog().placement("p", Placement::new("llama-8b@1", "a", "b", "c").quota(Some(0), None)),
            Code::OutOfRange,
            "/placements/p/requests_per_minute",
        ),
    ] {
        let found = refused(&wrong.to_bytes());
        assert!(found.contains(&(code, path.to_owned())), "{code} at {path}, found {found:?}");
    }
}

#[test]
fn a_price_that_can_not_be_one_is_refused_as_it_is_read() {
    let price = Price::pico(3, 3).above(5, Price::pico(4, 4)).unwrap();
    let text = String::from_utf8(
        catalog().version("m", "1", ModelVersion::new(fallway::registry::State::Live).price(price)).to_bytes(),
    )
    .unwrap();
    let tiers = r#""price":[{"input":3,"output":3},{"above":5,"input":4,"output":4}]"#;
    assert!(text.contains(tiers), "{text}");
    for (wrong, code) in [
        (r#""price":[{"above":1,"input":3,"output":3},{"above":5,"input":4,"output":4}]"#, Code::UnorderedTiers),
        (r#""price":[{"input":3,"output":3},{"input":4,"output":4}]"#, Code::UnorderedTiers),
        (r#""price":[{"input":3,"output":3},{"above":5,"input":2,"output":4}]"#, Code::UnorderedTiers),
        (r#""price":[]"#, Code::UnorderedTiers),
        (r#""price":[{"cached":4,"input":3,"output":3}]"#, Code::OutOfRange),
    ] {
        let found = refused(text.replace(tiers, wrong).as_bytes());
        assert!(found.contains(&(code, "/models/m/versions/1/price".to_owned())), "{code} of {wrong}, found {found:?}");
    }
}

#[test]
fn a_hundred_thousand_aliases_in_a_row_or_a_ring_are_refused_in_time() {
    let row = |ring: bool| {
        let mut catalog = catalog();
        for n in 0..100_000 - 2 {
            let next = if n == 0 && !ring { "small".to_owned() } else { format!("a{}", (n + 99_997) % 99_998) };
            catalog = catalog.alias(format!("a{n}"), Alias::to(next));
        }
        catalog.check()
    };
    let (line, ring) = (row(false), row(true));
    assert_eq!((line.len(), line[0].code()), (99_998 - 3, Code::AliasTooDeep));
    assert_eq!((ring.len(), ring[0].code()), (99_998, Code::AliasCycle));
}

#[test]
fn what_is_written_is_read_back_as_it_was_and_has_one_identity() {
    let rich = catalog()
        .version(
            "m",
            "2",
            ModelVersion::new(fallway::registry::State::Draft)
                .capabilities(Capabilities::VISION | Capabilities::custom(3))
                .price(Price::pico(0, 7).above(200_000, Price::pico(4, 8).cached_pico(1).unwrap()).unwrap())
                .revision("sha256:abc"),
        )
        .placement(
            "q",
            Placement::new("m@2", "a", "b", "c")
                .quota(Some(60), Some(1_000))
                .weight(0)
                .priority(3)
                .price(Price::pico(1, 1)),
        )
        .alias("s", Alias::split([("small", 10_000), ("chat", 0)]).sticky(Sticky::Tenant).fallback(["chat"]));
    assert_eq!(rich.check(), []);
    let bytes = rich.to_bytes();
    let back = Catalog::parse(&bytes).unwrap();
    assert_eq!(back, rich);
    assert_eq!(back.to_bytes(), bytes);
    // However it is laid out, it is the same content.
    let loose = String::from_utf8(bytes).unwrap().replace(',', " ,\n").replace(':', ": ").replace(": abc", ":abc");
    assert_eq!(Catalog::parse(loose.as_bytes()).unwrap().digest(), rich.digest());
    assert_eq!(
        catalog().digest().to_string(),
        "b6b8898ebb375bd4d3a3d02526d08ae82e724bdee81c97887c0ed147acac7016",
        "the canonical bytes have changed: every snapshot on every disk gets another identity"
    );
}

#[test]
fn a_source_is_told_the_place_in_its_own_document() {
    let registry = registry();
    let places = |document: &[u8]| codes(&registry.receive(document, at(1)).unwrap_err());
    let wrong = catalog().alias("chat", Alias::to("nobody"));
    let path = "/aliases/chat/targets/0".to_owned();
    assert_eq!(places(&wrong.to_bytes()), [(Code::UnknownTarget, path.clone())]);
    let sent = Envelope::new(wrong, 1).to_bytes();
    assert_eq!(places(&sent), [(Code::UnknownTarget, format!("/catalog{path}"))]);
    let misspelt = String::from_utf8(sent).unwrap().replacen("\"share\":10000", "\"share\":true", 1);
    assert_eq!(places(misspelt.as_bytes()), [(Code::WrongType, format!("/catalog{path}/share"))]);
    assert_eq!(places(&Envelope::new(Catalog::new(), 1).to_bytes())[0].1, "/catalog/models");
}

#[test]
fn a_mistake_in_every_ten_bytes_is_not_told_a_hundred_times_over() {
    let name = "\u{10ffff}".repeat(128);
    let fields: String = (0..50_000).map(|n| format!(",\"{n:x}\":0")).collect();
    let targets = vec!["{\"to\":\"\"}"; 50_000].join(",");
    let told = |nack: Nack| -> usize {
        nack.violations().iter().map(|violation| violation.path().as_str().len() + violation.message().len()).sum()
    };
    // Fields that nobody knows, and targets that nobody knows: wrong in form, and wrong in sense.
    let form = format!(r#"{{"models":{{"{name}":{{"versions":{{"{name}":{{"state":"live"{fields}}}}}}}}}}}"#);
    let sense = format!(r#"{{"aliases":{{"{name}":{{"targets":[{targets}]}}}}}}"#);
    for nack in [Catalog::parse(form.as_bytes()).unwrap_err(), Snapshot::parse(sense.as_bytes()).unwrap_err()] {
        let bytes = told(nack);
        assert!((Nack::TOLD / 2..Nack::TOLD + 4_096).contains(&bytes), "{bytes}");
    }
}
