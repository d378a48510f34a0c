//! HTTP on loopback: a few files, a few answers, nothing that changes anything.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::{FILES, tables};

/// Browsers open six at a time, and this page is for one machine's people.
const CONNECTIONS_LIMIT: usize = 64;
/// A request to the chain: a filter of a few topics, or a page of addresses.
const REQUEST_LIMIT: usize = 64 * 1024;

const JSON: &str = "application/json";
/// Sent with everything: nothing but the page's own files and answers, framed by nobody,
/// told to nobody, kept by nobody.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-store"),
];

type Answer = Response<Full<Bytes>>;

/// Takes the port, and tells where the page will be.
pub(super) async fn listen(port: u16) -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.with_context(|| {
        format!("port {port} can't be used; choose another with --port, or 0 for any free one")
    })?;
    let at = listener.local_addr().context("opening the port")?;
    Ok((listener, format!("http://{at}/")))
}

/// Answers until `stop` is cancelled.
pub(super) async fn serve(listener: TcpListener, answers: &Arc<Answers>, stop: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < CONNECTIONS_LIMIT => {
                // Out of file descriptors, or gone already: the next one may be well.
                let Ok((stream, _)) = accepted else { continue };
                let answers = Arc::clone(answers);
                open.spawn(async move {
                    let service = service_fn(|request| {
                        let answers = Arc::clone(&answers);
                        async move { Ok::<_, Infallible>(guarded(request, &answers).await) }
                    });
                    // The browser went away: nobody is left to tell.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        }
    }
    open.shutdown().await;
}

/// Refuses what a web page elsewhere makes a browser send here under another name.
async fn guarded(request: Request<Incoming>, answers: &Answers) -> Answer {
    let host = request.headers().get(HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let mut response = match name {
        "localhost" | "127.0.0.1" => answer(request, answers).await,
        _ => told(StatusCode::FORBIDDEN, "this page is for 127.0.0.1 only"),
    };
    for (name, value) in HEADERS {
        let headers = response.headers_mut();
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

async fn answer(request: Request<Incoming>, answers: &Answers) -> Answer {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "rpc") => {
            let body = Limited::new(request.into_body(), REQUEST_LIMIT)
                .collect()
                .await;
            match body {
                Ok(body) => json_of(StatusCode::OK, &answers.rpc(&body.to_bytes()).await),
                Err(_) => told(StatusCode::PAYLOAD_TOO_LARGE, "at most 64 KiB are read"),
            }
        }
        (&Method::GET | &Method::HEAD, path) => get(path, answers).await,
        _ => told(StatusCode::METHOD_NOT_ALLOWED, "this page only reads"),
    }
}

async fn get(path: &str, answers: &Answers) -> Answer {
    let name = if path.is_empty() { "index.html" } else { path };
    if let Some((_, kind, bytes)) = FILES.iter().find(|(file, ..)| *file == name) {
        return whole(StatusCode::OK, kind, Bytes::from_static(bytes));
    }
    if let Some((_, bytes)) = tables().into_iter().find(|(file, _)| *file == name) {
        return whole(StatusCode::OK, JSON, bytes.into());
    }
    if name == "config.json" {
        return json_of(StatusCode::OK, &answers.config());
    }
    let number = |prefix: &str, suffix: &str| -> Option<u64> {
        let number = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        number.parse().ok()
    };
    let found = if let Some(round) = number("api/round/", ".json") {
        answers.round(round).await
    } else if let Some(round) = number("api/verify/", ".json") {
        answers.verify(round).await
    } else if let Some(round) = number("api/transcript/", ".bin") {
        match answers.transcript(round).await {
            Ok(bytes) => return whole(StatusCode::OK, "application/octet-stream", bytes.into()),
            Err(error) => Err(error),
        }
    } else {
        return told(StatusCode::NOT_FOUND, "there is no such page");
    };
    match found {
        Ok(value) => json_of(StatusCode::OK, &value),
        Err(error) => told(StatusCode::NOT_FOUND, &format!("{error:#}")),
    }
}

fn told(status: StatusCode, error: &str) -> Answer {
    json_of(status, &json!({ "error": error }))
}

fn json_of(status: StatusCode, value: &Value) -> Answer {
    whole(status, JSON, value.to_string().into())
}

fn whole(status: StatusCode, kind: &'static str, bytes: Bytes) -> Answer {
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    response
}
