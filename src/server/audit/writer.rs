//! The one thread that writes the log file: lines that wait together are made durable together.
//!
//! What must stay true: a line is acknowledged only after `fdatasync` has succeeded; after the
//! first failure nothing is ever acknowledged again (a failed fsync may have dropped pages, so
//! trying again and believing the answer would be wrong); a line that nobody waits for is durable
//! within [`LINGER`] and one sync all the same. The index follows the file: who looks a line up waits for it.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use super::session::count;
use super::stored::{Entry, Kind, Stored};
use crate::core::transcript::Line;

/// Lines that may wait; a full queue is an error to the statement, never a dropped line.
const QUEUE: usize = 4096;
/// Lines that are not let wait any longer.
const BATCH: usize = 1024;
/// How long lines may gather while nobody waits for one of them.
const LINGER: Duration = Duration::from_millis(20);

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

/// Why a line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Too many lines wait. It may be tried again.
    Full,
    /// The file cannot be written, or the log was stopped. For good.
    Failed,
}

/// A line that was taken and may not be durable yet: its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pending(u64);

/// What the thread does while it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sleep {
    #[default]
    Awake,
    /// Until there is a line.
    Idle,
    /// Until lines have gathered.
    Lingering,
}

/// Lines on their way.
#[derive(Default)]
struct Inbox {
    /// Their text, each with its line feed.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Who waits, and for which index.
    waiters: Vec<(u64, oneshot::Sender<()>)>,
    /// The index that the next line will have.
    next: u64,
    is_urgent: bool,
    /// How many wait for a line that is not there yet: no line is let wait meanwhile.
    expecting: usize,
    is_stopped: bool,
    sleep: Sleep,
}

impl Inbox {
    /// Whether the line has not been taken yet.
    fn holds(&self, index: u64) -> bool {
        index >= self.next.saturating_sub(count(self.entries.len()))
    }
}

/// The writer's front.
pub struct Writer {
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    stored: Mutex<Stored>,
    /// How many lines are durable.
    durable: AtomicU64,
    is_failed: AtomicBool,
    grown: Notify,
}

