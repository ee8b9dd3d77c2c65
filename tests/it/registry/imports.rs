//! Price lists of others: every entry accounted for, and prices that were worked out by hand.

use fallway::facts::{Capabilities, Price};
use fallway::registry::import::{Import, litellm, models_dev};
use fallway::registry::{Code, Keys, Nack, Patch, Placement, Publication, Registry, State};
use serde_json::Value;

const LITELLM: &str = include_str!("../../data/litellm-excerpt.json");
const MODELS_DEV: &str = include_str!("../../data/models-dev-excerpt.json");

/// The part of a list from `from` on, up to the next line that begins with `end`.
fn part<'l>(list: &'l str, from: &str, end: &str) -> &'l str {
    let start = list.find(from).unwrap_or_else(|| panic!("no {from}"));
    &list[start..start + list[start..].find(end).unwrap()]
}

fn price(import: &Import, version: &str, tokens: u64) -> Option<Price> {
    let version = import.catalog().find(version).unwrap_or_else(|| panic!("no {version}"));
    let price = version.known_price()?.at(tokens);
    Some(Price::pico(price.input(), price.output()))
}

#[test]
fn five_prices_of_litellm_are_those_that_its_lines_say() {
    let import = litellm(LITELLM.as_bytes()).unwrap();
    // USD per token, as the line has it; pico-dollars per token, by hand: the point moved by twelve places.
    for (model, version, tokens, lines, input, output) in [
        (
            "gpt-4o-mini",
            "gpt-4o-mini@listed",
            1_000,
            ["\"input_cost_per_token\": 1.5e-07,", "\"output_cost_per_token\": 6e-07,"],
            150_000,
            600_000,
        ),
        (
            "claude-sonnet-4-5",
            "claude-sonnet-4-5@listed",
            1_000,
            ["\"input_cost_per_token\": 3e-06,", "\"output_cost_per_token\": 1.5e-05,"],
            3_000_000,
            15_000_000,
        ),
        (
            "gemini-2.5-pro",
            "gemini-2.5-pro@listed",
            200_001,
            [
                "\"input_cost_per_token_above_200k_tokens\": 2.5e-06,",
                "\"output_cost_per_token_above_200k_tokens\": 1.5e-05,",
            ],
            2_500_000,
            15_000_000,
        ),
        (
            "text-embedding-3-small",
            "text-embedding-3-small@listed",
            1_000,
            ["\"input_cost_per_token\": 2e-08,", "\"output_cost_per_token\": 0.0,"],
            20_000,
            0,
        ),
        (
            "deepseek/deepseek-chat",
            "deepseek/deepseek-chat@listed",
            1_000,
            ["\"input_cost_per_token\": 2.8e-07,", "\"output_cost_per_token\": 4.2e-07,"],
            280_000,
            420_000,
        ),
    ] {
        let entry = part(LITELLM, &format!("    \"{model}\": {{"), "\n    }");
        lines.iter().for_each(|line| assert!(entry.contains(line), "{model}: {line}"));
        assert_eq!(price(&import, version, tokens), Some(Price::pico(input, output)), "{model}");
    }
    assert_eq!(price(&import, "gemini-2.5-pro@listed", 200_000), Some(Price::pico(1_250_000, 10_000_000)));
}

