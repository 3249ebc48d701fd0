//! Long work in between: a text may be so long that judging it takes a while, and other sessions must
//! not wait for it.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Shorter texts are judged in less time than it takes to make way.
const LONG: usize = 8 * 1024;

/// Judges a text of so many bytes. While a long one is judged, other tasks of this thread go on elsewhere.
pub fn judge<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let has_others = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if length > LONG && has_others { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_meanwhile() {
        let (tell, told) = mpsc::channel();
        let long = tokio::spawn(async move { judge(LONG + 1, || told.recv_timeout(Duration::from_secs(30))) });
        // The only worker is busy with that, and this runs all the same.
        let other = tokio::spawn(async move { tell.send(7) });
        assert_eq!(other.await.expect("runs"), Ok(()));
        assert_eq!(long.await.expect("runs"), Ok(7));
    }
}
