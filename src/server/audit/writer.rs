//! The one thread that writes the log file: lines that wait together are made durable together.
//!
//! What must stay true: a line is acknowledged only after `fdatasync` has succeeded; after the
//! first failure nothing is ever acknowledged again (a failed fsync may have dropped pages, so
//! trying again and believing the answer would be wrong).

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::core::audit::merkle::Tree;
use crate::core::transcript::{Leaf, Line};

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

/// A line and what the index must know of it.
pub struct Entry {
    pub line: Line,
    /// The name in `sid`.
    pub session: String,
    pub kind: Kind,
}

/// Kinds of lines that are looked for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Grant,
    Close,
    Other,
}

impl Kind {
    /// From the word in `k`.
    pub fn of(word: &str) -> Self {
        match word {
            "grant" => Self::Grant,
            "session.close" => Self::Close,
            _ => Self::Other,
        }
    }
}

/// What the tree and the file hold, shared with readers.
#[derive(Default)]
pub struct Stored {
    pub tree: Tree,
    /// Byte offset and length of every line.
    pub places: Vec<(u64, u32)>,
    pub sessions: HashMap<String, SessionLines>,
    /// Grants by the hash of their line.
    pub grants: HashMap<Leaf, u64>,
    pub end: u64,
}

/// Where the lines of one session are.
#[derive(Default)]
pub struct SessionLines {
    pub indexes: Vec<u64>,
    pub is_closed: bool,
}

impl Stored {
    /// Takes in a line that is durable.
    pub fn push(&mut self, entry: &Entry) -> u64 {
        let index = self.tree.size();
        let length = u32::try_from(entry.line.as_str().len()).unwrap_or(u32::MAX);
        self.tree.push(entry.line.leaf());
        self.places.push((self.end, length));
        let lines = self.sessions.entry(entry.session.clone()).or_default();
        lines.indexes.push(index);
        lines.is_closed |= entry.kind == Kind::Close;
        if entry.kind == Kind::Grant {
            self.grants.insert(entry.line.leaf(), index);
        }
        self.end += u64::from(length) + 1;
        index
    }
}

/// Why a line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Too many lines wait. It may be tried again.
    Full,
    /// The file cannot be written, or the log was stopped. For good.
    Failed,
}

/// A line on its way, and who waits for it.
struct Request {
    entry: Entry,
    done: oneshot::Sender<u64>,
}

/// A line that was taken and is not durable yet.
pub struct Pending(oneshot::Receiver<u64>);

impl Pending {
    /// The line's index once it is durable, `None` when it is not and will not be.
    pub async fn durable(self) -> Option<u64> {
        self.0.await.ok()
    }
}

/// The writer's front.
pub struct Writer {
    /// `None` once the log was stopped.
    queue: Mutex<Option<SyncSender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stored: Mutex<Stored>,
    is_failed: AtomicBool,
    grown: Notify,
}

