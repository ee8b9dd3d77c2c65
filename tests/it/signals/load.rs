//! Load reports: the formats, and the store.

use super::{fresh, heard};
use crate::support::{ms, plain, secs};
use fallway::CallOptions;
use fallway::backend::BackendId;
use fallway::decision::Reason;
use fallway::signal::{HealthSignal, LoadReport, LoadReports, Reading, Score, Unreadable};
use std::sync::Arc;

/// Running, waiting, KV cache, utilization.
type Figures = (Option<u64>, Option<u64>, Option<u32>, Option<u32>);

fn figures(report: Result<LoadReport, Unreadable>) -> Result<Figures, Unreadable> {
    report.map(|it| (it.running, it.waiting, it.kv_cache, it.utilization))
}

#[test]
fn orca_as_text_and_as_json() {
    let read = |header: &str| figures(LoadReport::from_orca(header));
    let both = Ok((None, None, None, Some(300)));
    assert_eq!(read("TEXT cpu_utilization=0.3, mem_utilization=0.8, rps_fractional=10.0, eps=1"), both);
    assert_eq!(read("JSON {\"cpu_utilization\": 0.3, \"mem_utilization\": 0.8, \"eps\": 1}"), both);
    assert_eq!(read("TEXT cpu_utilization:0.3"), both);
    assert_eq!(read("JSON {\"cpuUtilization\": 0.3}"), both);
    // As vLLM writes it.
    let vllm = Ok((None, Some(2), Some(400), None));
    assert_eq!(read("TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=2.0"), vllm);
    assert_eq!(read("JSON {\"named_metrics\": {\"kv_cache_usage_perc\": 0.4, \"num_requests_waiting\": 2.0}}"), vllm);
    // What an application says of itself goes first, in either order, unless it says nothing.
    assert_eq!(read("TEXT application_utilization=1.2,cpu_utilization=0.3"), Ok((None, None, None, Some(1200))));
    assert_eq!(read("TEXT cpu_utilization=0.3,application_utilization=1.2"), Ok((None, None, None, Some(1200))));
    assert_eq!(read("TEXT cpu_utilization=0.3,application_utilization=0"), Ok((None, None, None, Some(300))));
    // What is not known is passed over, however deep.
    let odd = "JSON {\"x\": [1, {\"cpu_utilization\": 9}], \"utilization\": {\"cpu_utilization\": 7}, \"s\": \"\\\"}\", \
               \"cpu_utilization\": 3e-1, \"t\": true, \"named_metrics\": {}}";
    assert_eq!(read(odd), Ok((None, None, None, Some(300))));
}

#[test]
fn hostile_orca_has_a_name() {
    let read = |header: &[u8]| LoadReport::from_orca(header).unwrap_err();
    let malformed = Unreadable::Malformed("an ORCA report in text or JSON");
    for header in ["", "TEXT", "BIN Q29mZmVl", "cpu_utilization=0.3", "TEXT cpu_utilization"] {
        assert_eq!(read(header.as_bytes()), malformed, "{header:?}");
    }
    let out = Unreadable::OutOfRange { what: "utilization" };
    for value in ["-1", "NaN", "inf", "-inf", "1e308", "1e999", "1001", "-0.0001"] {
        assert_eq!(read(format!("TEXT cpu_utilization={value}").as_bytes()), out, "{value}");
        assert_eq!(read(format!("JSON {{\"cpu_utilization\": {value}}}").as_bytes()), out, "{value}");
    }
    let cache = Unreadable::OutOfRange { what: "KV cache" };
    assert_eq!(read(b"TEXT named_metrics.kv_cache_usage_perc=40"), cache);
    let queue = Unreadable::OutOfRange { what: "waiting requests" };
    assert_eq!(read(b"TEXT named_metrics.num_requests_waiting=1e18"), queue);
    assert_eq!(read(b"TEXT cpu_utilization=much"), Unreadable::NotANumber { what: "utilization" });
    for twice in ["TEXT cpu_utilization=0.1,cpu_utilization=0.1", "JSON {\"cpu_utilization\":0,\"cpuUtilization\":1}"] {
        assert_eq!(read(twice.as_bytes()), Unreadable::Twice { what: "utilization" });
    }
    assert_eq!(read(b"TEXT rps=1"), Unreadable::Nothing);
    assert_eq!(read(b"TEXT ,,,"), Unreadable::Nothing);
    assert_eq!(read(b"TEXT \xff=1"), Unreadable::NotText);
    let json = Unreadable::Malformed("JSON");
    for broken in
        ["{", "{}x", "[1]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\" 1}", "\"", "{\"a\":\"\\\"}", "{'a':1}"]
    {
        assert_eq!(read(format!("JSON {broken}").as_bytes()), json, "{broken}");
    }
    for deep in ["[", "{\"a\":"] {
        assert_eq!(read(format!("JSON {{\"a\":{}", deep.repeat(100_000)).as_bytes()), json, "no stack is deep enough");
    }
    let long = vec![b' '; LoadReport::MOST_BYTES + 1];
    assert_eq!(read(&long), Unreadable::TooLong { bytes: long.len() });
}

