//! What is asked for on the command line.

use fallway::sim::Trace;
use fallway::sim::baselines::Contestant;
use fallway::sim::scenarios::Scenario;
use std::path::PathBuf;

pub(crate) struct Args {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) policies: Vec<Contestant>,
    pub(crate) seeds: Vec<u64>,
    pub(crate) routers: Vec<usize>,
    pub(crate) load: Option<f64>,
    pub(crate) requests: Option<u64>,
    pub(crate) trace: Option<Trace>,
    pub(crate) json: bool,
    pub(crate) report: PathBuf,
}

pub(crate) const USAGE: &str = "\
compare [--scenario NAME]... [--policy NAME]... [--seed N]... [--routers M]... [--load X] [--requests N] [--trace FILE]
        [--json] [--report FILE]

  --scenario NAME  one of the scenarios; default all
  --policy NAME    one of the policies; default all
  --seed N         everything random follows from it; default 1, 2 and 3
  --routers M      how many routers share the fleet; default 1 and 32
  --load X         instead of the scenario's own: 1 is all that the servers can serve; in S5, S7 and S12 the speed of the trace
  --requests N     at most so many requests for each run after its warm-up
  --trace FILE     lengths of requests: of the Azure or the Mooncake form; arrivals stay those of the scenario, but in S5, S7 and S12
                   times and prefixes are the trace's too
  --json           a JSON object for each run on standard output, and no tables
  --report FILE    where the HTML report goes; default target/compare.html";

impl Args {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            scenarios: Vec::new(),
            policies: Vec::new(),
            seeds: Vec::new(),
            routers: Vec::new(),
            load: None,
            requests: None,
            trace: None,
            json: false,
            report: PathBuf::from("target/compare.html"),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match &*word {
                "--scenario" => args.scenarios.push(scenario(&value()?)?),
                "--policy" => args.policies.push(policy(&value()?)?),
                "--seed" => args.seeds.push(number(&word, &value()?)?),
                "--routers" => args.routers.push(routers(&value()?)?),
                "--load" => args.load = Some(load(&value()?)?),
                "--requests" => args.requests = Some(at_least_one(&word, number(&word, &value()?)?)?),
                "--trace" => args.trace = Some(trace(&value()?)?),
                "--json" => args.json = true,
                "--report" => args.report = PathBuf::from(value()?),
                "--help" | "-h" => return Err(String::new()),
                _ => return Err(format!("{word:?} is not known")),
            }
        }
        if args.scenarios.is_empty() {
            args.scenarios = Scenario::ALL.to_vec();
        }
        if args.policies.is_empty() {
            args.policies = Contestant::ALL.to_vec();
        }
        if args.seeds.is_empty() {
            args.seeds = vec![1, 2, 3];
        }
        if args.routers.is_empty() {
            args.routers = vec![1, 32];
        }
        Ok(args)
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let known = Scenario::ALL.map(Scenario::name).join(", ");
    Scenario::by_name(name).ok_or_else(|| format!("there is no scenario {name:?}; there are {known}"))
}

fn policy(name: &str) -> Result<Contestant, String> {
    let known = Contestant::ALL.map(|contestant| contestant.name()).join(", ");
    let found = Contestant::ALL.into_iter().find(|contestant| contestant.name() == name);
    found.ok_or_else(|| format!("there is no policy {name:?}; there are {known}"))
}

fn number(flag: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{flag} {text:?} is no whole number"))
}

fn at_least_one(flag: &str, number: u64) -> Result<u64, String> {
    if number == 0 { Err(format!("{flag} must be 1 at least")) } else { Ok(number) }
}

fn routers(text: &str) -> Result<usize, String> {
    let routers = at_least_one("--routers", number("--routers", text)?)?;
    if routers > 10_000 { Err("--routers must be 10000 at most".into()) } else { Ok(routers as usize) }
}

fn load(text: &str) -> Result<f64, String> {
    let load = text.parse::<f64>().ok().filter(|load| load.is_finite() && *load > 0.0 && *load <= 100.0);
    load.ok_or_else(|| format!("--load {text:?} is no number above 0 and up to 100"))
}

fn trace(path: &str) -> Result<Trace, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("--trace {path}: {error}"))?;
    Trace::parse(&text).map_err(|error| format!("--trace {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &str) -> String {
        Args::parse(words.split(' ').map(str::to_owned)).err().unwrap()
    }

    #[test]
    fn what_is_unknown_is_named_beside_what_is_known() {
        let error_of = error("--scenario S99");
        assert!(error_of.contains("S99") && error_of.contains("S1, S2, S3") && error_of.contains("S18"), "{error_of}");
        let error_of = error("--policy magic");
        assert!(error_of.contains("magic") && error_of.contains("peak_ewma"), "{error_of}");
    }

    #[test]
    fn numbers_must_make_sense() {
        for words in
            ["--seed -1", "--load NaN", "--load 0", "--routers 0", "--requests x", "--requests 0", "--seed", "--x"]
        {
            assert!(!error(words).is_empty(), "{words}");
        }
    }

    #[test]
    fn the_whole_is_the_default() {
        let args = Args::parse(std::iter::empty()).unwrap();
        assert_eq!((&*args.scenarios, args.policies.len()), (&Scenario::ALL[..], Contestant::ALL.len()));
        assert_eq!((args.seeds, args.routers), (vec![1, 2, 3], vec![1, 32]));
    }
}