#[test]
fn five_prices_of_models_dev_are_those_that_its_lines_say() {
    let import = models_dev(MODELS_DEV.as_bytes()).unwrap();
    // USD per million tokens; pico-dollars per token, by hand: the point moved by six places.
    for (provider, model, tokens, lines, input, output) in [
        ("openai", "gpt-4o-mini", 1, ["\"input\": 0.15,", "\"output\": 0.6\n"], 150_000, 600_000),
        ("openai", "gpt-5.4", 272_001, ["\"input\": 5.0,", "\"output\": 22.5,"], 5_000_000, 22_500_000),
        ("anthropic", "claude-sonnet-4-5", 1, ["\"input\": 3.0,", "\"output\": 15.0\n"], 3_000_000, 15_000_000),
        ("google", "gemini-2.5-pro", 200_000, ["\"input\": 1.25,", "\"output\": 10.0,"], 1_250_000, 10_000_000),
        ("groq", "llama-3.3-70b-versatile", 1, ["\"input\": 0.59,", "\"output\": 0.79\n"], 590_000, 790_000),
    ] {
        let entry =
            part(part(MODELS_DEV, &format!("\n \"{provider}\": {{"), "\n }"), &format!("\"{model}\": {{"), "\n   }");
        lines.iter().for_each(|line| assert!(entry.contains(line), "{model}: {line} in {entry}"));
        let version = format!("{provider}/{model}@listed");
        assert_eq!(price(&import, &version, tokens), Some(Price::pico(input, output)), "{model}");
    }
}

#[test]
fn both_lists_say_what_cached_input_costs() {
    let (lite, dev) = (litellm(LITELLM.as_bytes()).unwrap(), models_dev(MODELS_DEV.as_bytes()).unwrap());
    for (import, version) in [(&lite, "gemini-2.5-pro@listed"), (&dev, "google/gemini-2.5-pro@listed")] {
        let price = import.catalog().find(version).unwrap().known_price().unwrap();
        let cached: Vec<_> = price.tiers().map(|(above, price)| (above, price.cached_input())).collect();
        assert_eq!(cached, [(0, 125_000), (200_000, 250_000)], "{version}");
    }
    // Who says nothing of a cache has no discount for what is in it.
    let small = lite.catalog().find("text-embedding-3-small@listed").unwrap().known_price().unwrap();
    assert_eq!((small.cached_input(), small.input()), (20_000, 20_000));
}

#[test]
fn what_cannot_be_taken_says_where_and_why() {
    let import = litellm(LITELLM.as_bytes()).unwrap();
    let told: Vec<_> = import.rejected().iter().map(|v| (v.path().as_str(), v.code())).collect();
    assert_eq!(
        told,
        [
            ("/1024-x-1024~150-steps~1bedrock~1amazon.nova-canvas-v1:0/mode", Code::NotByTokens),
            ("/bedrock~1*~11-month-commitment~1cohere.command-text-v14", Code::InvalidId),
            ("/sample_spec/mode", Code::NotByTokens),
        ]
    );
    assert_eq!((import.accepted(), import.total()), (7, 10));
    let dated = import.catalog().find("vertex_ai/claude-3-5-sonnet@20240620").unwrap();
    // 2026-02-19: 20,503 days after 1970-01-01.
    assert_eq!((dated.state(), dated.sunset_ms()), (State::Deprecated, Some(20_503 * 86_400_000)));
    let mini = import.catalog().find("gpt-4o-mini@listed").unwrap();
    assert_eq!((mini.context_limit(), mini.output_limit()), (Some(128_000), Some(16_384)));
    assert!(mini.known_capabilities().contains(Capabilities::TOOLS | Capabilities::VISION | Capabilities::STRUCTURED));

    let import = models_dev(MODELS_DEV.as_bytes()).unwrap();
    let told: Vec<_> = import.rejected().iter().map(|v| (v.path().as_str(), v.code())).collect();
    assert_eq!(told, [("/302ai/models/gemini-3-pro-image-preview", Code::InconsistentLimits)]);
    assert!(import.catalog().find("cloudflare-workers-ai/cf/meta/llama-3.3-70b-instruct-fp8-fast@listed").is_some());
    let unpriced = import.catalog().versions().filter(|(_, version)| version.known_price().is_none()).count();
    assert_eq!(unpriced, 1);
}

