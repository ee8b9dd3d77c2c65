//! What the prose says against what the code does.

use fallway::backend::{BackendError, FailureKind};
use fallway::budget::{Backoff, Hedge, RetryBudget};
use fallway::facts::{Adaptive, Prefix};
use fallway::limit::Bulkheads;
use fallway::policy::{Budgets, Capacity, FailSafe, Regions, Window};
use fallway::recover::Ejection;
use fallway::registry::store::Store;
use fallway::registry::{Alias, Judge, Nack, Placement, Poller, Registry, Warming};
use fallway::shape::{Mirror, RateLimit, SpendLimit};
use fallway::signal::{LoadReport, LoadReports, Probing, Quorum, QuotaReport, Score, SuccessRate};
use fallway::sim::{EnvoyExact, Lengths, Request, Server, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

type Router = fallway::Router<str, ()>;
type HttpProbe = fallway::adapt::http::HttpProbe<(), fn(&fallway::Profile) -> Option<hyper::Uri>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The crate docs as they are written, without the comment marks.
fn crate_docs() -> String {
    let lib = read("src/lib.rs");
    let lines = lib.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect()
}

/// The part of a page below `heading`, up to the next heading.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let title = format!("{heading}\n");
    let start = page.find(&title).unwrap_or_else(|| panic!("no heading {heading:?}")) + title.len();
    let end = page[start..].find("\n#").map_or(page.len(), |end| start + end);
    &page[start..end]
}

/// The rows of the table whose heading begins with `first`, cell by cell.
pub(crate) fn table<'p>(page: &'p str, first: &str) -> Vec<Vec<&'p str>> {
    let head = format!("| {first} |");
    let lines = page.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<_>> = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert!(!rows.is_empty(), "no table {first:?}");
    rows
}

fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

fn time(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{} ms", duration.as_millis()),
    }
}

fn doubling((base, most): (Duration, Duration)) -> String {
    format!("{} doubling to {}", time(base), time(most))
}

