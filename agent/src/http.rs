//! `/livez`, `/readyz` and `/metrics`, for kubelet and Prometheus.

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Where to listen unless told otherwise: the pod has the host's network, and this is not for everybody.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9617";

/// Connections at a time.
const CONNECTIONS: usize = 16;

/// How long a client may take to send its headers.
const HEADERS: Duration = Duration::from_secs(5);

/// How long a connection may last: one request and its answer.
const CONNECTION: Duration = Duration::from_secs(15);

/// How long open requests may take at the end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Tells whether the process's loop is alive: it ticks whenever it comes round.
#[derive(Debug)]
pub struct Liveness {
    limit: Duration,
    last: Mutex<Instant>,
}

impl Liveness {
    /// Alive now, and for as long again at each tick.
    pub fn new(limit: Duration) -> Self {
        Self { limit, last: Mutex::new(Instant::now()) }
    }

    /// The loop came round.
    pub fn tick(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether it came round within the limit.
    pub fn is_alive(&self) -> bool {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed() <= self.limit
    }
}

/// What the answers come from.
#[derive(Clone)]
pub struct Health {
    /// Of the loop.
    pub liveness: Arc<Liveness>,
    /// Set when all that is needed has been seen: by an agent, its inputs and its own Node.
    pub is_ready: Arc<AtomicBool>,
    /// The text of `/metrics` and its type.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// `Content-Type` of that text.
    pub metrics_type: &'static str,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { liveness, is_ready, metrics: _, metrics_type: _ } = self;
        f.debug_struct("Health").field("liveness", liveness).field("is_ready", is_ready).finish_non_exhaustive()
    }
}

/// Serves until `shutdown`, then lets open requests end. Drive it beside the loop.
pub async fn serve(listener: TcpListener, health: Health, shutdown: impl Future<Output = ()>) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        // The place is taken first: a client that finds none waits in the kernel's queue. Dropping either wait loses
        // nothing, and a connection that was accepted is handed on at once.
        let accepted = async {
            let permit = limit.clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (stream, permit) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            (stream, permit) = accepted => (stream, permit),
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptors left, most likely: a tight loop would not free one.
                warn!(kind = %error.kind(), "connection not accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let health = health.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&request, &health);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .keep_alive(false)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tasks.spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(CONNECTION, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => debug!("connection broke"),
                Err(_) => debug!("connection took too long"),
            }
        });
        while tasks.try_join_next().is_some() {}
    }
    if tokio::time::timeout(SHUTDOWN, graceful.shutdown()).await.is_err() {
        debug!("connections cut");
    }
}

fn answer<B>(request: &Request<B>, health: &Health) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let Health { liveness, is_ready, metrics, metrics_type } = health;
    let verdict = |holds: bool, not: &str| match holds {
        true => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{not}\n")),
    };
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, text) = match request.uri().path() {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned()),
        "/livez" => verdict(liveness.is_alive(), "the loop stands still"),
        "/readyz" => verdict(is_ready.load(Ordering::Relaxed), "not all that is needed has been seen yet"),
        "/metrics" => (StatusCode::OK, *metrics_type, metrics()),
        _ => (StatusCode::NOT_FOUND, TEXT, "/livez, /readyz, /metrics\n".to_owned()),
    };
    // hyper sends no body to HEAD, but its length.
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    struct Running {
        address: SocketAddr,
        health: Health,
        stop: oneshot::Sender<()>,
        tasks: JoinSet<()>,
    }

    async fn started() -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health {
            liveness: Arc::new(Liveness::new(Duration::from_secs(30))),
            is_ready: Arc::default(),
            metrics: Arc::new(|| "# EOF\n".to_owned()),
            metrics_type: "application/openmetrics-text",
        };
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, health.clone(), async move { drop(stopped.await) }));
        Running { address, health, stop, tasks }
    }

    async fn ask(address: SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn each_path_has_its_answer_and_nothing_can_be_written() {
        let run = started().await;
        assert!(ask(run.address, "GET /livez").await.starts_with("HTTP/1.1 200 "));
        assert!(ask(run.address, "GET /readyz").await.starts_with("HTTP/1.1 503 "));
        run.health.is_ready.store(true, Ordering::Relaxed);
        assert!(ask(run.address, "GET /readyz").await.starts_with("HTTP/1.1 200 "));
        let metrics = ask(run.address, "GET /metrics").await;
        assert!(metrics.contains("content-type: application/openmetrics-text\r\n"), "{metrics}");
        assert!(metrics.ends_with("\r\n\r\n# EOF\n"), "{metrics}");
        let head = ask(run.address, "HEAD /metrics").await;
        assert!(head.contains("content-length: 6\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(ask(run.address, "GET /").await.starts_with("HTTP/1.1 404 "));
        let post = ask(run.address, "POST /metrics").await;
        assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_is_dead_and_one_that_ticks_is_not() {
        let liveness = Liveness::new(Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(29)).await;
        liveness.tick();
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(liveness.is_alive());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!liveness.is_alive());
    }

    #[tokio::test]
    async fn the_seventeenth_connection_waits_for_a_place() {
        let run = started().await;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(run.address).await.unwrap();
            stream.write_all(b"GET /livez").await.unwrap();
            idle.push(stream);
        }
        let mut waiting = pin!(ask(run.address, "GET /livez"));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
        assert!(early.is_err(), "{early:?}");
        idle.pop();
        assert!(waiting.await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_never_end_end_the_connection() {
        let run = started().await;
        let mut slow = TcpStream::connect(run.address).await.unwrap();
        slow.write_all(b"GET /livez").await.unwrap();
        let begun = Instant::now();
        // Closed or reset: both end it.
        let _ = slow.read_to_end(&mut Vec::new()).await;
        assert!(begun.elapsed() >= HEADERS && begun.elapsed() < CONNECTION, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_serving_though_a_client_is_slow() {
        let mut run = started().await;
        let mut slow = TcpStream::connect(run.address).await.unwrap();
        slow.write_all(b"GET /livez").await.unwrap();
        assert!(ask(run.address, "GET /livez").await.starts_with("HTTP/1.1 200 "));
        // From here on only the waits count, and they cost no time.
        tokio::time::pause();
        let begun = Instant::now();
        run.stop.send(()).unwrap();
        run.tasks.join_next().await.unwrap().unwrap();
        assert!(begun.elapsed() < HEADERS, "before the client itself is given up: {:?}", begun.elapsed());
        assert!(TcpStream::connect(run.address).await.is_err());
    }
}
