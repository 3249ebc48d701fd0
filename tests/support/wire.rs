//! A raw peer: says exactly the bytes a test wants said, and shows every message that comes back.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use dbgate::core::api::GrantAnswer;
use dbgate::core::secret::Secret;
use dbgate::core::wire::backend::{self, ErrorFields};
use dbgate::core::wire::frame::{self, Message};
use dbgate::core::wire::frontend;
use dbgate::core::wire::reader::Reader;
use dbgate::core::wire::{scram, startup};
use dbgate::sys::dial::Stream;
use dbgate::sys::{random, tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// A peer that says nothing for this long has failed the test.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Plain,
    /// SSLRequest first.
    Tls,
    /// A handshake at once, with ALPN.
    Direct,
}

/// One connection.
pub struct Peer {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    /// The hash of the server's certificate, where there is one.
    pub end_point: Option<Vec<u8>>,
}

impl Peer {
    /// A connection that has said nothing yet but what TLS needs.
    pub async fn open(host: &str, port: u16, ca_pem: Option<&str>, channel: Channel) -> Self {
        let mut tcp = TcpStream::connect((host, port)).await.expect("the port is open");
        tcp.set_nodelay(true).expect("a socket");
        if channel == Channel::Plain {
            return Self { stream: Box::new(tcp), buffer: BytesMut::new(), end_point: None };
        }
        let mut config = (*tls::client(ca_pem).expect("TLS")).clone();
        if channel == Channel::Direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        } else {
            let mut request = BytesMut::new();
            startup::write_tls_request(&mut request);
            tcp.write_all(&request).await.expect("written");
            let mut answer = [0u8; 1];
            tcp.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer, b"S", "TLS is offered");
        }
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        let stream = TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.expect("handshake");
        let chain = stream.get_ref().1.peer_certificates().expect("certificates");
        let end_point = chain.first().and_then(|certificate| scram::end_point(certificate));
        Self { stream: Box::new(stream), buffer: BytesMut::new(), end_point }
    }

    /// A connection to the gate of a grant.
    pub async fn to(grant: &GrantAnswer, channel: Channel) -> Self {
        Self::open(&grant.gateway.host, grant.gateway.port, grant.gateway.ca_pem.as_deref(), channel).await
    }

    /// A signed-in session through the gate.
    pub async fn through(grant: &GrantAnswer) -> Self {
        let mut peer = Self::to(grant, Channel::Tls).await;
        let parameters = [("user", grant.user.as_str()), ("database", grant.wire_database.as_str())];
        peer.sign_in(&parameters, &grant.password).await;
        peer
    }

    /// Startup and SCRAM; gives what the server said from AuthenticationOk to ReadyForQuery.
    pub async fn sign_in(&mut self, parameters: &[(&str, &str)], password: &Secret) -> Vec<Message> {
        let mut out = BytesMut::new();
        startup::write(parameters, &mut out);
        self.send(&out).await;
        self.prove(password).await;
        self.until(b'Z').await
    }

    /// Answers the server's SASL messages.
    pub async fn prove(&mut self, password: &Secret) {
        let offered = self.receive().await.expect("an offer");
        assert_eq!(offered.tag, b'R', "{:?}", offered.body);
        let has_plus = String::from_utf8_lossy(&offered.body).contains(scram::PLUS);
        let binding = self.end_point.clone().filter(|_| has_plus);
        let name = if binding.is_some() { scram::PLUS } else { scram::PLAIN };
        let client = scram::Client::new(password, &random::bytes(), binding.as_deref(), false);
        let mut out = BytesMut::new();
        frontend::sasl_initial(name, &client.first(), &mut out);
        self.send(&out).await;
        let first = self.receive().await.expect("server-first");
        let text = |message: &Message| String::from_utf8_lossy(message.body.get(4..).unwrap_or_default()).into_owned();
        let (last, expected) = client.respond(&text(&first)).expect("an exchange");
        let mut out = BytesMut::new();
        frontend::sasl_response(&last, &mut out);
        self.send(&out).await;
        let message = self.receive().await.expect("server-final");
        assert_eq!(message.tag, b'R', "{:?}", message.body);
        scram::Client::accept(&expected, &text(&message)).expect("the server knows the password, too");
    }

    /// Sends bytes as they are. A peer that has hung up is the test's own affair.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let _ = tokio::time::timeout(PATIENCE, sent).await.expect("the peer takes bytes");
    }

    /// A Query message.
    pub async fn query(&mut self, sql: &str) -> Vec<Message> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out);
        self.send(&out).await;
        self.until(b'Z').await
    }

    /// The next message; `None` when the connection has ended.
    pub async fn receive(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = frame::take(&mut self.buffer, frame::LONGEST_FROM_SERVER).expect("framed") {
                return Some(message);
            }
            let read = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(PATIENCE, read).await.expect("the peer says something") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits for the end of the connection. An error where it ends without TLS's goodbye.
    pub async fn goodbye(&mut self) -> std::io::Result<()> {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("it ends");
        read.map(|length| assert_eq!(length, 0, "{:?}", self.buffer))
    }

    /// Everything up to a message of this type, or to the end of the connection.
    pub async fn until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.receive().await {
            let is_last = message.tag == tag;
            messages.push(message);
            if is_last {
                break;
            }
        }
        messages
    }

    /// Everything up to the end of the connection.
    pub async fn until_closed(&mut self) -> Vec<Message> {
        self.until(0).await
    }
}

/// A message from its type and body.
pub fn message(tag: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::write(&mut out, tag, |out| out.put_slice(body));
    out
}

/// The types of messages, one letter each.
pub fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// The first error among messages.
pub fn error(messages: &[Message]) -> Option<ErrorFields> {
    let found = messages.iter().find(|message| message.tag == b'E')?;
    Some(backend::error_fields(&found.body).expect("an error that can be read"))
}

/// The SQLSTATE of the error that a Query is answered with.
pub async fn code(peer: &mut Peer, sql: &str) -> Option<String> {
    error(&peer.query(sql).await).map(|error| error.sqlstate)
}

/// Values of all rows as text, NULL as `-`.
pub fn rows(messages: &[Message]) -> Vec<Vec<String>> {
    let text = |value: Option<&[u8]>| value.map_or("-".into(), |value| String::from_utf8_lossy(value).into_owned());
    let rows = messages.iter().filter(|message| message.tag == b'D');
    rows.map(|row| backend::data_row(&row.body).expect("a row").into_iter().map(text).collect()).collect()
}

/// Process and secret of BackendKeyData.
pub fn key(messages: &[Message]) -> (i32, Bytes) {
    let key = messages.iter().find(|message| message.tag == b'K').expect("a key");
    (Reader::new(b'K', &key.body).i32().expect("a process"), key.body.slice(4..))
}
