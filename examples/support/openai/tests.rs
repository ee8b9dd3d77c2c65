//! What needs no server: the reading of requests and events, the secrecy of keys.

use super::json::{Chunk, Whole};
use super::*;

fn request(body: &'static str) -> ChatRequest {
    ChatRequest::new(Bytes::from_static(body.as_bytes()), &HeaderMap::new()).expect("a request")
}

fn server(url: &str) -> Result<OpenAi, InvalidServer> {
    OpenAi::new(url, &mut Connections::default())
}

#[test]
fn another_model_changes_nothing_else() {
    let plain = request(r#"{"messages": ["\"model\": \"m\""], "model" : "m", "temperature":1.0}"#);
    assert_eq!(plain.body_for("m"), plain.body);
    let renamed = plain.body_for(r#"a"b"#);
    assert_eq!(renamed, r#"{"messages": ["\"model\": \"m\""], "model" : "a\"b", "temperature":1.0}"#);
    let escaped = request(r#"{"model":"a\/b","n":1}"#);
    assert_eq!(escaped.facts().requested_model(), Some("a/b"));
    assert_eq!(escaped.body_for("c"), r#"{"model":"c","n":1}"#);
}

#[test]
fn facts_come_from_header_and_body() {
    let mut headers = HeaderMap::new();
    headers.insert(PROMPT_TOKENS, HeaderValue::from_static("9"));
    let body = Bytes::from_static(br#"{"model":"m","stream":null,"max_tokens":7,"max_completion_tokens":8}"#);
    let facts = ChatRequest::new(body, &headers).expect("a request").facts();
    assert_eq!((facts.input_tokens(), facts.expected_output_tokens()), (9, 8));
    assert!(facts.is_replay_safe());
    assert_eq!(request(r#"{"model":"0123456789"}"#).facts().input_tokens(), 6);
    for body in ["", "{", "{}", "7", r#"{"model":7}"#, r#"{"model":"a","model":"b"}"#] {
        assert!(ChatRequest::new(Bytes::from(body), &HeaderMap::new()).is_err(), "{body}");
    }
}

#[test]
fn a_caller_cannot_announce_more_tokens_than_the_body_has_bytes() {
    let body = r#"{"model":"m"}"#;
    let tokens = |announced: &'static str| {
        let headers = HeaderMap::from_iter([(PROMPT_TOKENS, HeaderValue::from_static(announced))]);
        ChatRequest::new(Bytes::from_static(body.as_bytes()), &headers).expect("a request").facts().input_tokens()
    };
    assert_eq!(tokens("5"), 5);
    assert_eq!(tokens("1000000"), body.len() as u64);
    assert_eq!(tokens("18446744073709551615"), body.len() as u64);
    // Beyond any number, or none at all: estimated.
    for absurd in ["18446744073709551616", "-1", "1e9", ""] {
        assert_eq!(tokens(absurd), 4, "{absurd}");
    }
}

#[test]
fn no_debug_shows_a_key_or_a_prompt() {
    let server = server("http://127.0.0.1:1").and_then(|server| server.key("sk-secret")).expect("a server");
    assert!(!format!("{server:?}").contains("secret"));
    let shown = format!("{:?}", request(r#"{"model":"m","messages":["private"]}"#));
    assert!(!shown.contains("private"));
}

#[test]
fn addresses_are_plain_http() {
    for url in ["127.0.0.1:1", "https://host", "http://", "http://user:word@host", "http://host/?a=b", "/path"] {
        assert_eq!(server(url).err(), Some(InvalidServer::Url), "{url}");
    }
    let server = server("http://host:81/base/").expect("a server");
    assert_eq!(server.uri, "/base/v1/chat/completions");
}

#[test]
fn content_is_told_from_what_surrounds_it() {
    let content = |event: &str| serde_json::from_str::<Chunk<'_>>(event).expect("a chunk").has_content();
    assert!(!content(r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#));
    assert!(content(r#"{"choices":[{"delta":{"content":"ä\n"}}]}"#));
    assert!(content(r#"{"choices":[{"delta":{"content":null,"tool_calls":[{}]}}]}"#));
    assert!(!content(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#));
    assert!(!content(r#"{"choices":[],"usage":{"total_tokens":9}}"#));
    assert!(!content(r#"{"error":null}"#));
}

#[test]
fn the_rest_begins_with_what_came() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"w0 \\\"\"}}]}\n\n";
    let chunk = ChatChunk { bytes: Bytes::from_static(event.as_bytes()), tokens: 1, done: false };
    assert_eq!(chunk.text(), "w0 \"");
    let rest = request(r#"{"model":"m","messages":[{"role":"user"}],"max_tokens":9,"stream":true}"#).rest("w0 \"", 1);
    let body = r#"{"max_tokens":8,"messages":[{"role":"user"},{"content":"w0 \"","role":"assistant"}],"model":"m","stream":true}"#;
    assert_eq!((&rest.body[..], rest.is_stream()), (body.as_bytes(), true));
    assert_eq!(rest.facts().expected_output_tokens(), 8);
    assert_eq!(rest.body_for("n").len(), body.len());
}

#[test]
fn errors_inside_a_200_are_classified() {
    let kind = |body: &str| {
        let answer: Whole = serde_json::from_str(body).expect("a document");
        answer.error.expect("an error").classify().kind()
    };
    assert_eq!(kind(r#"{"error":{"code":429,"message":"x"}}"#), FailureKind::RateLimited);
    assert_eq!(
        kind(r#"{"error":{"code":"context_length_exceeded","type":"server_error"}}"#),
        FailureKind::ContextTooLong
    );
    assert_eq!(kind(r#"{"error":{"code":"odd","type":"overloaded_error"}}"#), FailureKind::Overloaded);
    assert_eq!(kind(r#"{"error":"the model exploded"}"#), FailureKind::Protocol);
}

#[test]
fn the_status_says_more_than_the_type() {
    let answer: Whole = serde_json::from_str(r#"{"error":{"type":"server_error","code":null}}"#).expect("a document");
    let fault = answer.error.expect("an error");
    assert_eq!(fault.detail(StatusCode::SERVICE_UNAVAILABLE), "");
    assert_eq!(fault.detail(StatusCode::BAD_REQUEST), "server_error");
}
