//! Opening a PostgreSQL connection: TCP, TLS, password. Used towards the gateway by the
//! workstation, and towards the target by the gateway.
//!
//! A password is only ever proved by SCRAM: a server that asks for it in clear text, or as MD5,
//! is refused. Where TLS is asked for and the server says no, the connection ends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::core::secret::Secret;
use crate::core::wire::backend::{self, ErrorFields};
use crate::core::wire::frame::{self, Message, WireError};
use crate::core::wire::reader::Reader;
use crate::core::wire::scram::{self, ScramError};
use crate::core::wire::{frontend, startup};
pub use crate::sys::link::Stream;
use crate::sys::{link::Link, random};

/// Where to connect and as whom.
pub struct Dial<'a> {
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
    pub password: &'a Secret,
    pub tls: Tls,
    /// Further startup parameters, such as `application_name`.
    pub parameters: &'a [(&'a str, &'a str)],
    /// For all of it, from name lookup to ReadyForQuery.
    pub deadline: Duration,
}

/// Whether the channel is encrypted. There is no "prefer": a middle man would choose for us.
#[derive(Clone)]
pub enum Tls {
    /// Loopback, or marked insecure by the operator.
    Off,
    /// Name and chain verified.
    Verified(Arc<ClientConfig>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot reach {host}:{port}: {source}")]
    Unreachable { host: String, port: u16, source: std::io::Error },
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("the server does not offer TLS")]
    NoTls,
    #[error("TLS failed: {0}")]
    Tls(std::io::Error),
    #[error("`{0}` is not a host name that a certificate can be checked for")]
    BadHost(String),
    #[error("the server asks for the password in a form that would disclose it")]
    WeakPassword,
    #[error(transparent)]
    Scram(#[from] ScramError),
    #[error("{}", .0.message)]
    Refused(Box<ErrorFields>),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("connection lost")]
    Lost(#[source] std::io::Error),
    #[error("connection closed by the server")]
    Closed,
}

/// A signed-in connection.
pub struct Connection {
    link: Link,
    parameters: BTreeMap<String, String>,
    cancel: CancelHandle,
}

impl Connection {
    /// Connects, verifies, signs in, and waits until the server is ready.
    pub async fn open(dial: &Dial<'_>) -> Result<Self, DialError> {
        let opened = async { sign_in(channel(dial.host, dial.port, &dial.tls).await?, dial).await };
        tokio::time::timeout(dial.deadline, opened).await.map_err(|_| DialError::Deadline(dial.deadline))?
    }

    /// The same over a channel that is there already.
    pub async fn open_through(channel: Channel, dial: &Dial<'_>) -> Result<Self, DialError> {
        let opened = sign_in(channel, dial);
        tokio::time::timeout(dial.deadline, opened).await.map_err(|_| DialError::Deadline(dial.deadline))?
    }

    /// Sends whole messages.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), DialError> {
        send(&mut self.link, bytes).await
    }

    /// The next message. Cancel safe: bytes read so far stay in the buffer.
    pub async fn receive(&mut self) -> Result<Message, DialError> {
        receive(&mut self.link).await
    }

    /// What the server said of itself so far (ParameterStatus).
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// A handle that can cancel the running statement from elsewhere.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// The link itself, for those who do the framing; and what the server said of itself.
    pub fn into_link(mut self) -> (Link, BTreeMap<String, String>) {
        self.link.forget_room();
        (self.link, self.parameters)
    }
}

async fn send(link: &mut Link, bytes: &[u8]) -> Result<(), DialError> {
    link.out.extend_from_slice(bytes);
    link.flush().await.map_err(DialError::Lost)
}

async fn receive(link: &mut Link) -> Result<Message, DialError> {
    loop {
        if let Some(message) = frame::take_from_server(&mut link.input)? {
            return Ok(message);
        }
        match link.fill().await {
            Ok(()) => {}
            // Servers that vanish without a TLS goodbye are not worth another word.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(DialError::Closed),
            Err(error) => return Err(DialError::Lost(error)),
        }
    }
}

/// Cancels what a connection is running, by a connection of its own.
#[derive(Clone)]
pub struct CancelHandle {
    host: String,
    port: u16,
    tls: Tls,
    process: i32,
    secret: Bytes,
}

impl CancelHandle {
    /// The server's process number.
    pub fn process(&self) -> i32 {
        self.process
    }

    /// Sends the request and waits until the server has taken it.
    pub async fn cancel(&self) -> Result<(), DialError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let request = async {
            let mut stream = channel(&self.host, self.port, &self.tls).await?.stream;
            let mut out = BytesMut::new();
            startup::write_cancel(self.process, &self.secret, &mut out);
            stream.write_all(&out).await.map_err(DialError::Lost)?;
            stream.flush().await.map_err(DialError::Lost)?;
            // The server closes once it has sent the signal; how it closes does not matter.
            let _ = stream.read(&mut [0u8; 1]).await;
            Ok(())
        };
        tokio::time::timeout(PATIENCE, request).await.map_err(|_| DialError::Deadline(PATIENCE))?
    }
}

