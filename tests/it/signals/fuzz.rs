//! Hostile input: a hundred thousand mangled reports for each parser. None may panic, and what is believed must be
//! possible.

use fallway::rng::Rng;
use fallway::signal::{LoadReport, QuotaReport, Unreadable};
use std::time::{Duration, SystemTime};

const ROUNDS: usize = 100_000;

/// What real ones look like, and the pieces that parsers stumble over.
const PIECES: [&str; 59] = [
    "TEXT ",
    "JSON ",
    "BIN ",
    "text ",
    "cpu_utilization",
    "application_utilization",
    "named_metrics",
    "named_metrics.",
    "kv_cache_usage_perc",
    "num_requests_waiting",
    "=",
    ":",
    ",",
    ", ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\\"",
    "\n",
    "\r\n",
    " ",
    "\t",
    "#",
    "vllm:num_requests_running",
    "vllm:kv_cache_usage_perc",
    "sglang:token_usage",
    "sglang:num_queue_reqs",
    "sglang_num_waiting_uncached_tokens",
    "nv_gpu_utilization",
    "nv_trt_llm_request_metrics",
    "{engine=\"0\"}",
    "{dp_rank=\"1\",",
    "request_type=\"waiting\"",
    "0",
    "1",
    "0.5",
    "-1",
    "NaN",
    "inf",
    "1e308",
    "1e-308",
    "1e999",
    "9223372036854775808",
    "0x10",
    "1_0",
    "é",
    "\u{0}",
    "\u{feff}",
    "6m0s",
    "20ms",
    "1h",
    "2025-08-21T12:40:59Z",
    "+02:00",
    "Thu, 21 Aug 2025 12:40:59 GMT",
    "99999999999999999999",
    ".",
];

const WHOLE: [&str; 6] = [
    "TEXT cpu_utilization=0.3, named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=2",
    "JSON {\"cpu_utilization\": 0.3, \"named_metrics\": {\"kv_cache_usage_perc\": 0.4}, \"x\": [1, {\"y\": null}]}",
    "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n",
    "sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"1\"} 4.0\nsglang:token_usage 0.28\n",
    "nv_inference_pending_request_count{model=\"m\",version=\"1\"} 3\nnv_gpu_utilization{gpu_uuid=\"G\"} 0.78\n",
    "2025-08-21T12:40:59.500+02:00",
];

/// A report made of pieces, or a real one with a few bytes changed, left out or doubled; sometimes not text at all.
fn hostile(rng: &mut Rng) -> Vec<u8> {
    let mut input = Vec::new();
    if rng.below(3) == 0 {
        (0..rng.below(24)).for_each(|_| input.extend(PIECES[rng.below(PIECES.len())].as_bytes()));
        return input;
    }
    input.extend(WHOLE[rng.below(WHOLE.len())].as_bytes());
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(input.len().max(1));
        match rng.below(5) {
            0 => input.truncate(at),
            1 => drop(input.splice(at..at, PIECES[rng.below(PIECES.len())].bytes())),
            2 => {
                let end = at + rng.below(input.len() - at + 1);
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            3 if !input.is_empty() => input[at] = rng.next_u64() as u8,
            _ if !input.is_empty() => drop(input.remove(at)),
            _ => {}
        }
    }
    input
}

/// How many were believed and how many were not.
fn mangle(seed: u64, read: impl Fn(&[u8]) -> Result<LoadReport, Unreadable>) -> (usize, usize) {
    let mut rng = Rng::new(seed);
    let mut believed = 0;
    for _ in 0..ROUNDS {
        let input = hostile(&mut rng);
        let shown = || String::from_utf8_lossy(&input).into_owned();
        if let Ok(report) = read(&input) {
            believed += 1;
            assert!(report.kv_cache.is_none_or(|it| it <= 1000), "{}: {report:?}", shown());
            assert!(report.utilization.is_none_or(|it| it <= 1_000_000), "{}: {report:?}", shown());
            assert!([report.running, report.waiting].into_iter().flatten().all(|it| it <= 256_000_000_000));
            assert_ne!(report, LoadReport::default(), "{}", shown());
            report.score();
        }
    }
    (believed, ROUNDS - believed)
}

/// The draw is no good if it finds one answer only.
fn both(counts: (usize, usize)) {
    assert!(counts.0 > ROUNDS / 100 && counts.1 > ROUNDS / 4, "{counts:?}");
}

#[test]
fn orca() {
    both(mangle(1, |input| LoadReport::from_orca(input)));
}

#[test]
fn vllm() {
    both(mangle(2, |input| LoadReport::from_vllm(input)));
}

#[test]
fn sglang() {
    both(mangle(3, |input| LoadReport::from_sglang(input)));
}

#[test]
fn triton() {
    both(mangle(4, |input| LoadReport::from_triton(input)));
}

#[test]
fn quotas() {
    let (mut rng, mut read, mut not) = (Rng::new(5), 0, 0);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_755_780_000);
    for _ in 0..ROUNDS {
        let input = hostile(&mut rng);
        let Ok(value) = std::str::from_utf8(&input) else { continue };
        let report = QuotaReport::from_headers(|name| name.starts_with("x-ratelimit-").then_some(value), now);
        for quota in [report.requests, report.tokens, report.input_tokens, report.output_tokens] {
            assert!(quota.resets_in.is_none_or(|it| it <= QuotaReport::LONGEST_WINDOW), "{value:?} {report:?}");
            assert!(quota.remaining.is_none_or(|it| it < 1 << 53), "{value:?} {report:?}");
        }
        match report.requests.resets_in {
            Some(_) => read += 1,
            None => not += 1,
        }
    }
    assert!(read > ROUNDS / 200 && not > ROUNDS / 4, "{read} {not}");
}
