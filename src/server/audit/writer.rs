//! The one thread that writes the log file: lines that wait together are made durable together.
//!
//! What must stay true: a line is acknowledged only after `fdatasync` has succeeded; after the
//! first failure nothing is ever acknowledged again (a failed fsync may have dropped pages, so
//! trying again and believing the answer would be wrong).

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::core::audit::merkle::Tree;
use crate::core::transcript::Line;

/// Lines that may wait; a full queue is an error to the statement, never a dropped line.
const QUEUE: usize = 4096;
/// Lines that one fdatasync covers at the most.
const BATCH: usize = 1024;

/// Where lines end up: a file, or in tests something that fails on purpose.
pub trait Sink: Write + Send + 'static {
    /// Makes what was written durable.
    fn sync(&mut self) -> std::io::Result<()>;
}

impl Sink for std::fs::File {
    fn sync(&mut self) -> std::io::Result<()> {
        self.sync_data()
    }
}

/// What the tree and the file hold, shared with readers.
#[derive(Default)]
pub struct Stored {
    pub tree: Tree,
    /// Byte offset and length of every line.
    pub places: Vec<(u64, u32)>,
    /// Indexes of the lines of each session, and of grants by the hash of their line.
    pub sessions: std::collections::HashMap<String, Vec<u64>>,
    pub end: u64,
}

impl Stored {
    /// Takes in a line that is durable.
    pub fn push(&mut self, line: &Line, session: &str) -> u64 {
        let index = self.tree.size();
        let length = u32::try_from(line.as_str().len()).unwrap_or(u32::MAX);
        self.tree.push(line.leaf());
        self.places.push((self.end, length));
        self.sessions.entry(session.to_owned()).or_default().push(index);
        self.end += u64::from(length) + 1;
        index
    }
}

/// A line on its way, and who waits for it.
struct Request {
    line: Line,
    session: String,
    done: Option<oneshot::Sender<Option<u64>>>,
}

/// The writer's front.
#[derive(Clone)]
pub struct Writer {
    queue: SyncSender<Request>,
    stored: Arc<Mutex<Stored>>,
}

impl Writer {
    /// Starts the thread; `stored` is what the sink already holds.
    pub fn start(sink: impl Sink, stored: Stored) -> Self {
        let (queue, requests) = sync_channel(QUEUE);
        let stored = Arc::new(Mutex::new(stored));
        let shared = stored.clone();
        std::thread::spawn(move || write_all(sink, &requests, &shared));
        Self { queue, stored }
    }

    /// Appends a line; its index once it is durable, `None` when it is not and will not be.
    pub async fn append(&self, line: Line, session: &str) -> Option<u64> {
        let (done, durable) = oneshot::channel();
        self.queue.try_send(Request { line, session: session.to_owned(), done: Some(done) }).ok()?;
        durable.await.ok().flatten()
    }

    /// Appends a line that need not be waited for. False when the log takes none.
    #[must_use]
    pub fn append_soon(&self, line: Line, session: &str) -> bool {
        self.queue.try_send(Request { line, session: session.to_owned(), done: None }).is_ok()
    }

    /// What is stored; a panic elsewhere leaves it whole, because a push is its only change.
    pub fn stored(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread: until every front is gone, or the sink fails. Ending drops the queue, so that
/// every later append fails at once.
fn write_all(mut sink: impl Sink, requests: &Receiver<Request>, stored: &Mutex<Stored>) {
    while let Ok(first) = requests.recv() {
        let mut batch = vec![first];
        batch.extend(requests.try_iter().take(BATCH));
        let mut bytes = Vec::new();
        for request in &batch {
            bytes.extend_from_slice(request.line.as_str().as_bytes());
            bytes.push(b'\n');
        }
        if let Err(error) = sink.write_all(&bytes).and_then(|()| sink.sync()) {
            tracing::error!(%error, "the audit log cannot be written; nothing is recorded or run from here on");
            return;
        }
        let mut stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
        for request in batch {
            let index = stored.push(&request.line, &request.session);
            if let Some(done) = request.done {
                // Whoever waited may have given up.
                let _ = done.send(Some(index));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::time::Moment;
    use crate::core::transcript::{Chain, Leaf};

    /// Takes some bytes, then is full for ever, as a disk.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(bytes.len()) {
                Some(left) => {
                    self.0 = left;
                    Ok(bytes.len())
                }
                None => Err(std::io::ErrorKind::StorageFull.into()),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Full {
        fn sync(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn once_the_disk_is_full_nothing_is_acknowledged_again() {
        let mut chain = Chain::for_log("TEST", Leaf::NONE);
        let mut line =
            || chain.append("log.beat", Moment::from_seconds(1), Duration::ZERO, Default::default()).expect("a line");
        let writer = Writer::start(Full(line().as_str().len() + 2), Stored::default());
        assert_eq!(writer.append(line(), "~TEST").await, Some(0));
        assert_eq!(writer.append(line(), "~TEST").await, None);
        assert_eq!(writer.append(line(), "~TEST").await, None);
        assert_eq!(writer.stored().tree.size(), 1);
    }
}