async fn sign_in(channel: Channel, dial: &Dial<'_>) -> Result<Connection, DialError> {
    let mut link = Link::new(channel.stream, BytesMut::new());
    let mut out = BytesMut::new();
    let mut parameters = vec![("user", dial.user), ("database", dial.database)];
    parameters.extend_from_slice(dial.parameters);
    startup::write(&parameters, &mut out);
    send(&mut link, &out).await?;
    authenticate(&mut link, dial.password, channel.binding).await?;
    let (parameters, process, secret) = until_ready(&mut link).await?;
    let cancel = CancelHandle { host: dial.host.to_owned(), port: dial.port, tls: dial.tls.clone(), process, secret };
    Ok(Connection { link, parameters, cancel })
}

/// A stream that is ready for a startup message: the server does not know yet who calls.
pub struct Channel {
    stream: Box<dyn Stream>,
    binding: Option<Vec<u8>>,
}

impl Channel {
    /// Connects and verifies, so that only signing in is left.
    pub async fn open(host: &str, port: u16, tls: &Tls, deadline: Duration) -> Result<Self, DialError> {
        let reached = channel(host, port, tls);
        tokio::time::timeout(deadline, reached).await.map_err(|_| DialError::Deadline(deadline))?
    }
}

async fn channel(host: &str, port: u16, tls: &Tls) -> Result<Channel, DialError> {
    let unreachable = |source| DialError::Unreachable { host: host.to_owned(), port, source };
    let mut tcp = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let Tls::Verified(config) = tls else {
        return Ok(Channel { stream: Box::new(tcp), binding: None });
    };
    let mut request = BytesMut::new();
    startup::write_tls_request(&mut request);
    tcp.write_all(&request).await.map_err(DialError::Lost)?;
    // Exactly one byte is read before the handshake: more would be bytes a middle man put in
    // front of the encrypted stream (CVE-2021-23222).
    let mut answer = [0u8; 1];
    tcp.read_exact(&mut answer).await.map_err(DialError::Lost)?;
    if answer != [b'S'] {
        return Err(DialError::NoTls);
    }
    let name = server_name(host)?;
    let stream = TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(DialError::Tls)?;
    let binding =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(|c| scram::end_point(c));
    Ok(Channel { stream: Box::new(stream), binding })
}

fn server_name(host: &str) -> Result<ServerName<'static>, DialError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(host.to_owned()).map_err(|_| DialError::BadHost(host.to_owned()))
}

/// Answers the server's authentication requests until it says OK.
async fn authenticate(link: &mut Link, password: &Secret, binding: Option<Vec<u8>>) -> Result<(), DialError> {
    let mut exchange: Option<scram::Client> = None;
    let mut expected = None;
    loop {
        let message = receive(link).await?;
        refuse_errors(&message)?;
        if message.tag != b'R' {
            // NegotiateProtocolVersion and notices may come first.
            continue;
        }
        let mut body = Reader::new(b'R', &message.body);
        let mut out = BytesMut::new();
        match body.i32()? {
            0 => return Ok(()),
            10 => {
                let (name, client) = choose(body, password, binding.as_deref())?;
                frontend::sasl_initial(name, &client.first(), &mut out);
                exchange = Some(client);
            }
            11 => {
                let client = exchange.as_ref().ok_or(ScramError::Malformed)?;
                let (last, proof) = client.respond(text(body.rest())?)?;
                frontend::sasl_response(&last, &mut out);
                expected = Some(proof);
            }
            12 => scram::Client::accept(expected.as_deref().ok_or(ScramError::Malformed)?, text(body.rest())?)?,
            _ => return Err(DialError::WeakPassword),
        }
        if !out.is_empty() {
            send(link, &out).await?;
        }
    }
}

/// Picks the strongest mechanism that both sides can.
fn choose(
    mut offered: Reader<'_>,
    password: &Secret,
    binding: Option<&[u8]>,
) -> Result<(&'static str, scram::Client), DialError> {
    let (mut plain, mut plus) = (false, false);
    loop {
        match offered.text()? {
            "" => break,
            scram::PLAIN => plain = true,
            scram::PLUS => plus = true,
            _ => {}
        }
    }
    let nonce = random::bytes::<18>();
    match (plus && binding.is_some(), plain) {
        (true, _) => Ok((scram::PLUS, scram::Client::new(password, &nonce, binding, true))),
        (false, true) => Ok((scram::PLAIN, scram::Client::new(password, &nonce, None, binding.is_some()))),
        (false, false) => Err(DialError::WeakPassword),
    }
}

/// Reads what follows sign-in, up to the first ReadyForQuery.
async fn until_ready(link: &mut Link) -> Result<(BTreeMap<String, String>, i32, Bytes), DialError> {
    let (mut parameters, mut process, mut secret) = (BTreeMap::new(), 0, Bytes::new());
    loop {
        let message = receive(link).await?;
        refuse_errors(&message)?;
        match message.tag {
            b'S' => {
                let (name, value) = backend::parameter(&message.body)?;
                parameters.insert(name.to_owned(), value.to_owned());
            }
            b'K' => {
                process = Reader::new(b'K', &message.body).i32()?;
                // A piece of it would keep all that came along.
                secret = Bytes::copy_from_slice(message.body.get(4..).unwrap_or_default());
            }
            b'Z' => return Ok((parameters, process, secret)),
            _ => {}
        }
    }
}

fn refuse_errors(message: &Message) -> Result<(), DialError> {
    if message.tag == b'E' {
        return Err(DialError::Refused(Box::new(backend::error_fields(&message.body)?)));
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, DialError> {
    std::str::from_utf8(bytes).map_err(|_| DialError::Wire(WireError::NotText { tag: 'R' }))
}
