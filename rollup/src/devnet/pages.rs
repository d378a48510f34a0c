//! Which web pages a browser lets read the devnet's answers (CORS): those of this
//! machine, an explorer say, and no other. A request that carries JSON is asked for
//! first by every browser, so from any other page it is not even sent; a WebSocket is not
//! asked for, and is refused here.

use std::pin::Pin;
use std::task::{Context, Poll};

use jsonrpsee::server::{HttpBody, HttpRequest, HttpResponse};
use reqwest::header::{HeaderName, HeaderValue, ORIGIN, UPGRADE};
use reqwest::{Method, StatusCode};
use tower::{Layer, Service};

const ALLOWED: [(&str, &str); 3] = [
    ("access-control-allow-methods", "POST"),
    ("access-control-allow-headers", "content-type"),
    ("vary", "origin"),
];

/// Adds the answer to "may this page read it?".
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages;

#[derive(Clone, Debug)]
pub(super) struct Answering<S>(S);

impl<S> Layer<S> for Pages {
    type Service = Answering<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Answering(inner)
    }
}

impl<S, B> Service<HttpRequest<B>> for Answering<S>
where
    S: Service<HttpRequest<B>, Response = HttpResponse>,
    S::Future: Send + 'static,
{
    type Response = HttpResponse;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let origin = request.headers().get(ORIGIN);
        let origin = origin.filter(|origin| is_local(origin)).cloned();
        let asks = request.method() == Method::OPTIONS;
        // A browser lets any page open a socket to anywhere, and asks nobody first.
        let foreign = request.headers().contains_key(ORIGIN) && origin.is_none();
        if foreign && request.headers().contains_key(UPGRADE) {
            return Box::pin(async {
                let mut refused = HttpResponse::new(HttpBody::empty());
                *refused.status_mut() = StatusCode::FORBIDDEN;
                Ok(refused)
            });
        }
        let answered = self.0.call(request);
        Box::pin(async move {
            let Some(origin) = origin else {
                return answered.await;
            };
            let mut response = match asks {
                true => HttpResponse::new(HttpBody::empty()),
                false => answered.await?,
            };
            let headers = response.headers_mut();
            headers.insert("access-control-allow-origin", origin);
            for (name, value) in ALLOWED {
                headers.insert(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            Ok(response)
        })
    }
}

fn is_local(origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let host = origin.split_once("://").map(|(_, host)| host);
    let name = host.map(|host| host.split_once(':').map_or(host, |(name, _)| name));
    matches!(name, Some("localhost" | "127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_local() {
        let local = |origin| is_local(&HeaderValue::from_static(origin));
        assert!(local("http://127.0.0.1:7780") && local("http://localhost"));
        for origin in [
            "https://example.org",
            "http://127.0.0.1.example.org:80",
            "http://localhost.example.org",
            "null",
            "",
        ] {
            assert!(!local(origin), "{origin}");
        }
    }
}
