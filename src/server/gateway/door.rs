//! The door: TLS, the startup message, and proof of the password, before anything else happens.
//!
//! Every step has one deadline for all. An unknown user goes through the same exchange as a
//! known one and hears the same words.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::client::Client;
use super::open::EXTENSION;
use super::session::End;
use crate::core::wire::backend::{self, ErrorFields};
use crate::core::wire::proxy;
use crate::core::wire::scram::{self, ScramError, Server, Verifier};
use crate::core::wire::startup::{self, First, Startup};
use crate::server::grants::LiveGrant;
use crate::server::places::Place;
use crate::server::sessions::SessionHandle;
use crate::server::state::State;
use crate::sys::link::{Link, Stream};
use crate::sys::random;

/// From the first byte to the end of the password exchange.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What came through the door.
pub enum Entered {
    /// A client that has proved who it is.
    SignedIn(Box<SignedIn>),
    /// A request to cancel what another session runs.
    Cancel {
        /// Nobody's where it showed a wrong key, which it is not told.
        session: Option<Arc<SessionHandle>>,
        /// Open until the target has taken the request, as in PostgreSQL: who waits for the end of it
        /// knows that their next statement will not be what is cancelled.
        asking: Link,
        /// It counts as long among those of its address.
        place: Place,
    },
    /// Nothing worth a word.
    Nobody,
}

/// A client with a live grant.
pub struct SignedIn {
    pub client: Client,
    pub grant: Arc<LiveGrant>,
    pub startup: Startup,
    pub address: SocketAddr,
    pub tls_version: &'static str,
}

/// Lets a connection in, or not.
pub async fn enter(mut tcp: TcpStream, address: SocketAddr, state: &State) -> Result<Entered, End> {
    let address = match state.config.server.proxies.contains(&address.ip()) {
        true => behind(&mut tcp).await?.unwrap_or(address),
        false => address,
    };
    // Kept until the client has proved who it is.
    let Some(place) = state.keeper.place(address.ip()) else { return Ok(Entered::Nobody) };
    let Some((first, stream, buffer, tls_version)) = first_packet(tcp, &state.certificates.wire).await? else {
        return Ok(Entered::Nobody);
    };
    match first {
        First::Cancel { process, secret } => {
            let session = cancelled(process, &secret, address.ip(), state);
            Ok(Entered::Cancel { session, asking: Link::new(stream, buffer), place })
        }
        First::Startup(startup) => {
            let mut client = Client::new(stream, buffer);
            let may_be_plain = state.config.server.wire_plain && address.ip().is_loopback();
            if tls_version.is_empty() && !may_be_plain {
                client.error(&ErrorFields::fatal("28000", "this gateway speaks TLS only; use sslmode=verify-full"));
                client.flush().await?;
                return Ok(Entered::Nobody);
            }
            negotiate(&mut client, &startup);
            let grant = authenticate(&mut client, &startup, address, !tls_version.is_empty(), state).await?;
            let Some(grant) = grant else { return Ok(Entered::Nobody) };
            client.is_trusted();
            Ok(Entered::SignedIn(Box::new(SignedIn { client, grant, startup, address, tls_version })))
        }
        First::TlsRequest | First::GssRequest => Err(End::Protocol),
    }
}

/// Whom a cancel request is for. Whoever guesses keys is not heard for a while.
fn cancelled(process: i32, secret: &[u8], address: IpAddr, state: &State) -> Option<Arc<SessionHandle>> {
    if !state.keeper.may_cancel(address) {
        return None;
    }
    let session = state.sessions.with_key(process, secret);
    if session.is_none() {
        state.keeper.wrong_key(address);
    }
    session
}