/// Every file below `directory` whose name ends with `end`.
fn files(directory: &str, end: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(directory)]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn readme_and_crate_docs_make_the_same_promise() {
    let (readme, docs) = (read("README.md"), crate_docs());
    let promise = docs.lines().next().unwrap();
    assert_eq!(promise.trim_end_matches('.'), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(readme.lines().nth(2), Some(promise));
    let diagram = |page: &str| {
        let end = page.find("```text\n").map(|start| &page[start + 8..]).unwrap();
        end[..end.find("```").unwrap()].to_owned()
    };
    assert_eq!(diagram(&readme), diagram(&docs));
}

#[test]
fn readme_crate_docs_and_manifest_have_the_same_features() {
    let (readme, docs, manifest) = (read("README.md"), crate_docs(), read("Cargo.toml"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(section(&readme, "## Features")), words(section(&docs, "# Features")));
    let told: BTreeSet<_> = table(&docs, "feature").into_iter().map(|row| code(row[0])).collect();
    let declared = manifest.lines().skip_while(|line| *line != "[features]").skip(1);
    let declared = declared.take_while(|line| !line.starts_with('['));
    let declared = declared.filter_map(|line| Some(line.split_once('=')?.0.trim()));
    assert_eq!(told, declared.filter(|name| !name.starts_with('#') && *name != "default").collect());
    assert!(table(&docs, "feature").iter().all(|row| row[2] == "off"));
    let version = format!("Minimum supported Rust version: {}.", env!("CARGO_PKG_RUST_VERSION"));
    assert!(readme.contains(&version), "the README does not say {version:?}");
}

#[test]
fn the_failure_table_is_that_of_the_code() {
    let page = read("docs/failures.md");
    let conduct = FailureKind::ALL.map(|kind| {
        let it = kind.conduct();
        let cells = [
            format!("`{kind}`"),
            format!("{:?}", it.fault),
            format!("{:?}", it.retry),
            format!("{:?}", it.replay),
            format!("{:?}", it.cools),
            format!("{:?}", it.billed),
        ];
        cells.to_vec()
    });
    assert_eq!(table(&page, "kind"), conduct);
}

#[test]
fn the_http_tables_are_those_of_the_code() {
    let page = read("docs/failures.md");
    let kind = |status, detail| BackendError::from_http(status, |_| None, detail, SystemTime::UNIX_EPOCH).kind();
    let statuses = table(&page, "status");
    let mut named = BTreeMap::new();
    let mut other = BTreeMap::new();
    for row in &statuses {
        match row[0].split(", ").map(str::parse::<u16>).collect::<Result<Vec<_>, _>>() {
            Ok(statuses) => named.extend(statuses.into_iter().map(|status| (status, code(row[1])))),
            Err(_) => assert!(other.insert(row[0], code(row[1])).is_none()),
        }
    }
    for status in 100..=699 {
        let class = match status {
            400..=499 => "other 4xx",
            500..=599 => "other 5xx",
            _ => "anything else",
        };
        assert_eq!(named.get(&status).unwrap_or(&other[class]), &kind(status, "").as_str(), "{status}");
    }
    for row in table(&page, "detail") {
        for detail in row[0].split(", ").map(code) {
            assert_eq!(kind(400, detail).as_str(), code(row[1]), "{detail}");
        }
    }
}

#[test]
fn every_public_default_stands_in_the_docs_with_its_value() {
    let growth = |base, most| doubling((Duration::from_millis(base), Duration::from_millis(most)));
    assert_eq!(Backoff::FAILURE, Backoff::new(Duration::from_millis(50), Duration::from_secs(8)));
    assert_eq!(Backoff::THROTTLED, Backoff::new(Duration::from_secs(1), Duration::from_secs(8)));
    let [standard, sheddable, batch] = Capacity::CEILINGS;
    let in_code: BTreeMap<&str, String> = [
        ("Router::DEFAULT_DEADLINE", time(Router::DEFAULT_DEADLINE)),
        ("Router::DEFAULT_IDLE_LIMIT", time(Router::DEFAULT_IDLE_LIMIT)),
        ("Router::DEFAULT_LARGEST_ITEM", format!("{} MiB", Router::DEFAULT_LARGEST_ITEM >> 20)),
        ("Router::DEFAULT_QUEUE", Router::DEFAULT_QUEUE.to_string()),
        ("Router::DEFAULT_LONGEST_WAIT", time(Router::DEFAULT_LONGEST_WAIT)),
        ("Router::MOST_WEIGHT", Router::MOST_WEIGHT.to_string()),
        ("FailSafe::ATTEMPTS", FailSafe::ATTEMPTS.to_string()),
        ("FailSafe::PANIC_THRESHOLD", FailSafe::PANIC_THRESHOLD.to_string()),
        ("FailSafe::TRIAL_INTERVAL", time(FailSafe::TRIAL_INTERVAL)),
        ("FailSafe::RESERVE", time(FailSafe::RESERVE)),
        ("FailSafe::LAST_RESORT_RESERVE", time(FailSafe::LAST_RESORT_RESERVE)),
        ("Backoff::FAILURE", growth(50, 8_000)),
        ("Backoff::THROTTLED", growth(1_000, 8_000)),
        ("RetryBudget::RATIO", RetryBudget::RATIO.to_string()),
        ("RetryBudget::RESERVE", format!("{} per second", RetryBudget::RESERVE)),
        ("RetryBudget::WINDOW", time(RetryBudget::WINDOW)),
        ("Hedge::SHARE", Hedge::SHARE.to_string()),
        ("Hedge::WARM_UP", Hedge::WARM_UP.to_string()),
        ("Hedge::MOST_TOKENS", Hedge::MOST_TOKENS.to_string()),
        ("Hedge::SAVED", Hedge::SAVED.to_string()),
        ("RetryBudget::CELLS", RetryBudget::CELLS.to_string()),
        ("Bulkheads::CELLS", Bulkheads::CELLS.to_string()),
        ("Ejection::CONSECUTIVE", Ejection::CONSECUTIVE.to_string()),
        ("Ejection::FAILURE_RATE", Ejection::FAILURE_RATE.to_string()),
        ("Ejection::MIN_SAMPLES", Ejection::MIN_SAMPLES.to_string()),
        ("Ejection::WINDOW", time(Ejection::WINDOW)),
        ("Ejection::LATENCY_FACTOR", Ejection::LATENCY_FACTOR.to_string()),
        ("Ejection::LATENCY_PEERS", Ejection::LATENCY_PEERS.to_string()),
        ("Ejection::DEVIATIONS", Ejection::DEVIATIONS.to_string()),
        ("Ejection::SUCCESS_POOL", Ejection::SUCCESS_POOL.to_string()),
        ("Ejection::SUCCESS_SAMPLES", Ejection::SUCCESS_SAMPLES.to_string()),
        ("Ejection::SUCCESS_GAP", Ejection::SUCCESS_GAP.to_string()),
        ("Ejection::MAX_OUTLIERS", Ejection::MAX_OUTLIERS.to_string()),
        ("Ejection::MIN_AVAILABLE", Ejection::MIN_AVAILABLE.to_string()),
        ("Ejection::DOMAIN_WINDOW", time(Ejection::DOMAIN_WINDOW)),
        ("Ejection::AGGRESSION", Ejection::AGGRESSION.to_string()),
        ("Ejection::EJECT", doubling(Ejection::EJECT)),
        ("Ejection::OVERLOADED", doubling(Ejection::OVERLOADED)),
        ("Ejection::UNREACHABLE", doubling(Ejection::UNREACHABLE)),
        ("Ejection::SLOW_START", time(Ejection::SLOW_START)),
        ("Ejection::FIRST_SHARE", format!("{} of 1000", Ejection::FIRST_SHARE)),
        ("Ejection::PROBE_LEASE", time(Ejection::PROBE_LEASE)),
        ("Ejection::MODEL_UNAVAILABLE", time(Ejection::MODEL_UNAVAILABLE)),
        ("Ejection::UNAUTHORIZED", time(Ejection::UNAUTHORIZED)),
        ("Ejection::QUOTA_EXHAUSTED", time(Ejection::QUOTA_EXHAUSTED)),
        ("Ejection::RATE_LIMITED", doubling(Ejection::RATE_LIMITED)),
        ("Regions::OVERPROVISIONING", Regions::OVERPROVISIONING.to_string()),
        ("Regions::THRESHOLDS", format!("{} and {}", Regions::THRESHOLDS.0, Regions::THRESHOLDS.1)),
        ("Regions::HEADROOM", format!("{} and {}", Regions::HEADROOM.0, Regions::HEADROOM.1)),
        ("Regions::HOLD", doubling(Regions::HOLD)),
        ("Regions::RAMP", time(Regions::RAMP)),
        ("Regions::HOLD_SHARE", format!("{} of 1000", Regions::HOLD_SHARE)),
        ("Regions::CLEAN", time(Regions::CLEAN)),
        ("Budgets::ENOUGH", Budgets::ENOUGH.to_string()),
        ("Capacity::HEADROOM", format!("{} and {}", Capacity::HEADROOM.0, Capacity::HEADROOM.1)),
        ("Capacity::CEILINGS", format!("{standard}, {sheddable} and {batch}")),
        ("Adaptive::KEEPS", Adaptive::KEEPS.to_string()),
        ("Adaptive::ANSWERS", Adaptive::ANSWERS.to_string()),
        ("Adaptive::SLOWER", Adaptive::SLOWER.to_string()),
        ("BackendError::MIN_RETRY_AFTER", time(BackendError::MIN_RETRY_AFTER)),
        ("BackendError::MAX_RETRY_AFTER", time(BackendError::MAX_RETRY_AFTER)),
        ("Score::HEALTHY", format!("{} of 1000", Score::HEALTHY.permille())),
        ("Window::SIZE", Window::SIZE.to_string()),
        ("SuccessRate::WINDOW", time(SuccessRate::WINDOW)),
        ("SuccessRate::OUTCOMES", SuccessRate::OUTCOMES.to_string()),
        ("Probing::INTERVAL", time(Probing::INTERVAL)),
        ("Probing::LIMIT", time(Probing::LIMIT)),
        ("Probing::JITTER", Probing::JITTER.to_string()),
        ("Probing::UNHEALTHY_AFTER", Probing::UNHEALTHY_AFTER.to_string()),
        ("Probing::HEALTHY_AFTER", Probing::HEALTHY_AFTER.to_string()),
        ("LoadReports::STALE_AFTER", time(LoadReports::STALE_AFTER)),
        ("LoadReport::SATURATED", format!("{} of 1000", LoadReport::SATURATED)),
        ("LoadReport::MOST_BYTES", format!("{} KiB", LoadReport::MOST_BYTES / 1024)),
        ("QuotaReport::LONGEST_WINDOW", format!("{} days", QuotaReport::LONGEST_WINDOW.as_secs() / 86_400)),
        ("Quorum::MOST", Quorum::MOST.to_string()),
        ("HttpProbe::PATH", HttpProbe::PATH.to_owned()),
        ("HttpProbe::MOST_BYTES", format!("{} KiB", HttpProbe::MOST_BYTES / 1024)),
        ("Placement::WEIGHT", Placement::WEIGHT.to_string()),
        ("Alias::WHOLE", format!("{} basis points", Alias::WHOLE)),
        ("Alias::MAX_DEPTH", Alias::MAX_DEPTH.to_string()),
        ("Store::KEPT", Store::KEPT.to_string()),
        ("Registry::STALE_AFTER", time(Registry::STALE_AFTER)),
        ("Registry::EXPIRED_AFTER", time(Registry::EXPIRED_AFTER)),
        ("Registry::QUARANTINE", time(Registry::QUARANTINE)),
        ("Registry::LONGEST_QUARANTINE", time(Registry::LONGEST_QUARANTINE)),
        ("Registry::ROLLBACKS_PER_HOUR", Registry::ROLLBACKS_PER_HOUR.to_string()),
        ("Registry::MAX_STEP", Registry::MAX_STEP.to_string()),
        ("Poller::INTERVAL", time(Poller::INTERVAL)),
        ("Poller::SPREAD", format!("{} %", Poller::SPREAD)),
        ("Poller::LONGEST", time(Poller::LONGEST)),
        ("Poller::SHORTEST", time(Poller::SHORTEST)),
        ("Warming::DEADLINE", time(Warming::DEADLINE)),
        ("Nack::TOLD", format!("{} MiB", Nack::TOLD >> 20)),
        ("Judge::ENOUGH", Judge::ENOUGH.to_string()),
        ("Judge::WINDOW", time(Judge::WINDOW)),
        ("Judge::POINTS", format!("{} points", Judge::POINTS)),
        ("Judge::TIMES", Judge::TIMES.to_string()),
        ("Judge::SIGNIFICANCE", Judge::SIGNIFICANCE.to_string()),
        ("Judge::SLOW_WINDOWS", Judge::SLOW_WINDOWS.to_string()),
        ("Judge::SHARED", Judge::SHARED.to_string()),
        ("Prefix::MAX_BLOCKS", Prefix::MAX_BLOCKS.to_string()),
        ("Mirror::CONCURRENCY", Mirror::<str>::CONCURRENCY.to_string()),
        ("Mirror::LIMIT", time(Mirror::<str>::LIMIT)),
        ("RateLimit::BUCKETS", RateLimit::BUCKETS.to_string()),
        ("RateLimit::BURST", RateLimit::BURST.to_string()),
        ("SpendLimit::ACCOUNTS", SpendLimit::ACCOUNTS.to_string()),
        ("SpendLimit::BURST", SpendLimit::BURST.to_string()),
        ("SpendLimit::MOST", SpendLimit::MOST.to_string()),
        ("World::LASTING", time(World::LASTING)),
        ("World::SLO", time(World::SLO)),
        ("World::DEADLINE", time(World::DEADLINE)),
        ("World::REPORTS_EVERY", time(World::REPORTS_EVERY)),
        ("World::REPORTS_STALE", time(World::REPORTS_STALE)),
        ("EnvoyExact::OVERPROVISIONING", format!("{} %", EnvoyExact::OVERPROVISIONING)),
        ("EnvoyExact::PANIC_THRESHOLD", format!("{} %", EnvoyExact::PANIC_THRESHOLD)),
        ("Server::PREFILL_RATE", format!("{} tokens per second", Server::PREFILL_RATE)),
        ("Server::STEP", time(Server::STEP)),
        ("Server::STEP_PER_REQUEST", format!("{} µs", Server::STEP_PER_REQUEST.as_micros())),
        ("Server::BATCH", Server::BATCH.to_string()),
        ("Server::REGION", Server::REGION.to_owned()),
        ("Server::MODEL", Server::MODEL.to_owned()),
        ("Lengths::USABLE", Lengths::USABLE.to_string()),
        ("Request::BLOCK", format!("{} tokens", Request::BLOCK)),
    ]
    .into();
    let page = read("docs/defaults.md");
    let told: BTreeMap<&str, String> =
        table(&page, "constant").iter().map(|row| (code(row[0]), row[1].to_owned())).collect();
    assert_eq!(told, in_code);

    // And none is missing in both: every public constant of the sources, but for those that are no defaults.
    const NO_DEFAULTS: [&str; 4] = ["DEAD", "WELL", "ALL", "ORACLE"];
    for path in files("src", ".rs").into_iter().filter(|path| !path.ends_with("capabilities.rs")) {
        let source = fs::read_to_string(&path).unwrap();
        for line in source.lines().filter_map(|line| line.trim_start().strip_prefix("pub const ")) {
            let Some((name, _)) = line.split_once(": ") else { continue };
            let constant = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let known = in_code.keys().any(|known| known.ends_with(&format!("::{name}")));
            assert!(!constant || known || NO_DEFAULTS.contains(&name), "{}: {name} is not documented", path.display());
        }
    }
}

#[test]
fn the_fast_ejection_is_as_documented() {
    let page = read("docs/defaults.md");
    let told: BTreeMap<_, _> = table(&page, "setting").iter().map(|row| (code(row[0]), row[1])).collect();
    let growth = |setting: &str| {
        let (base, most) = told[setting].split_once(" doubling to ").unwrap();
        (parse(base), parse(most))
    };
    let (eject, overloaded, unreachable) = (growth("eject_for"), growth("rest_overloaded"), growth("rest_unreachable"));
    let documented = Ejection::default()
        .consecutive(told["consecutive"].parse().unwrap())
        .eject_for(eject.0, eject.1)
        .rest_overloaded(overloaded.0, overloaded.1)
        .rest_unreachable(unreachable.0, unreachable.1)
        .slow_start(parse(told["slow_start"]));
    assert_eq!(documented, Ejection::fast());
    assert_eq!(told.len(), 5);
}

fn parse(text: &str) -> Duration {
    let (number, unit) = text.split_once(' ').unwrap();
    let number = number.parse().unwrap();
    if unit == "s" { Duration::from_secs(number) } else { Duration::from_millis(number) }
}

#[test]
fn the_inner_constants_are_as_documented() {
    let page = read("docs/defaults.md");
    for row in table(section(&page, "## Inside"), "constant") {
        let [name, value, place] = [code(row[0]), code(row[1]), code(row[2])];
        let source = read(place);
        let declared = source.lines().filter_map(|line| line.split_once("const ")).map(|(_, declared)| declared);
        let found = declared.filter_map(|declared| declared.strip_prefix(&format!("{name}: "))).next();
        let found = found.unwrap_or_else(|| panic!("{place} has no {name}"));
        assert_eq!(found.split_once(" = ").map(|(_, value)| value), Some(&*format!("{value};")), "{place}: {name}");
    }
}

#[test]
fn every_test_that_the_docs_name_exists() {
    let page = read("docs/defaults.md");
    let tests: String = files("tests/it", ".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut named = 0;
    for name in page.split('`').skip(1).step_by(2).filter(|name| name.contains("::") && !name.contains('(')) {
        let last = name.rsplit("::").next().unwrap();
        if name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c)) {
            let found = ["fn", "mod"]
                .iter()
                .any(|what| tests.contains(&format!("{what} {last}(")) || tests.contains(&format!("{what} {last};")));
            assert!(found, "{name} is named in docs/defaults.md and does not exist");
            named += 1;
        }
    }
    assert!(named > 5, "only {named} tests are named");
}

#[test]
fn every_page_is_a_doctest_and_every_link_leads_somewhere() {
    let lib = read("src/lib.rs");
    let mut pages = files("docs", ".md");
    let folders = [root().join("docs"), root().join("docs/guide")];
    for page in pages.iter().filter(|page| page.parent().is_some_and(|folder| folders.contains(&folder.to_owned()))) {
        let name = page.strip_prefix(&folders[0]).unwrap().to_string_lossy();
        assert!(lib.contains(&format!("\"../docs/{name}\"")), "src/lib.rs does not test the snippets of docs/{name}");
    }
    pages.extend(["README.md", "CHANGELOG.md"].map(|page| root().join(page)));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.starts_with("https://") {
                let target = page.parent().unwrap().join(target);
                assert!(target.exists(), "{}: a dead link to {link}", page.display());
            }
        }
    }
}