impl Writer {
    /// Starts the thread; `stored` is what the sink already holds.
    pub fn start(sink: impl Sink, stored: Stored) -> Self {
        let size = stored.size();
        let shared = Arc::new(Shared {
            inbox: Mutex::new(Inbox { next: size, ..Inbox::default() }),
            wake: Condvar::new(),
            stored: Mutex::new(stored),
            durable: AtomicU64::new(size),
            is_failed: AtomicBool::new(false),
            grown: Notify::new(),
        });
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || {
            let ending = Ending(&theirs);
            if let Err(error) = write_all(sink, &theirs) {
                tracing::error!(%error, "the audit log cannot be written; nothing is recorded or run from here on");
            }
            drop(ending);
        });
        Self { thread: Mutex::new(Some(thread)), shared }
    }

    /// Queues a line. Lines are written in the order of these calls; whether this one is waited
    /// for or not, it will be durable soon.
    pub fn append(&self, line: &Line, session: &Arc<str>, kind: Kind) -> Result<Pending, NotTaken> {
        let mut inbox = self.shared.inbox();
        if inbox.is_stopped || self.shared.is_failed.load(Ordering::Acquire) {
            return Err(NotTaken::Failed);
        }
        if inbox.entries.len() >= QUEUE {
            return Err(NotTaken::Full);
        }
        let length = u32::try_from(line.as_str().len()).unwrap_or(u32::MAX);
        inbox.bytes.extend_from_slice(line.as_str().as_bytes());
        inbox.bytes.push(b'\n');
        inbox.entries.push(Entry { leaf: line.leaf(), length, session: session.clone(), kind });
        let pending = Pending(inbox.next);
        inbox.next += 1;
        inbox.is_urgent |= inbox.entries.len() >= BATCH || inbox.expecting > 0;
        self.shared.rouse(inbox);
        Ok(pending)
    }

    /// The line's index once it is durable, `None` when it is not and will not be.
    pub async fn durable(&self, pending: Pending) -> Option<u64> {
        self.acknowledged(pending, true).await
    }

    /// The same, but lets more lines gather first.
    pub async fn durable_in_turn(&self, pending: Pending) -> Option<u64> {
        self.acknowledged(pending, false).await
    }

    /// Whether the line is durable by now.
    pub fn is_durable(&self, Pending(index): Pending) -> bool {
        self.shared.durable.load(Ordering::Acquire) > index
    }

    /// Has what was queued written now, without waiting for it.
    pub fn hurry(&self) {
        let mut inbox = self.shared.inbox();
        inbox.is_urgent |= !inbox.entries.is_empty();
        self.shared.rouse(inbox);
    }

    async fn acknowledged(&self, Pending(index): Pending, is_urgent: bool) -> Option<u64> {
        let done = {
            let mut inbox = self.shared.inbox();
            // Looked at under the lock: the thread says so first, and then looks who waits.
            if self.shared.durable.load(Ordering::Acquire) > index {
                return Some(index);
            }
            if self.shared.is_failed.load(Ordering::Acquire) {
                return None;
            }
            let (wake, done) = oneshot::channel();
            inbox.waiters.push((index, wake));
            // What the thread has taken already is on its way: what came behind it may gather.
            inbox.is_urgent |= is_urgent && inbox.holds(index);
            self.shared.rouse(inbox);
            done
        };
        done.await.ok().map(|()| index)
    }

    /// Takes no more lines; returns when those that were taken are written and the file is free.
    pub fn stop(&self) {
        {
            let mut inbox = self.shared.inbox();
            inbox.is_stopped = true;
            self.shared.rouse(inbox);
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread has no panic of its own; if it had one, there would be nothing left to wait for.
        let _ = thread.map(JoinHandle::join);
    }

    /// Whether lines are still taken.
    pub fn is_accepting(&self) -> bool {
        !self.shared.inbox().is_stopped && !self.shared.is_failed.load(Ordering::Acquire)
    }

    /// What is stored and durable. A panic elsewhere leaves it whole: a push is its only change.
    pub fn stored(&self) -> MutexGuard<'_, Stored> {
        self.shared.stored()
    }

    /// The next time that lines have been written.
    pub fn written(&self) -> Notified<'_> {
        self.shared.grown.notified()
    }

    /// Waits until something `is_there`; as long as it takes.
    pub async fn wait_until(&self, is_there: impl Fn(&Stored) -> bool) {
        let _expecting = Expecting::new(&self.shared);
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

impl Shared {
    /// A panic elsewhere leaves it whole: a line is in it with its entry or not at all.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread if it sleeps and there is reason to: a wake-up for every line would cost
    /// more than the line. The inbox is free by then, or the thread would wake only to wait for it.
    fn rouse(&self, mut inbox: MutexGuard<'_, Inbox>) {
        let is_reason = match inbox.sleep {
            Sleep::Awake => false,
            // Who is woken for nothing sleeps on, and is not known to.
            Sleep::Idle => !inbox.entries.is_empty() || inbox.is_stopped,
            Sleep::Lingering => inbox.is_urgent || inbox.is_stopped,
        };
        if is_reason {
            inbox.sleep = Sleep::Awake;
            drop(inbox);
            self.wake.notify_one();
        }
    }

    /// Waits for lines and takes all there are into `bytes` and `entries`. False when the log has
    /// stopped and there are none.
    fn take(&self, bytes: &mut Vec<u8>, entries: &mut Vec<Entry>) -> bool {
        // Lines come one behind the other: the next one finds the thread lingering, and need not wake it.
        let mut inbox = self.linger(self.inbox());
        while inbox.entries.is_empty() && !inbox.is_stopped {
            inbox.sleep = Sleep::Idle;
            let comes = |inbox: &mut Inbox| inbox.entries.is_empty() && !inbox.is_stopped;
            inbox = self.linger(self.wake.wait_while(inbox, comes).unwrap_or_else(PoisonError::into_inner));
        }
        inbox.sleep = Sleep::Awake;
        inbox.is_urgent = false;
        std::mem::swap(&mut inbox.bytes, bytes);
        std::mem::swap(&mut inbox.entries, entries);
        !entries.is_empty()
    }

    /// Lets lines gather.
    fn linger<'s>(&'s self, mut inbox: MutexGuard<'s, Inbox>) -> MutexGuard<'s, Inbox> {
        inbox.sleep = Sleep::Lingering;
        let gathers = |inbox: &mut Inbox| !inbox.is_urgent && !inbox.is_stopped;
        self.wake.wait_timeout_while(inbox, LINGER, gathers).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Tells those who wait for a line that is durable.
    fn acknowledge(&self) {
        let durable = self.durable.load(Ordering::Acquire);
        for (_, wake) in self.inbox().waiters.extract_if(.., |(index, _)| *index < durable) {
            // Who waited may have gone.
            let _ = wake.send(());
        }
        self.grown.notify_waiters();
    }
}

/// Somebody waits for a line that may not have been queued: while this lives, lines do not gather.
struct Expecting<'s>(&'s Shared);

impl<'s> Expecting<'s> {
    fn new(shared: &'s Shared) -> Self {
        let mut inbox = shared.inbox();
        inbox.expecting += 1;
        inbox.is_urgent |= !inbox.entries.is_empty();
        shared.rouse(inbox);
        Self(shared)
    }
}

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        self.0.inbox().expecting -= 1;
    }
}