#[test]
fn hostile_entries_are_rejected_one_by_one_and_hostile_lists_at_once() {
    let list = br#"{
        "fine": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
        "half": {"mode": "chat", "input_cost_per_token": 1e-6},
        "negative": {"mode": "chat", "input_cost_per_token": -1e-6, "output_cost_per_token": 1e-6},
        "huge": {"mode": "chat", "input_cost_per_token": 1e300, "output_cost_per_token": 1e-6},
        "unit": {"mode": "chat", "input_cost_per_token": 2.5, "output_cost_per_token": 10},
        "text": {"mode": "chat", "input_cost_per_token": "free"},
        "window": {"mode": "chat", "max_input_tokens": "large"},
        "day": {"mode": "chat", "deprecation_date": "soon"},
        "a b": {"mode": "chat"},
        "ab\u202e": {"mode": "chat"},
        "number": 5,
        "dated@1": {"mode": "chat"}, "@dated@1": {"mode": "chat"}
    }"#;
    let import = litellm(list).unwrap();
    let told: Vec<_> = import.rejected().iter().map(|v| (v.path().as_str(), v.code())).collect();
    assert_eq!(
        told,
        [
            ("/a b", Code::InvalidId),
            ("/ab\\u{202e}", Code::InvalidId),
            ("/dated@1", Code::DuplicateKey),
            ("/day/deprecation_date", Code::WrongType),
            ("/huge/input_cost_per_token", Code::OutOfRange),
            ("/negative/input_cost_per_token", Code::Negative),
            ("/number", Code::WrongType),
            ("/text/input_cost_per_token", Code::WrongType),
            ("/unit", Code::OutOfRange),
            ("/window/max_input_tokens", Code::WrongType),
        ]
    );
    assert_eq!((import.accepted(), import.total()), (3, 13));
    assert_eq!(price(&import, "half@listed", 1), None, "half a price is none");
    for (list, code) in [
        (&b""[..], Code::Empty),
        (b"[]", Code::WrongType),
        (br#"{"a": {"mode": NaN}}"#, Code::NotJson),
        (br#"{"a": {}, "a": {}}"#, Code::DuplicateKey),
    ] {
        let first = |nack: Nack| nack.violations()[0].code();
        assert_eq!(litellm(list).map_err(first), Err(code));
        assert_eq!(models_dev(list).map_err(first), Err(code));
    }
    let broken = models_dev(br#"{"a": 1, "b": {}, "c": {"models": []}, "d": {"models": {"x": 1}}}"#).unwrap();
    assert_eq!((broken.accepted(), broken.rejected().len()), (0, 4));
}

#[test]
fn a_price_that_is_given_and_cannot_be_kept_is_said() {
    let list = br#"{"a": {"models": {
        "falls": {"cost": {"input": 2, "output": 6, "tiers": [{"input": 2.5, "output": 5, "tier": {"size": 200000}}]}},
        "half": {"cost": {"input": 2}},
        "fine": {"cost": {"input": 2, "output": 6}},
        "none": {},
        "wrong": {"cost": {"input": 2}, "limit": {"context": 1, "output": 2}}
    }}}"#;
    let import = models_dev(list).unwrap();
    let told =
        |import: &Import| -> Vec<_> { import.warnings().iter().map(|it| (it.path().to_string(), it.code())).collect() };
    let said = ["falls", "half"].map(|name| (format!("/a/models/{name}/cost"), Code::PriceUnknown));
    assert_eq!((told(&import), import.accepted()), (said.to_vec(), 4));
    let list = br#"{"half": {"mode": "chat", "input_cost_per_token": 1e-6}, "none": {"mode": "chat"}}"#;
    assert_eq!(told(&litellm(list).unwrap()), [("/half".to_owned(), Code::PriceUnknown)]);
}