#[test]
fn every_planted_bug_is_declared_used_and_was_found() {
    let (source, manifest, page) = (read("src/bug.rs"), read("Cargo.toml"), read("docs/simulator.md"));
    let declared = source.lines().filter_map(|line| line.trim().strip_suffix("\";")?.split_once(" = \""));
    let declared: BTreeMap<_, _> = declared.map(|(constant, name)| (name, constant)).collect();
    assert!(declared.len() >= 8, "{declared:?}");
    let sources: String = files("src", ".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for (name, constant) in &declared {
        assert_eq!(name.to_uppercase(), *constant);
        assert_eq!(sources.matches(&format!("bug::{constant}")).count(), 1, "{constant} breaks one line");
        assert!(manifest.contains(&format!("\"{name}\"")), "Cargo.toml does not know {name}");
    }
    let rows = table(&page, "bug");
    assert_eq!(rows.iter().map(|row| code(row[0])).collect::<BTreeSet<_>>(), declared.into_keys().collect());
    for row in rows {
        // The campaign has no registry: a test finds what is wrong there.
        if row[3] == "a test" {
            assert!(row[2].contains("::"), "{row:?}");
            continue;
        }
        let rounds: Vec<u32> = row[3].split(", ").map(|rounds| rounds.parse().unwrap()).collect();
        assert_eq!(rounds.len(), 5, "{row:?}");
    }
}

#[test]
fn the_readme_names_every_example() {
    let readme = read("README.md");
    let line = readme.lines().find(|line| line.starts_with("- `examples/`: ")).expect("the README lists the examples");
    let mut told: Vec<_> = line.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    let mut there: Vec<_> = fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").exists())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    told.sort();
    there.sort();
    assert_eq!(told, there);
}
