//! Waiting for what comes about by itself.

use std::time::{Duration, Instant};

/// Waits until something is so, for as long as a busy machine may take; says how long it took.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < Duration::from_secs(60), "it never came to that: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    started.elapsed()
}
