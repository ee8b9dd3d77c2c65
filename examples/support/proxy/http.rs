//! The HTTP towards the clients: connections, answers in the form of the OpenAI API, streams that say how they broke.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fallway::router::Streamed;
use futures::stream::Stream;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime;

use crate::support::openai::{ChatAnswer, ChatRequest};

/// An answer to a client.
pub type Answer = Response<Either<Full<Bytes>, Relay>>;

/// Answers requests with `handle` for ever. A client that goes away has its `handle` dropped where it stands.
///
/// One thread is the default for a reason: a second one is woken for every event to see whether there is work for it,
/// which doubles the context switches of a request. It pays when one core is not enough.
///
/// # Errors
/// When `listen` cannot be listened on.
pub fn serve<S, F>(
    listen: SocketAddr,
    threads: NonZeroUsize,
    state: S,
    handle: impl Fn(Arc<S>, Request<Incoming>) -> F + Copy + Send + Sync + 'static,
) -> io::Result<Infallible>
where
    S: Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    let mut runtime = match threads.get() {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(threads.get()).enable_all().build()?.block_on(accept(listen, Arc::new(state), handle))
}

async fn accept<S, F>(
    listen: SocketAddr,
    state: Arc<S>,
    handle: impl Fn(Arc<S>, Request<Incoming>) -> F + Copy + Send + Sync + 'static,
) -> io::Result<Infallible>
where
    S: Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    let listener = TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: they come back as connections end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let state = state.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true); // slower without, not wrong
            let service = service_fn(|request| {
                let answer = handle(state.clone(), request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            // When a connection breaks there is nobody left to tell.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A whole answer.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    respond(status, content_type, Either::Left(Full::new(body.into())))
}

/// An error in the form of the OpenAI API.
pub fn problem(status: StatusCode, kind: &str, message: &str) -> Answer {
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": kind}});
    answer(status, "application/json", body.to_string())
}

/// A streamed answer.
pub fn relay(stream: Streamed<ChatRequest, ChatAnswer>) -> Answer {
    respond(StatusCode::OK, "text/event-stream", Either::Right(Relay(stream)))
}

fn respond(status: StatusCode, content_type: &'static str, body: Either<Full<Bytes>, Relay>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A stream on its way to the client, the bytes of the backend unchanged. Dropping it cancels the call to the backend.
#[derive(Debug)]
pub struct Relay(Streamed<ChatRequest, ChatAnswer>);

impl Body for Relay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_next(cx).map(|item| {
            let bytes = match item? {
                Ok(chunk) => chunk.bytes,
                // The status has long been sent. An error event is what client libraries raise; no `[DONE]` follows it.
                Err(broken) => {
                    let (kind, message) = (broken.kind(), broken.to_string());
                    let error =
                        json!({"type": kind, "message": message, "delivered_tokens": broken.delivered().content});
                    format!("data: {}\n\n", json!({"error": error})).into()
                }
            };
            Some(Ok(Frame::data(bytes)))
        })
    }
}
