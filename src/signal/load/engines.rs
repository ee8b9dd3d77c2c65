//! The metrics pages of inference servers.

use super::{Gauge, LoadReport, Unreadable, prometheus};

impl LoadReport {
    /// Reads the metrics page of vLLM: `vllm:num_requests_running`, `vllm:num_requests_waiting` and
    /// `vllm:kv_cache_usage_perc` (formerly `vllm:gpu_cache_usage_perc`). The engines of a data-parallel server
    /// (label `engine`) add up.
    ///
    /// ```
    /// use fallway::signal::LoadReport;
    /// let page = "vllm:num_requests_running{engine=\"0\"} 3.0\nvllm:num_requests_running{engine=\"1\"} 2.0\n";
    /// assert_eq!(LoadReport::from_vllm(page)?.running, Some(5));
    /// # Ok::<(), fallway::signal::Unreadable>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unreadable`] says why it was not believed.
    pub fn from_vllm(page: impl AsRef<[u8]>) -> Result<Self, Unreadable> {
        prometheus::read(page.as_ref(), |name, labels| {
            let gauge = match name.strip_prefix("vllm:")? {
                "num_requests_running" => Gauge::Running,
                "num_requests_waiting" => Gauge::Waiting,
                "kv_cache_usage_perc" | "gpu_cache_usage_perc" => Gauge::KvCache,
                _ => return None,
            };
            Some((gauge, labels.value("engine")))
        })
    }

    /// Reads what SGLang says at `/v1/loads?format=prometheus`: `sglang_num_running_reqs`, `sglang_num_waiting_reqs`,
    /// `sglang_num_waiting_uncached_tokens` and `sglang_token_usage`; or its metrics page (`--enable-metrics`), which has no
    /// tokens: `sglang:num_running_reqs`, `sglang:num_queue_reqs` and `sglang:token_usage`. Data-parallel ranks (label
    /// `dp_rank`) add up, tensor-parallel ranks work on the same requests and do not.
    ///
    /// ```
    /// use fallway::signal::LoadReport;
    /// let page = "sglang_num_waiting_reqs{dp_rank=\"0\"} 2\nsglang_num_waiting_uncached_tokens{dp_rank=\"0\"} 61440\n";
    /// let report = LoadReport::from_sglang(page)?;
    /// assert_eq!((report.waiting, report.waiting_tokens), (Some(2), Some(61_440)));
    /// # Ok::<(), fallway::signal::Unreadable>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unreadable`] says why it was not believed.
    pub fn from_sglang(page: impl AsRef<[u8]>) -> Result<Self, Unreadable> {
        prometheus::read(page.as_ref(), |name, labels| {
            let gauge = match name.strip_prefix("sglang")?.strip_prefix([':', '_'])? {
                "num_running_reqs" => Gauge::Running,
                "num_queue_reqs" | "num_waiting_reqs" => Gauge::Waiting,
                "num_waiting_uncached_tokens" => Gauge::WaitingTokens,
                "token_usage" => Gauge::KvCache,
                _ => return None,
            };
            Some((gauge, labels.value("dp_rank")))
        })
    }

    /// Reads the metrics page of Triton: `nv_inference_pending_request_count` and `nv_gpu_utilization`, and with the
    /// TensorRT-LLM backend `nv_trt_llm_request_metrics` (`scheduled`, `waiting`) and
    /// `nv_trt_llm_kv_cache_block_metrics` (`fraction`). Models add up; of what waits before a model and inside of it
    /// the larger number counts.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] says why it was not believed.
    pub fn from_triton(page: impl AsRef<[u8]>) -> Result<Self, Unreadable> {
        prometheus::read(page.as_ref(), |name, labels| {
            let gauge = match name {
                "nv_inference_pending_request_count" => Gauge::Waiting,
                "nv_gpu_utilization" => Gauge::Utilization,
                "nv_trt_llm_request_metrics" => match labels.value("request_type") {
                    "scheduled" => Gauge::Running,
                    "waiting" => Gauge::Waiting,
                    _ => return None,
                },
                "nv_trt_llm_kv_cache_block_metrics" if labels.value("kv_cache_block_type") == "fraction" => {
                    Gauge::KvCache
                }
                _ => return None,
            };
            Some((gauge, labels.value("model")))
        })
    }
}