/// However the thread ends: nothing is taken or acknowledged from then on.
struct Ending<'s>(&'s Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_failed.store(true, Ordering::Release);
        // Their ends are dropped, and those who wait see it.
        self.0.inbox().waiters.clear();
        self.0.grown.notify_waiters();
    }
}

/// The thread: until the log stops, or the sink fails.
fn write_all(mut sink: impl Sink, shared: &Shared) -> std::io::Result<()> {
    let (mut bytes, mut entries) = (Vec::new(), Vec::new());
    while shared.take(&mut bytes, &mut entries) {
        sink.write_all(&bytes)?;
        sink.sync()?;
        let mut stored = shared.stored();
        entries.iter().for_each(|entry| stored.push(entry));
        shared.durable.store(stored.size(), Ordering::Release);
        // Who waits for the line goes on; who looks it up waits until the index has it.
        shared.acknowledge();
        stored.write()?;
        drop(stored);
        bytes.clear();
        entries.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::core::time::Moment;
    use crate::core::transcript::{Chain, Leaf};
    use crate::sys::scratch::Scratch;

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

    fn lines() -> impl FnMut() -> Line {
        let mut chain = Chain::for_log("TEST", Leaf::NONE);
        move || {
            let line = chain.append("log.beat", Moment::from_seconds(1), Duration::ZERO, Default::default());
            line.expect("a line")
        }
    }

    /// A writer whose index stands in a folder of its own.
    fn start(sink: impl Sink) -> (Writer, Scratch) {
        let folder = Scratch::new();
        (Writer::start(sink, Stored::empty(folder.path()).expect("an index")), folder)
    }

    fn queue(writer: &Writer, line: &Line) -> Result<Pending, NotTaken> {
        writer.append(line, &"~TEST".into(), Kind::Other)
    }

    async fn append(writer: &Writer, line: &Line) -> Option<u64> {
        writer.durable(queue(writer, line).ok()?).await
    }

    #[tokio::test]
    async fn who_looks_for_what_is_there_already_does_not_put_the_thread_to_sleep() {
        let (writer, _folder) = start(Broken { left: usize::MAX, syncs: usize::MAX });
        let mut next = lines();
        append(&writer, &next()).await.expect("durable");
        for _ in 0..3 {
            while writer.shared.inbox().sleep != Sleep::Idle {
                tokio::time::sleep(LINGER).await;
            }
            writer.hurry();
            writer.wait_until(|stored| stored.size() > 0).await;
            assert_eq!(writer.shared.inbox().sleep, Sleep::Idle, "the next line must wake it");
            let appended = tokio::time::timeout(LINGER * 250, append(&writer, &next())).await;
            assert!(appended.expect("it is awake").is_some());
        }
    }

    #[tokio::test]
    async fn once_the_disk_is_full_nothing_is_acknowledged_again() {
        let mut next = lines();
        let first = next();
        let (writer, _folder) = start(Broken { left: first.as_str().len() + 2, syncs: 9 });
        assert_eq!(append(&writer, &first).await, Some(0));
        assert!(writer.is_accepting());
        assert_eq!(append(&writer, &next()).await, None);
        assert_eq!(append(&writer, &next()).await, None);
        assert!(!writer.is_accepting());
        assert_eq!(writer.stored().size(), 1);
    }

    #[tokio::test]
    async fn a_failed_sync_is_never_tried_again_and_believed() {
        let mut next = lines();
        let (writer, _folder) = start(Broken { left: 1 << 20, syncs: 1 });
        assert_eq!(append(&writer, &next()).await, Some(0));
        assert_eq!(append(&writer, &next()).await, None);
        assert_eq!(append(&writer, &next()).await, None);
    }

    #[tokio::test]
    async fn a_real_full_device_fails_every_append() {
        let Ok(device) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
        let mut next = lines();
        let (writer, _folder) = start(device);
        assert_eq!(append(&writer, &next()).await, None);
        assert_eq!(append(&writer, &next()).await, None);
        assert!(!writer.is_accepting());
    }

    #[tokio::test]
    async fn nothing_is_acknowledged_before_it_is_synced_and_one_sync_covers_many() {
        let (go, words) = mpsc::channel();
        let mut next = lines();
        let (writer, _folder) = start(Slow(words));
        let pending: Vec<Pending> = (0..5).map(|_| queue(&writer, &next()).expect("room")).collect();
        let mut waiting: Vec<_> = pending.iter().map(|pending| Box::pin(writer.durable(*pending))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        // The first batch holds the first line at least; the second all the others.
        go.send(()).expect("the thread lives");
        go.send(()).expect("the thread lives");
        let mut indexes = Vec::new();
        for one in waiting {
            indexes.push(one.await);
        }
        assert_eq!(indexes, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    }

    #[tokio::test]
    async fn a_line_that_nobody_waits_for_is_written_all_the_same() {
        let (go, words) = mpsc::channel();
        let mut next = lines();
        let (writer, _folder) = start(Slow(words));
        for size in 1..4 {
            queue(&writer, &next()).expect("room");
            go.send(()).expect("the thread lives");
            writer.wait_until(|stored| stored.size() == size).await;
        }
    }

    #[tokio::test]
    async fn a_full_queue_is_an_error_and_passes() {
        let (go, words) = mpsc::channel();
        let mut next = lines();
        let (writer, _folder) = start(Slow(words));
        let refused = (0..QUEUE * 2 + BATCH).find_map(|_| queue(&writer, &next()).err());
        assert_eq!(refused, Some(NotTaken::Full));
        assert!(writer.is_accepting(), "full is not broken");
        (0..QUEUE).for_each(|_| assert!(go.send(()).is_ok()));
        writer.wait_until(|stored| stored.size() >= u64::try_from(QUEUE).unwrap_or(0)).await;
        assert!(queue(&writer, &next()).is_ok());
    }

    #[tokio::test]
    async fn who_is_in_no_hurry_hurries_nobody_and_is_told_all_the_same() {
        let (go, words) = mpsc::channel();
        let mut next = lines();
        let (writer, _folder) = start(Slow(words));
        // While the thread waits for the disk, nobody looks at what gathers.
        let first = queue(&writer, &next()).expect("room");
        let mut hurried = Box::pin(writer.durable(first));
        assert!(futures_util::poll!(&mut hurried).is_pending());
        while writer.shared.inbox().is_urgent {
            tokio::task::yield_now().await;
        }
        let second = queue(&writer, &next()).expect("room");
        let mut in_turn = Box::pin(writer.durable_in_turn(second));
        assert!(futures_util::poll!(&mut in_turn).is_pending());
        assert!(!writer.shared.inbox().is_urgent);
        let mut again = Box::pin(writer.durable(first));
        assert!(futures_util::poll!(&mut again).is_pending());
        assert!(!writer.shared.inbox().is_urgent, "what is on its way hurries nothing behind it");
        {
            let mut expected = Box::pin(writer.wait_until(|stored| stored.size() == 3));
            assert!(futures_util::poll!(&mut expected).is_pending());
            assert!(std::mem::take(&mut writer.shared.inbox().is_urgent), "what is there may be what is expected");
            queue(&writer, &next()).expect("room");
            assert!(std::mem::take(&mut writer.shared.inbox().is_urgent), "or what comes");
        }
        queue(&writer, &next()).expect("room");
        assert!(!writer.shared.inbox().is_urgent, "nobody expects anything any more");
        (0..4).for_each(|_| assert!(go.send(()).is_ok()));
        assert_eq!(in_turn.await, Some(1));
    }

    #[tokio::test]
    async fn who_waits_when_the_thread_ends_is_told() {
        let (go, words) = mpsc::channel();
        let mut next = lines();
        let (writer, _folder) = start(Slow(words));
        let pending = queue(&writer, &next()).expect("room");
        let mut waiting = Box::pin(writer.durable(pending));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(go);
        assert_eq!(waiting.await, None);
        assert_eq!(queue(&writer, &next()), Err(NotTaken::Failed));
    }
}
