//! The door: TLS, the startup message, and proof of the password, before anything else happens.
//!
//! Every step has one deadline for all. An unknown user goes through the same exchange as a
//! known one and hears the same words.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::client::Client;
use super::session::End;
use crate::core::wire::backend::{self, ErrorFields};
use crate::core::wire::scram::{self, ScramError, Server, Verifier};
use crate::core::wire::startup::{self, First, Startup};
use crate::server::grants::LiveGrant;
use crate::server::state::State;
use crate::sys::dial::Stream;
use crate::sys::random;

/// From the first byte to the end of the password exchange.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What came through the door.
pub enum Entered {
    /// A client that has proved who it is.
    SignedIn(Box<SignedIn>),
    /// A request to cancel what another connection runs.
    Cancel { process: i32, secret: Vec<u8> },
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
pub async fn enter(tcp: TcpStream, address: SocketAddr, state: &State) -> Result<Entered, End> {
    let Some((first, stream, buffer, tls_version)) = first_packet(tcp, &state.certificates.wire).await? else {
        return Ok(Entered::Nobody);
    };
    match first {
        First::Cancel { process, secret } => Ok(Entered::Cancel { process, secret }),
        First::Startup(startup) => {
            let mut client = Client::new(stream, buffer);
            if tls_version.is_empty() {
                client.error(&ErrorFields::fatal("28000", "this gateway speaks TLS only; use sslmode=verify-full"));
                client.flush().await?;
                return Ok(Entered::Nobody);
            }
            let grant = authenticate(&mut client, &startup, state).await?;
            let Some(grant) = grant else { return Ok(Entered::Nobody) };
            client.is_trusted();
            Ok(Entered::SignedIn(Box::new(SignedIn { client, grant, startup, address, tls_version })))
        }
        First::TlsRequest | First::GssRequest => Err(End::Protocol),
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
        return within_tls(tcp, config).await.map(Some);
    }
    loop {
        match startup::take(&mut buffer)? {
            Some(First::TlsRequest) => {
                // Bytes that came behind the request in clear would be taken for encrypted ones.
                if !buffer.is_empty() {
                    return Err(End::Protocol);
                }
                tcp.write_all(b"S").await.map_err(|_| End::ClientGone)?;
                return within_tls(tcp, config).await.map(Some);
            }
            Some(First::GssRequest) => tcp.write_all(b"N").await.map_err(|_| End::ClientGone)?,
            Some(first) => return Ok(Some((first, Box::new(tcp), buffer, ""))),
            None => {
                if tcp.read_buf(&mut buffer).await.map_err(|_| End::ClientGone)? == 0 {
                    return Ok(None);
                }
            }
        }
    }
}

async fn within_tls(tcp: TcpStream, config: &Arc<ServerConfig>) -> Result<Opened, End> {
    let acceptor = TlsAcceptor::from(config.clone());
    let mut stream = acceptor.accept(tcp).await.map_err(|_| End::ClientGone)?;
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
async fn authenticate(client: &mut Client, startup: &Startup, state: &State) -> Result<Option<Arc<LiveGrant>>, End> {
    let user = startup.parameters.get("user").map_or("", String::as_str);
    let grant = state.grants.by_user(user);
    let verifier = grant.as_ref().and_then(|grant| Verifier::parse(&grant.verifier));
    let verifier = verifier.unwrap_or_else(|| Verifier::decoy(user, &decoy_secret()));
    let proved = exchange(client, verifier, state.certificates.end_point.as_deref()).await?;
    let (Ok(()), Some(grant)) = (proved, grant) else {
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
    backend::write_sasl(mechanisms, &mut client.out);
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
    backend::write_sasl_step(11, server.first(), &mut client.out);
    client.flush().await?;
    let message = client.receive().await?;
    if message.tag != b'p' {
        return Err(End::Protocol);
    }
    let last = std::str::from_utf8(&message.body).map_err(|_| End::Protocol)?;
    Ok(server.finish(last).map(|text| {
        backend::write_sasl_step(12, &text, &mut client.out);
        backend::write_authentication_ok(&mut client.out);
    }))
}

/// Makes the salts of users that do not exist: the same for as long as this process runs.
fn decoy_secret() -> [u8; 32] {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    *SECRET.get_or_init(random::bytes)
}