impl Writer {
    /// Starts the thread; `stored` is what the sink already holds.
    pub fn start(sink: impl Sink, stored: Stored) -> Self {
        let (queue, requests) = sync_channel(QUEUE);
        let shared = Arc::new(Shared { stored: Mutex::new(stored), ..Shared::default() });
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || write_all(sink, &requests, &theirs));
        Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), shared }
    }

    /// Queues a line. Lines are written in the order of these calls; whether this one is waited
    /// for or not, the next batch makes it durable.
    pub fn append(&self, entry: Entry) -> Result<Pending, NotTaken> {
        if self.shared.is_failed.load(Ordering::Acquire) {
            return Err(NotTaken::Failed);
        }
        let (done, durable) = oneshot::channel();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = queue.as_ref().ok_or(NotTaken::Failed)?.try_send(Request { entry, done });
        sent.map(|()| Pending(durable)).map_err(|error| match error {
            TrySendError::Full(_) => NotTaken::Full,
            TrySendError::Disconnected(_) => NotTaken::Failed,
        })
    }

    /// Takes no more lines; returns when those that were taken are written and the file is free.
    pub fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread has no panic of its own; if it had one, there would be nothing left to wait for.
        let _ = thread.map(JoinHandle::join);
    }

    /// Whether lines are still taken.
    pub fn is_accepting(&self) -> bool {
        let is_open = self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        is_open && !self.shared.is_failed.load(Ordering::Acquire)
    }

    /// What is stored and durable. A panic elsewhere leaves it whole: a push is its only change.
    pub fn stored(&self) -> MutexGuard<'_, Stored> {
        self.shared.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next time that lines have been written.
    pub fn written(&self) -> Notified<'_> {
        self.shared.grown.notified()
    }

    /// Waits until something `is_there`; as long as it takes.
    pub async fn wait_until(&self, is_there: impl Fn(&Stored) -> bool) {
        loop {
            let grown = self.shared.grown.notified();
            tokio::pin!(grown);
            // Registered before the look, so that what comes in between is not missed.
            grown.as_mut().enable();
            if is_there(&self.stored()) {
                return;
            }
            grown.await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread: until the front is gone, or the sink fails. Ending drops the queue with all that
/// waits in it, so that every later append fails at once.
fn write_all(mut sink: impl Sink, requests: &Receiver<Request>, shared: &Shared) {
    while let Ok(first) = requests.recv() {
        let mut batch = vec![first];
        batch.extend(requests.try_iter().take(BATCH - 1));
        let mut bytes = Vec::new();
        for request in &batch {
            bytes.extend_from_slice(request.entry.line.as_str().as_bytes());
            bytes.push(b'\n');
        }
        if let Err(error) = sink.write_all(&bytes).and_then(|()| sink.sync()) {
            shared.is_failed.store(true, Ordering::Release);
            tracing::error!(%error, "the audit log cannot be written; nothing is recorded or run from here on");
            shared.grown.notify_waiters();
            return;
        }
        let mut stored = shared.stored.lock().unwrap_or_else(PoisonError::into_inner);
        for request in batch {
            let index = stored.push(&request.entry);
            // Not everybody waits.
            let _ = request.done.send(index);
        }
        drop(stored);
        shared.grown.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::core::time::Moment;
    use crate::core::transcript::Chain;

    /// Takes some bytes, then is full for ever, as a disk; or fails to sync once, as a broken one.
    struct Broken {
        left: usize,
        syncs: usize,
    }

    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.left = self.left.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Broken {
        fn sync(&mut self) -> std::io::Result<()> {
            self.syncs = self.syncs.checked_sub(1).ok_or(std::io::ErrorKind::Other)?;
            Ok(())
        }
    }

    /// Waits for a word before every sync.
    struct Slow(mpsc::Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Slow {
        fn sync(&mut self) -> std::io::Result<()> {
            self.0.recv().map_err(|_| std::io::ErrorKind::Other.into())
        }
    }

    fn entries() -> impl FnMut() -> Entry {
        let mut chain = Chain::for_log("TEST", Leaf::NONE);
        move || {
            let line = chain.append("log.beat", Moment::from_seconds(1), Duration::ZERO, Default::default());
            Entry { line: line.expect("a line"), session: "~TEST".into(), kind: Kind::Other }
        }
    }

    async fn append(writer: &Writer, entry: Entry) -> Option<u64> {
        writer.append(entry).ok()?.durable().await
    }

    #[tokio::test]
    async fn once_the_disk_is_full_nothing_is_acknowledged_again() {
        let mut next = entries();
        let first = next();
        let writer = Writer::start(Broken { left: first.line.as_str().len() + 2, syncs: 9 }, Stored::default());
        assert_eq!(append(&writer, first).await, Some(0));
        assert!(writer.is_accepting());
        assert_eq!(append(&writer, next()).await, None);
        assert_eq!(append(&writer, next()).await, None);
        assert!(!writer.is_accepting());
        assert_eq!(writer.stored().tree.size(), 1);
    }

    #[tokio::test]
    async fn a_failed_sync_is_never_tried_again_and_believed() {
        let mut next = entries();
        let writer = Writer::start(Broken { left: 1 << 20, syncs: 1 }, Stored::default());
        assert_eq!(append(&writer, next()).await, Some(0));
        assert_eq!(append(&writer, next()).await, None);
        assert_eq!(append(&writer, next()).await, None);
    }

    #[tokio::test]
    async fn a_real_full_device_fails_every_append() {
        let Ok(device) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
        let mut next = entries();
        let writer = Writer::start(device, Stored::default());
        assert_eq!(append(&writer, next()).await, None);
        assert_eq!(append(&writer, next()).await, None);
        assert!(!writer.is_accepting());
    }

    #[tokio::test]
    async fn nothing_is_acknowledged_before_it_is_synced_and_one_sync_covers_many() {
        let (go, words) = mpsc::channel();
        let mut next = entries();
        let writer = Writer::start(Slow(words), Stored::default());
        let mut waiting: Vec<Pending> = (0..5).map(|_| writer.append(next()).expect("room")).collect();
        assert!(waiting.iter_mut().all(|pending| pending.0.try_recv().is_err()));
        // The first batch holds the first line at least; the second all the others.
        go.send(()).expect("the thread lives");
        go.send(()).expect("the thread lives");
        let mut indexes = Vec::new();
        for pending in waiting {
            indexes.push(pending.durable().await);
        }
        assert_eq!(indexes, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    }

    #[tokio::test]
    async fn a_full_queue_is_an_error_and_passes() {
        let (go, words) = mpsc::channel();
        let mut next = entries();
        let writer = Writer::start(Slow(words), Stored::default());
        let refused = (0..QUEUE * 2 + BATCH).find_map(|_| writer.append(next()).err());
        assert_eq!(refused, Some(NotTaken::Full));
        assert!(writer.is_accepting(), "full is not broken");
        (0..QUEUE).for_each(|_| assert!(go.send(()).is_ok()));
        writer.wait_until(|stored| stored.tree.size() >= u64::try_from(QUEUE).unwrap_or(0)).await;
        assert!(writer.append(next()).is_ok());
    }
}