#[test]
fn vllm() {
    let page = r#"# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwen3-4b"} 3.0
vllm:num_requests_running{engine="1",model_name="qwen3-4b"} 2.0
vllm:num_requests_waiting{engine="0",model_name="qwen3-4b"} 4.0
vllm:num_requests_waiting{engine="1",model_name="qwen3-4b"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="qwen3-4b",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="odd } \" name, 5"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="qwen3-4b"} 0.5 1700000000000
vllm:request_success_total{engine="0"} NaN
vllm:broken{engine="0
"#;
    assert_eq!(figures(LoadReport::from_vllm(page)), Ok((Some(5), Some(4), Some(500), None)));
    assert_eq!(figures(LoadReport::from_vllm("vllm:gpu_cache_usage_perc 0.7")), Ok((None, None, Some(700), None)));
    assert_eq!(
        figures(LoadReport::from_vllm("vllm:kv_cache_usage_perc 1.0000001")),
        Ok((None, None, Some(1000), None))
    );
    assert_eq!(LoadReport::from_vllm("sglang:token_usage 0.5"), Err(Unreadable::Nothing));
}

#[test]
fn sglang() {
    let page = r#"sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 4.0
sglang:num_running_reqs{dp_rank="0",tp_rank="1"} 4.0
sglang:num_running_reqs{dp_rank="1",tp_rank="0"} 1.0
sglang:num_queue_reqs{model_name="m"} 3.0
sglang:token_usage{model_name="m"} 0.28
sglang:num_running_reqs_total 100
"#;
    assert_eq!(figures(LoadReport::from_sglang(page)), Ok((Some(5), Some(3), Some(280), None)));
    assert_eq!(LoadReport::from_sglang(page).unwrap().waiting_tokens, None);
}

/// `GET /v1/loads?format=prometheus`.
#[test]
fn sglang_says_how_many_tokens_wait() {
    let page = r#"# TYPE sglang_num_running_reqs gauge
sglang_num_running_reqs{dp_rank="0"} 24
sglang_num_running_reqs{dp_rank="1"} 19
# TYPE sglang_num_waiting_reqs gauge
sglang_num_waiting_reqs{dp_rank="0"} 3
sglang_num_waiting_reqs{dp_rank="1"} 0
# TYPE sglang_num_waiting_uncached_tokens gauge
sglang_num_waiting_uncached_tokens{dp_rank="0"} 6144
sglang_num_waiting_uncached_tokens{dp_rank="1"} 512
# TYPE sglang_num_used_tokens gauge
sglang_num_used_tokens{dp_rank="0"} 382910
sglang_num_total_tokens{dp_rank="0"} 401294
# TYPE sglang_token_usage gauge
sglang_token_usage{dp_rank="0"} 0.7303
sglang_token_usage{dp_rank="1"} 0.5551
# TYPE sglang_queues_waiting gauge
sglang_queues_waiting{dp_rank="0"} 99
"#;
    assert_eq!(figures(LoadReport::from_sglang(page)), Ok((Some(43), Some(3), Some(730), None)));
    assert_eq!(LoadReport::from_sglang(page).unwrap().waiting_tokens, Some(6_656));
    let read = |value: &str| LoadReport::from_sglang(format!("sglang_num_waiting_uncached_tokens {value}"));
    assert_eq!(read("0").unwrap().waiting_tokens, Some(0));
    for value in ["-1", "NaN", "inf", "1e10"] {
        assert_eq!(read(value), Err(Unreadable::OutOfRange { what: "waiting tokens" }), "{value}");
    }
    assert_eq!(read("many"), Err(Unreadable::NotANumber { what: "waiting tokens" }));
    for other in ["sglangnum_waiting_reqs 1", "sglang::num_waiting_reqs 1", "sglang 1"] {
        assert_eq!(LoadReport::from_sglang(other), Err(Unreadable::Nothing), "{other}");
    }
}

#[test]
fn triton() {
    let page = r#"nv_inference_pending_request_count{model="resnet50",version="1"} 3
nv_inference_pending_request_count{model="tensorrt_llm",version="1"} 2
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 11
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 30
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 6239
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.31
nv_gpu_utilization{gpu_uuid="GPU-0"} 0.78
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.91
"#;
    assert_eq!(figures(LoadReport::from_triton(page)), Ok((Some(30), Some(14), Some(310), Some(910))));
}

#[test]
fn hostile_metrics_have_a_name() {
    let read = |page: &[u8]| LoadReport::from_vllm(page).unwrap_err();
    for value in ["-1", "NaN", "+Inf", "1e300"] {
        let page = format!("vllm:num_requests_running {value}");
        assert_eq!(read(page.as_bytes()), Unreadable::OutOfRange { what: "running requests" }, "{value}");
    }
    assert_eq!(read(b"vllm:num_requests_running many"), Unreadable::NotANumber { what: "running requests" });
    for broken in
        ["vllm:num_requests_running", "vllm:num_requests_running{engine=\"0\"", "vllm:num_requests_running{} "]
    {
        assert_eq!(read(broken.as_bytes()), Unreadable::Malformed("Prometheus text"), "{broken}");
    }
    assert_eq!(read(b"\xc3\x28"), Unreadable::NotText);
    assert_eq!(read(b""), Unreadable::Nothing);
    let many: String = (0..300).map(|it| format!("vllm:num_requests_running{{engine=\"{it}\"}} 1\n")).collect();
    assert_eq!(read(many.as_bytes()), Unreadable::TooMany);
    let line = "x".repeat(LoadReport::MOST_BYTES);
    assert_eq!(read(line.as_bytes()), Unreadable::Nothing);
    assert_eq!(read(format!("{line}x").as_bytes()), Unreadable::TooLong { bytes: line.len() + 1 });
}

#[test]
fn health_follows_from_what_is_full() {
    let score = |page: &str| LoadReport::from_triton(page).unwrap().score().map(Score::permille);
    assert_eq!(score("nv_gpu_utilization 0"), Some(1000));
    assert_eq!(score("nv_gpu_utilization 0.5"), Some(736));
    assert_eq!(score("nv_gpu_utilization 0.95"), Some(500));
    assert_eq!(score("nv_gpu_utilization 0.951"), Some(499));
    assert_eq!(score("nv_gpu_utilization 900"), Some(0));
    assert_eq!(score("nv_inference_pending_request_count 9000"), None);
}

fn cache(permille: u32) -> Result<LoadReport, Unreadable> {
    LoadReport::from_vllm(format!("vllm:kv_cache_usage_perc {}", f64::from(permille) / 1000.0))
}

#[test]
fn a_stale_report_is_neither_idle_nor_saturated() {
    let reports = Arc::new(LoadReports::default());
    let (world, router, _) = heard([reports.clone() as Arc<dyn HealthSignal>]);
    let a = router.backend_id("a").unwrap();
    let of_a = || {
        let decision = router.explain(&CallOptions::new(plain()));
        let first = decision.chosen().unwrap().name().to_owned();
        (first, decision.candidates().find(|it| it.name() == "a").unwrap().rejected())
    };
    reports.report(router.backend_id("b").unwrap(), cache(0), world.now());
    reports.report(a, cache(990), world.now());
    let at = world.now();
    assert!(matches!(of_a(), (first, Some(Reason::Unhealthy { score: 478, .. })) if first == "b"), "{:?}", of_a());
    world.run_for(LoadReports::STALE_AFTER);
    assert!(of_a().1.is_some());
    world.run_for(ms(1));
    // b, which was idle, is not better either.
    assert_eq!(of_a(), ("a".to_owned(), None));
    assert!(
        matches!(reports.load(a, world.now()), Reading::Stale { value, at: then } if value.kv_cache == Some(990) && then == at)
    );
}

#[test]
fn reports_late_twice_unreadable_or_of_nobody_are_counted() {
    let reports = Arc::new(LoadReports::default());
    let (world, router, _) = heard([reports.clone() as Arc<dyn HealthSignal>]);
    let (a, now) = (router.backend_id("a").unwrap(), world.now());
    let told = |reports: &LoadReports| match reports.load(a, world.now()) {
        Reading::Fresh { value, .. } => value.kv_cache,
        _ => None,
    };
    reports.report(a, cache(500), now);
    reports.report(a, cache(100), now - secs(1));
    reports.report(a, cache(500), now);
    assert_eq!(told(&reports), Some(500));
    for stranger in [BackendId::new(7, 0), BackendId::new(a.slot() as u32, 1), BackendId::new(u32::MAX, u32::MAX)] {
        reports.report(stranger, cache(900), now);
        assert_eq!(reports.load(stranger, now), Reading::Missing);
    }
    reports.report(a, LoadReport::from_vllm(b"\xff"), now);
    assert_eq!((told(&reports), reports.why_missing(a)), (None, Some(Unreadable::NotText)));
    assert_eq!(HealthSignal::read(&*reports, a, now), Reading::Missing);
    let counts = reports.counts();
    assert_eq!((counts.taken, counts.late, counts.unreadable, counts.unknown), (1, 2, 1, 3));
    reports.report(a, cache(200), now + ms(1));
    assert_eq!(reports.why_missing(a), None);
    assert_eq!(fresh(HealthSignal::read(&*reports, a, now + ms(1))), Some(894));
}

#[test]
fn many_threads_report_while_decisions_read() {
    const EACH: u64 = 50_000;
    let reports = Arc::new(LoadReports::default());
    let (world, router, _) = heard([reports.clone() as Arc<dyn HealthSignal>]);
    let ids = ["a", "b", "c"].map(|id| router.backend_id(id).unwrap());
    let (start, report) = (world.now(), [cache(100).unwrap(), cache(900).unwrap()]);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (reports, ids) = (&reports, &ids);
            scope.spawn(move || {
                for number in 0..EACH {
                    let at = start + std::time::Duration::from_nanos(number * 4 + thread);
                    reports.report(ids[(number % 3) as usize], Ok(report[(thread % 2) as usize]), at);
                }
            });
        }
        scope.spawn(|| {
            let mut last = start;
            for _ in 0..100_000 {
                if let Reading::Fresh { value, at } = reports.load(ids[0], start + secs(1)) {
                    assert!(at >= last, "it goes back in time");
                    last = at;
                    // Even threads say one thing, odd ones the other: time and value are of one report.
                    let even = (at - start).as_nanos() % 2 == 0;
                    assert_eq!(value, report[usize::from(!even)]);
                }
            }
        });
    });
    let counts = reports.counts();
    assert_eq!((counts.taken + counts.late, counts.unknown, counts.unreadable), (4 * EACH, 0, 0));
    let newest = (EACH - 1) * 4 + 3;
    let last = ids[((EACH - 1) % 3) as usize];
    assert!(
        matches!(reports.load(last, start + secs(1)), Reading::Fresh { at, .. } if (at - start).as_nanos() == u128::from(newest))
    );
}