#[test]
fn what_is_charged_by_the_query_is_not_free() {
    let list = br#"{
        "query": {"mode": "rerank", "input_cost_per_query": 0.002, "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
        "nothing": {"mode": "rerank", "input_cost_per_query": 0.0, "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
        "both": {"mode": "chat", "input_cost_per_query": 0.002, "input_cost_per_token": 1e-6, "output_cost_per_token": 0.0}
    }"#;
    let import = litellm(list).unwrap();
    let priced = |name: &str| price(&import, &format!("{name}@listed"), 1);
    assert_eq!(priced("query"), None, "unknown, which is never 0");
    let told: Vec<_> = import.warnings().iter().map(|it| (it.path().to_string(), it.code())).collect();
    assert_eq!(told, [("/query".to_owned(), Code::PriceUnknown)]);
    assert_eq!(priced("nothing"), Some(Price::pico(0, 0)));
    assert_eq!(priced("both"), Some(Price::pico(1_000_000, 0)));
}

#[test]
fn one_list_is_not_taken_for_the_other() {
    let other = litellm(MODELS_DEV.as_bytes()).unwrap();
    assert!(other.total() > 3 && other.accepted() == 0, "{} of {}", other.accepted(), other.total());
    assert!(other.rejected().iter().all(|violation| violation.code() == Code::Missing));
    let other = models_dev(LITELLM.as_bytes()).unwrap();
    assert_eq!((other.accepted(), other.total()), (0, 10));
}

#[test]
fn an_import_is_published_with_placements_of_the_host() {
    let import = litellm(LITELLM.as_bytes()).unwrap();
    let registry = Registry::builder().open(super::fixtures::at(0));
    registry.publish(&Publication::from(import.catalog().clone()), super::fixtures::at(0)).unwrap();
    let mine = fallway::registry::Catalog::new()
        .placement("a", Placement::new("gpt-4o-mini@listed", "openai", "us", "openai-main"))
        .alias("chat", fallway::registry::Alias::to("gpt-4o-mini@listed"));
    registry.publish(&Publication::from(Patch::new().put(mine)), super::fixtures::at(0)).unwrap();
    let found = registry.resolve("chat", Keys::seed(0)).unwrap();
    let price = Price::pico(150_000, 600_000).cached_pico(75_000).unwrap();
    assert_eq!(found.placements()[0].known_price(), Some(&price));
}

/// The whole lists, where they are: in `FALLWAY_DATA`, or beside the repository.
fn whole(file: &str) -> Option<Vec<u8>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data").to_owned();
    let directory = std::env::var("FALLWAY_DATA").unwrap_or(beside);
    let read = std::fs::read(format!("{directory}/{file}")).ok();
    if read.is_none() {
        println!("{file} is not there, so only its excerpt was tested");
    }
    read
}

fn summary(name: &str, import: &Import) {
    let mut reasons = std::collections::BTreeMap::<_, u32>::new();
    import.rejected().iter().for_each(|violation| *reasons.entry(violation.code()).or_default() += 1);
    println!("{name}: {} of {} entries taken; rejected: {reasons:?}", import.accepted(), import.total());
    let priced = import.catalog().versions().filter(|(_, version)| version.known_price().is_some()).count();
    println!("{name}: {priced} with a price");
}

#[test]
fn the_whole_of_litellm_is_accounted_for() {
    let Some(list) = whole("litellm-model-prices/model_prices_and_context_window.json") else { return };
    let import = litellm(&list).unwrap();
    summary("litellm", &import);
    let Value::Object(entries) = serde_json::from_slice(&list).unwrap() else { panic!() };
    assert_eq!(import.total(), entries.len());
    assert!(import.accepted() > 3_500 && import.rejected().len() > 500);
    assert_eq!(import.catalog().check(), []);
}

#[test]
fn the_whole_of_models_dev_is_accounted_for() {
    let Some(list) = whole("models-dev/providers.json") else { return };
    let import = models_dev(&list).unwrap();
    summary("models.dev", &import);
    let Value::Object(providers) = serde_json::from_slice(&list).unwrap() else { panic!() };
    let entries: usize = providers.values().map(|of| of["models"].as_object().unwrap().len()).sum();
    assert_eq!(import.total(), entries);
    assert!(import.accepted() > 5_000);
    assert_eq!(import.catalog().check(), []);
}