/// Who a load balancer speaks for; `None` when for itself.
async fn behind(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, End> {
    let mut fixed = [0u8; proxy::HEAD];
    tcp.read_exact(&mut fixed).await.map_err(|_| End::ClientGone)?;
    let head = proxy::head(&fixed).map_err(|_| End::Protocol)?;
    let mut rest = vec![0u8; usize::from(head.length)];
    tcp.read_exact(&mut rest).await.map_err(|_| End::ClientGone)?;
    proxy::source(head, &rest).map_err(|_| End::Protocol)
}

/// Says which minor version and which options of the startup message are not known here.
fn negotiate(client: &mut Client, startup: &Startup) {
    let names = startup.parameters.keys();
    let unknown: Vec<_> = names.filter(|name| name.starts_with("_pq_.") && *name != EXTENSION).cloned().collect();
    if startup.minor > startup::NEWEST_MINOR || !unknown.is_empty() {
        let minor = startup.minor.min(startup::NEWEST_MINOR);
        backend::write_negotiate(minor, &unknown, client.out());
    }
}

type Opened = (First, Box<dyn Stream>, BytesMut, &'static str);

/// Reads up to the startup or cancel packet, through TLS where the client asks for it.
async fn first_packet(mut tcp: TcpStream, config: &Arc<ServerConfig>) -> Result<Option<Opened>, End> {
    let mut buffer = BytesMut::with_capacity(1024);
    // Direct TLS (sslnegotiation=direct) starts with a handshake record.
    let mut peeked = [0u8; 1];
    let count = tcp.peek(&mut peeked).await.map_err(|_| End::ClientGone)?;
    if count == 1 && peeked == [0x16] {
        return within_tls(tcp, config, true).await.map(Some);
    }
    let mut has_asked = false;
    loop {
        match startup::take(&mut buffer)? {
            Some(First::TlsRequest) => {
                // Bytes that came behind the request in clear would be taken for encrypted ones.
                if !buffer.is_empty() {
                    return Err(End::Protocol);
                }
                tcp.write_all(b"S").await.map_err(|_| End::ClientGone)?;
                return within_tls(tcp, config, false).await.map(Some);
            }
            Some(First::GssRequest) if !std::mem::replace(&mut has_asked, true) => {
                tcp.write_all(b"N").await.map_err(|_| End::ClientGone)?;
            }
            Some(First::GssRequest) => return Err(End::Protocol),
            Some(first) => return Ok(Some((first, Box::new(tcp), buffer, ""))),
            None => {
                if tcp.read_buf(&mut buffer).await.map_err(|_| End::ClientGone)? == 0 {
                    return Ok(None);
                }
            }
        }
    }
}

async fn within_tls(tcp: TcpStream, config: &Arc<ServerConfig>, is_direct: bool) -> Result<Opened, End> {
    let acceptor = TlsAcceptor::from(config.clone());
    let mut stream = acceptor.accept(tcp).await.map_err(|_| End::ClientGone)?;
    // Without the name of the protocol, what another server would read as its own could come here.
    if is_direct && stream.get_ref().1.alpn_protocol() != Some(b"postgresql") {
        return Err(End::Protocol);
    }
    let version = match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        if let Some(first) = startup::take(&mut buffer)? {
            return Ok((first, Box::new(stream), buffer, version));
        }
        if stream.read_buf(&mut buffer).await.map_err(|_| End::ClientGone)? == 0 {
            return Err(End::ClientGone);
        }
    }
}

/// SCRAM against the grant's verifier. `None` when the client was told no.
async fn authenticate(
    client: &mut Client,
    startup: &Startup,
    address: SocketAddr,
    is_encrypted: bool,
    state: &State,
) -> Result<Option<Arc<LiveGrant>>, End> {
    let user = startup.parameters.get("user").map_or("", String::as_str);
    if let Some(wait) = state.keeper.wait(address.ip(), user) {
        let message = format!("too many failed sign-ins; try again in {} s", wait.as_secs().saturating_add(1));
        client.error(&ErrorFields::fatal("28000", message));
        client.flush().await?;
        return Ok(None);
    }
    let grant = state.grants.by_user(user);
    let verifier = grant.as_ref().and_then(|grant| Verifier::parse(&grant.verifier));
    let verifier = verifier.unwrap_or_else(|| Verifier::decoy(user, &decoy_secret()));
    // Without TLS there is nothing to bind to.
    let end_point = state.certificates.end_point.as_deref().filter(|_| is_encrypted);
    let proved = exchange(client, verifier, end_point).await?;
    let (Ok(()), Some(grant)) = (proved, grant) else {
        state.keeper.failed(address.ip(), user);
        let error = ErrorFields {
            hint: Some("Ask for a new credential: dbgate conninfo TARGET".to_owned()),
            ..ErrorFields::fatal("28P01", format!("password authentication failed for user \"{user}\""))
        };
        client.error(&error);
        client.flush().await?;
        return Ok(None);
    };
    if let Some(error) = wrong_place(startup, &grant) {
        client.error(&error);
        client.flush().await?;
        return Ok(None);
    }
    Ok(Some(grant))
}

/// The grant is for one database; anything else is refused by name.
fn wrong_place(startup: &Startup, grant: &LiveGrant) -> Option<ErrorFields> {
    let asked = startup.parameters.get("database").or_else(|| startup.parameters.get("user"))?;
    if startup
        .parameters
        .get("replication")
        .is_some_and(|value| !matches!(value.as_str(), "false" | "off" | "no" | "0"))
    {
        return Some(ErrorFields::fatal("0A000", "replication is not served"));
    }
    let full = format!("{}/{}", grant.grant.target, grant.grant.database);
    (*asked != grant.grant.target && *asked != full).then(|| ErrorFields {
        hint: Some(format!("Connect with dbname={}", grant.grant.target)),
        ..ErrorFields::fatal(
            "28000",
            format!("this credential is for target \"{}\", not \"{asked}\"", grant.grant.target),
        )
    })
}

async fn exchange(
    client: &mut Client,
    verifier: Verifier,
    end_point: Option<&[u8]>,
) -> Result<Result<(), ScramError>, End> {
    let mechanisms: &[&str] = match end_point {
        Some(_) => &[scram::PLUS, scram::PLAIN],
        None => &[scram::PLAIN],
    };
    backend::write_sasl(mechanisms, client.out());
    client.flush().await?;
    let message = client.receive().await?;
    if message.tag != b'p' {
        return Err(End::Protocol);
    }
    let started = scram::initial_response(&message.body).and_then(|(mechanism, first)| {
        let binding = match mechanism {
            scram::PLUS => end_point,
            scram::PLAIN => None,
            _ => return Err(ScramError::Malformed),
        };
        Server::start(verifier, first, &random::bytes::<18>(), binding, end_point.is_some())
    });
    let server = match started {
        Ok(server) => server,
        Err(error) => return Ok(Err(error)),
    };
    backend::write_sasl_step(11, server.first(), client.out());
    client.flush().await?;
    let message = client.receive().await?;
    if message.tag != b'p' {
        return Err(End::Protocol);
    }
    let last = std::str::from_utf8(&message.body).map_err(|_| End::Protocol)?;
    Ok(server.finish(last).map(|text| {
        backend::write_sasl_step(12, &text, client.out());
        backend::write_authentication_ok(client.out());
    }))
}

/// Makes the salts of users that do not exist: the same for as long as this process runs.
fn decoy_secret() -> [u8; 32] {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    *SECRET.get_or_init(random::bytes)
}
