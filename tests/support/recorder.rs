//! A relay between gate and target that writes down every message of either.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use dbgate::core::wire::frame::{self, Message};
use dbgate::core::wire::startup;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// One message on its way to or from the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    Asked(u8, String),
    Answered(u8),
}

/// What passed on each connection.
pub type Connections = Arc<Mutex<Vec<Vec<Passed>>>>;

/// What is done at each message to the target, before it goes on.
pub type Look = Arc<dyn Fn(&Passed) + Send + Sync>;

/// Stands between gate and target and writes down what passes.
pub async fn recorder(port: u16) -> (u16, Connections) {
    recorder_that_holds(port, Arc::default()).await
}

/// The same; while `holds` is set, an answer that is nothing but ReadyForQuery does not go on.
pub async fn recorder_that_holds(port: u16, holds: Arc<AtomicBool>) -> (u16, Connections) {
    between(port, holds, Arc::new(|_| ())).await
}

/// The same; at each message to the target, before it goes on, something is looked at.
pub async fn recorder_that_looks(port: u16, look: Look) -> (u16, Connections) {
    between(port, Arc::default(), look).await
}

async fn between(port: u16, holds: Arc<AtomicBool>, look: Look) -> (u16, Connections) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address").port();
    let passed = Connections::default();
    let list = passed.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", port)).await.expect("the target");
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let note = {
                let (list, number) = (list.clone(), list.lock().expect("whole").len());
                list.lock().expect("whole").push(Vec::new());
                move |passed: Passed| list.lock().expect("whole").get_mut(number).expect("a connection").push(passed)
            };
            let (also, look) = (note.clone(), look.clone());
            let ask = move |message: &Message| {
                let text = String::from_utf8_lossy(&message.body).replace('\0', " ").trim().to_owned();
                let asked = Passed::Asked(message.tag, text);
                look(&asked);
                note(asked);
            };
            let answer = move |message: &Message| also(Passed::Answered(message.tag));
            tokio::spawn(pass(near_in, far_out, None, ask));
            tokio::spawn(pass(far_in, near_out, Some(holds.clone()), answer));
        }
    });
    (own, passed)
}

/// Stands between gate and target, and passes cancel requests on only once it may.
pub async fn keeps_cancels(port: u16) -> (u16, Arc<Semaphore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address").port();
    let may = Arc::new(Semaphore::new(0));
    let passes = may.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let passes = passes.clone();
            tokio::spawn(async move {
                let mut first = [0u8; 8];
                near.read_exact(&mut first).await.expect("the first packet");
                // CancelRequest, PostgreSQL chapter "Message Formats".
                if first.ends_with(&80_877_102u32.to_be_bytes()) {
                    passes.acquire().await.expect("open").forget();
                }
                let mut far = TcpStream::connect(("127.0.0.1", port)).await.expect("the target");
                far.write_all(&first).await.expect("taken");
                // It ends when either side does.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (own, may)
}

/// Passes bytes on as they come, and shows every message in them. Those of the target may be held.
async fn pass(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    holds: Option<Arc<AtomicBool>>,
    mut show: impl FnMut(&Message),
) {
    let (mut buffer, mut is_first) = (BytesMut::new(), holds.is_none());
    let mut chunk = [0u8; 8192];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let bytes = chunk.get(..count).expect("no more than there is room for");
        buffer.extend_from_slice(bytes);
        if is_first && startup::take(&mut buffer).expect("a startup message").is_some() {
            is_first = false;
        }
        while !is_first && let Ok(Some(message)) = frame::take(&mut buffer, frame::LONGEST_FROM_SERVER) {
            show(&message);
        }
        while bytes.starts_with(b"Z") && holds.as_ref().is_some_and(|holds| holds.load(Ordering::SeqCst)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
