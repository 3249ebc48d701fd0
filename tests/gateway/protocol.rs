//! The protocol around statements: the door, cancelling, asynchronous messages, and the end.

use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use dbgate::core::api::GrantAnswer;
use dbgate::core::grant::Access;
use dbgate::core::secret::Secret;
use dbgate::core::wire::backend;
use dbgate::core::wire::frontend;
use dbgate::core::wire::reader::Reader;
use dbgate::core::wire::startup;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::gate::{Gate, SHOP, cluster, column, refusal, superuser};
use crate::support::recorder::keeps_cancels;
use crate::support::requests::ask;
use crate::support::until::until;
use crate::support::wire::{Channel, Peer, error, key, message, rows, tags};

fn parameters(grant: &GrantAnswer) -> [(&str, &str); 2] {
    [("user", &grant.user), ("database", &grant.wire_database)]
}

/// Signs in with a minor version of the protocol.
async fn sign_in_as(grant: &GrantAnswer, minor: i32, more: &[(&str, &str)]) -> (Peer, Vec<backend::Message>) {
    let mut peer = Peer::to(grant, Channel::Tls).await;
    let mut out = BytesMut::new();
    startup::write_version(minor, &[&parameters(grant), more].concat(), &mut out);
    peer.send(&out).await;
    let mut told = Vec::new();
    // A server that speaks another version says so before it asks for anything.
    if minor > startup::NEWEST_MINOR || more.iter().any(|(name, _)| name.starts_with("_pq_.")) {
        told.push(peer.receive().await.expect("an answer"));
    }
    peer.prove(&grant.password).await;
    told.extend(peer.until(b'Z').await);
    (peer, told)
}

#[tokio::test]
async fn versions_are_negotiated_and_keys_are_as_long_as_the_version_allows() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    for (minor, length) in [(0, 4), (2, 32)] {
        let (_peer, told) = sign_in_as(&grant, minor, &[]).await;
        assert!(told.iter().all(|message| message.tag != b'v'), "3.{minor} is spoken");
        assert_eq!(key(&told).1.len(), length, "3.{minor}");
    }
    let (mut peer, told) = sign_in_as(&grant, 9999, &[("_pq_.odd", "1"), ("_pq_.dbgate", "1")]).await;
    let first = told.first().expect("a message");
    let mut body = Reader::new(b'v', &first.body);
    let read = (first.tag, body.i32(), body.i32(), body.text());
    assert_eq!(read, (b'v', Ok(0x0003_0002), Ok(1), Ok("_pq_.odd")));
    assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn the_target_s_settings_are_reported_as_it_reports_them() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let (_peer, told) = sign_in_as(&grant, 0, &[("application_name", "x"), ("options", "-c datestyle=German")]).await;
    let shown = |name: &str| {
        let found = told.iter().filter(|message| message.tag == b'S').find_map(|message| {
            let (found, value) = backend::parameter(&message.body).expect("a setting");
            (found == name).then(|| value.to_owned())
        });
        found.unwrap_or_else(|| panic!("{name} is not reported"))
    };
    assert_eq!((shown("application_name").as_str(), shown("DateStyle").as_str()), ("x", "German, DMY"));
    for name in ["server_version", "server_encoding", "client_encoding", "TimeZone", "integer_datetimes"] {
        assert!(!shown(name).is_empty());
    }
    gate.stop().await;
}

#[tokio::test]
async fn tls_begins_by_request_or_at_once_and_gss_is_declined() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let mut direct = Peer::to(&grant, Channel::Direct).await;
    direct.sign_in(&parameters(&grant), &grant.password).await;
    assert_eq!(rows(&direct.query("select 2").await), [["2"]]);
    drop(direct);

    let address = (grant.gateway.host.as_str(), grant.gateway.port);
    let mut tcp = TcpStream::connect(address).await.expect("connects");
    let mut request = BytesMut::new();
    request.put_i32(8);
    request.put_i32(80_877_104);
    tcp.write_all(&request).await.expect("written");
    assert_eq!(tcp.read_u8().await.expect("an answer"), b'N');
    let mut request = BytesMut::new();
    startup::write_tls_request(&mut request);
    tcp.write_all(&request).await.expect("written");
    assert_eq!(tcp.read_u8().await.expect("an answer"), b'S');

    // Bytes in clear behind the request would be taken for encrypted ones: nobody is answered.
    let mut tcp = TcpStream::connect(address).await.expect("connects");
    startup::write(&parameters(&grant), &mut request);
    tcp.write_all(&request).await.expect("written");
    assert_eq!(tcp.read(&mut [0; 8]).await.unwrap_or(0), 0);

    let mut plain = Peer::to(&grant, Channel::Plain).await;
    let mut out = BytesMut::new();
    startup::write(&parameters(&grant), &mut out);
    plain.send(&out).await;
    let refused = error(&plain.until_closed().await).expect("an error");
    assert_eq!((refused.severity.as_str(), refused.sqlstate.as_str()), ("FATAL", "28000"));
    gate.stop().await;
}

#[tokio::test]
async fn on_the_same_machine_tls_can_be_left_out_where_the_operator_says_so() {
    let gate = Gate::start_server(SHOP, "wire_plain = true").await;
    let grant = gate.grant(Access::Read).await;
    let mut plain = Peer::to(&grant, Channel::Plain).await;
    plain.sign_in(&parameters(&grant), &grant.password).await;
    assert_eq!(rows(&plain.query("select 1").await), [["1"]]);
    drop(plain);
    gate.stop().await;
}

/// What a client hears that fails to sign in: tags, salt length, rounds, and the error.
async fn failing(grant: &GrantAnswer, user: &str, mechanism: &str, flag: &str) -> (String, usize, String, String) {
    let mut peer = Peer::to(grant, Channel::Tls).await;
    let mut out = BytesMut::new();
    startup::write(&[("user", user), ("database", &grant.wire_database)], &mut out);
    peer.send(&out).await;
    let mut told = vec![peer.receive().await.expect("an offer")];
    let mut out = BytesMut::new();
    frontend::sasl_initial(mechanism, &format!("{flag},,n=,r=abcdefghijklmnopqrstuvwx"), &mut out);
    peer.send(&out).await;
    told.push(peer.receive().await.expect("an answer"));
    let first = String::from_utf8_lossy(&told.last().expect("one").body).into_owned();
    let part = |key: &str| first.split(',').find_map(|part| part.strip_prefix(key).map(str::to_owned));
    let (salt, rounds) = (part("s=").unwrap_or_default(), part("i=").unwrap_or_default());
    if told.last().is_some_and(|message| message.tag == b'R') {
        let nonce = first.split("r=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
        let mut out = BytesMut::new();
        let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        frontend::sasl_response(&format!("c=biws,r={nonce},p={proof}"), &mut out);
        peer.send(&out).await;
    }
    told.extend(peer.until_closed().await);
    let refused = error(&told).expect("an error");
    (tags(&told), salt.len(), rounds, format!("{} {}", refused.sqlstate, refused.message.replace(user, "USER")))
}

#[tokio::test]
async fn unknown_users_hear_what_known_ones_hear_and_a_downgrade_is_refused() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let known = failing(&grant, &grant.user, "SCRAM-SHA-256", "n").await;
    let unknown = failing(&grant, "nobody", "SCRAM-SHA-256", "n").await;
    assert_eq!(known, unknown);
    assert_eq!((known.0.as_str(), known.2.as_str()), ("RRE", "4096"));
    assert_eq!(known.3, "28P01 password authentication failed for user \"USER\"");
    // "I could bind, but you do not offer it": a lie, for it was offered.
    let downgraded = failing(&grant, &grant.user, "SCRAM-SHA-256", "y").await;
    assert_eq!((downgraded.0.as_str(), downgraded.3), ("RE", known.3));
    gate.stop().await;
}

#[tokio::test]
async fn a_credential_opens_its_own_database_and_no_replication() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let user = grant.user.as_str();
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("user", user), ("database", "postgres")], "28000"),
        (&[("user", user)], "28000"),
        (&[("user", user), ("database", &grant.wire_database), ("replication", "database")], "0A000"),
        (&[("user", user), ("database", &grant.wire_database), ("options", "-c role=postgres")], "42501"),
    ];
    for (parameters, state) in cases {
        let mut peer = Peer::to(&grant, Channel::Tls).await;
        let told = peer.sign_in(parameters, &grant.password).await;
        let refused = error(&told).expect("an error");
        assert_eq!((refused.severity.as_str(), refused.sqlstate.as_str()), ("FATAL", state), "{parameters:?}");
    }
    gate.stop().await;
}

#[tokio::test]
async fn who_fails_too_often_is_turned_away_for_a_while() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let mut states = Vec::new();
    for _ in 0..12 {
        let mut peer = Peer::to(&grant, Channel::Tls).await;
        let mut out = BytesMut::new();
        startup::write(&[("user", "guess"), ("database", "demo")], &mut out);
        peer.send(&out).await;
        let first = peer.receive().await.expect("an answer");
        if first.tag == b'E' {
            states.push(error(&[first]).expect("an error").message);
            continue;
        }
        let mut out = BytesMut::new();
        frontend::sasl_initial("SCRAM-SHA-256", "n,,n=,r=short", &mut out);
        peer.send(&out).await;
        peer.until_closed().await;
    }
    assert_eq!(states.len(), 2, "{states:?}");
    assert!(states.iter().all(|message| message.starts_with("too many failed sign-ins; try again in ")), "{states:?}");
    // Others from the same address still get in.
    drop(Peer::through(&grant).await);
    gate.stop().await;
}

#[tokio::test]
async fn a_load_balancer_says_who_is_behind_it_and_must() {
    let gate = Gate::start_server(SHOP, "proxy_protocol_from = [\"127.0.0.1\"]\nwire_plain = true").await;
    let grant = gate.grant(Access::Read).await;
    let mut head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    head.extend([192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 0x15, 0x38]);
    let mut peer = Peer::to(&grant, Channel::Plain).await;
    peer.send(&head).await;
    let mut out = BytesMut::new();
    startup::write(&parameters(&grant), &mut out);
    peer.send(&out).await;
    // The client is not on this machine, so it cannot do without TLS.
    assert_eq!(error(&peer.until_closed().await).expect("an error").sqlstate, "28000");

    let mut peer = Peer::to(&grant, Channel::Plain).await;
    peer.send(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0").await;
    peer.sign_in(&parameters(&grant), &grant.password).await;
    assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
    drop(peer);

    let mut bare = Peer::to(&grant, Channel::Plain).await;
    bare.send(&out).await;
    assert_eq!(tags(&bare.until_closed().await), "");
    gate.stop().await;
}

#[tokio::test]
async fn a_running_statement_is_cancelled_over_either_channel() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    for (minor, channel) in [(0, Channel::Plain), (2, Channel::Tls), (2, Channel::Direct)] {
        let (mut peer, told) = sign_in_as(&grant, minor, &[]).await;
        let (process, secret) = key(&told);
        let mut out = BytesMut::new();
        // The pack gives it more time than this test has.
        frontend::query(
            "select count(*) from orders a join orders b on a.id <> b.id + 0 * a.customer_id, orders c where c.id = a.id and c.amount::text <> b.amount::text || a.id",
            &mut out,
        );
        peer.send(&out).await;
        until_running(&gate, "%orders a join orders b%").await;
        let began = Instant::now();
        // A wrong secret does nothing, and nothing tells that it was wrong.
        for attempt in [b"wrong".to_vec(), secret.to_vec()] {
            let mut request = BytesMut::new();
            startup::write_cancel(process, &attempt, &mut request);
            let mut canceller = Peer::to(&grant, channel).await;
            canceller.send(&request).await;
            canceller.goodbye().await.expect("in order");
        }
        let told = peer.until(b'Z').await;
        assert_eq!(error(&told).expect("an error").sqlstate, "57014");
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
    }
    gate.stop().await;
}

/// Who waits for the end of a cancel request's connection, as every client does, may send the next statement.
#[tokio::test]
async fn a_cancel_request_ends_when_the_target_has_taken_it() {
    let (port, may_pass) = keeps_cancels(cluster().port()).await;
    let gate = Gate::start_recorded(SHOP, port).await;
    let grant = gate.grant(Access::Read).await;
    for channel in [Channel::Plain, Channel::Tls] {
        let (mut peer, told) = sign_in_as(&grant, 2, &[]).await;
        let (process, secret) = key(&told);
        let mut request = BytesMut::new();
        startup::write_cancel(process, &secret, &mut request);
        let mut canceller = Peer::to(&grant, channel).await;
        canceller.send(&request).await;
        let ended = canceller.goodbye();
        tokio::pin!(ended);
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut ended).await.is_err(), "the target has nothing");
        may_pass.add_permits(1);
        ended.await.expect("in order");
        for _ in 0..20 {
            assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
        }
    }
    gate.stop().await;
}

#[tokio::test]
async fn the_process_of_a_session_is_the_one_that_the_target_names() {
    let vouched = "[[channel]]\nmatch = \"here\"\n";
    let gate = Gate::start_under(SHOP, &[("classification.toml", vouched)]).await;
    let grant = gate.grant(Access::Read).await;
    let (mut peer, told) = sign_in_as(&grant, 0, &[]).await;
    let (process, _) = key(&told);
    assert_eq!(rows(&peer.query("select pg_backend_pid()").await), [[process.to_string()]]);
    // Drivers tell their own notifications from those of others by it.
    peer.query("listen here").await;
    let told = peer.query("notify here, 'me'").await;
    let own = told.iter().find(|message| message.tag == b'A').expect("a notification");
    assert_eq!(Reader::new(b'A', &own.body).i32().expect("a process"), process);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_copy_from_the_client_can_be_cancelled() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let (mut peer, told) = sign_in_as(&grant, 0, &[]).await;
    let (process, secret) = key(&told);
    let mut out = BytesMut::new();
    frontend::query("copy audit_trail (what) from stdin", &mut out);
    peer.send(&out).await;
    peer.until(b'G').await;
    peer.send(&message(b'd', b"one\n")).await;
    let mut request = BytesMut::new();
    startup::write_cancel(process, &secret, &mut request);
    let mut canceller = Peer::to(&grant, Channel::Tls).await;
    canceller.send(&request).await;
    canceller.until_closed().await;
    // PostgreSQL looks up from a copy when data comes, and the cancel may come after the data.
    let mut told = Vec::new();
    while !tags(&told).ends_with('Z') {
        match tokio::time::timeout(Duration::from_millis(50), peer.receive()).await {
            Ok(message) => told.push(message.expect("an answer")),
            Err(_) => peer.send(&message(b'd', b"two\n")).await,
        }
    }
    assert_eq!(error(&told).expect("an error").sqlstate, "57014");
    // What the client still sends of its copy is passed over.
    peer.send(&message(b'd', b"three\n")).await;
    peer.send(&message(b'c', b"")).await;
    assert_eq!(rows(&peer.query("select count(*) from audit_trail").await), [["0"]]);
    drop(peer);
    gate.stop().await;
}

/// Waits until the target runs a statement like this for a session.
async fn until_running(gate: &Gate, like: &str) {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and usename like 'dbgate_u_%' \
         and state = 'active' and query like '{like}'",
        gate.database
    );
    until("it runs", async || gate.count(&sql).await > 0).await;
}

#[tokio::test]
async fn fast_path_calls_are_refused_and_the_session_goes_on() {
    let gate = Gate::start(SHOP).await;
    let mut peer = Peer::through(&gate.grant(Access::Read).await).await;
    peer.send(&message(b'F', &[0, 0, 4, 0x53, 0, 0, 0, 0, 0, 0])).await;
    let told = peer.until(b'Z').await;
    assert_eq!((tags(&told).as_str(), error(&told).expect("an error").sqlstate.as_str()), ("EZ", "0A000"));
    assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
    // Behind what was sent without a Sync it has its turn.
    let mut out = BytesMut::new();
    frontend::parse_statement("", "select 2", &mut out);
    frontend::bind("", "", &[], &mut out);
    frontend::execute("", 0, &mut out);
    out.extend_from_slice(&message(b'F', &[0, 0, 4, 0x53, 0, 0, 0, 0, 0, 0]));
    peer.send(&out).await;
    assert_eq!(tags(&peer.until(b'Z').await), "12DCEZ");
    assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
    peer.send(&message(b'X', b"")).await;
    assert_eq!(tags(&peer.until_closed().await), "", "goodbye is answered by closing");
    gate.stop().await;
}

#[tokio::test]
async fn draining_ends_idle_sessions_and_lets_transactions_come_to_their_end() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let (mut idle, mut busy) = (Peer::through(&grant).await, Peer::through(&grant).await);
    busy.query("begin; update orders set amount = 9 where id = 1").await;
    let (database, folder) = (gate.database.clone(), gate.folder.clone());
    let stopping = tokio::spawn(async move { gate.running.stop().await });
    let told = error(&idle.until_closed().await).expect("a farewell");
    assert_eq!((told.severity.as_str(), told.sqlstate.as_str()), ("FATAL", "57P01"));
    assert_eq!(tags(&busy.query("update orders set amount = 9 where id = 2").await), "CZ");
    let mut out = BytesMut::new();
    frontend::query("commit", &mut out);
    busy.send(&out).await;
    let told = busy.until_closed().await;
    assert_eq!(tags(&told), "CZE", "the commit is answered, then the session ends");
    stopping.await.expect("stopped");
    let client = crate::support::gate::superuser(&database).await;
    let row = client.query_one("select count(*) from orders where amount = 9", &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 3, "two were changed, one was 9 before");
    std::fs::remove_dir_all(folder).expect("folder");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let mut peer = Peer::to(&grant, Channel::Tls).await;
    let mut out = BytesMut::new();
    startup::write(&parameters(&grant), &mut out);
    peer.send(&out).await;
    let offered = peer.receive().await.expect("an offer");
    assert_eq!(offered.tag, b'R');
    let client = dbgate::core::wire::scram::Client::new(&Secret::new("wrong"), &[7; 18], None, false);
    let mut out = BytesMut::new();
    frontend::sasl_initial("SCRAM-SHA-256", &client.first(), &mut out);
    peer.send(&out).await;
    let first = peer.receive().await.expect("server-first");
    let text = String::from_utf8_lossy(first.body.get(4..).expect("text")).into_owned();
    let mut out = BytesMut::new();
    frontend::sasl_response(&client.respond(&text).expect("an exchange").0, &mut out);
    peer.send(&out).await;
    assert_eq!(error(&peer.until_closed().await).expect("an error").sqlstate, "28P01");
    gate.stop().await;
}

#[tokio::test]
async fn a_session_can_be_asked_who_it_is_and_does_not_say_otherwise() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    assert_eq!(column(&client, "show dbgate.grant_id").await.expect("simple"), [grant.grant_id.as_str()]);
    let session = client.query_one("show dbgate.session", &[]).await.expect("extended").get::<_, String>(0);
    assert_eq!(session.len(), 26, "{session}");
    let told = "select current_setting('dbgate.who') || ' ' || current_setting('dbgate.access')";
    assert_eq!(column(&client, told).await.expect("a function"), ["ana@example.com write"]);
    for lie in ["set dbgate.who = 'eve'", "select set_config('dbgate.session', 'x', false)", "reset dbgate.who"] {
        assert_eq!(refusal(&client, lie).await.0, "42501", "{lie}");
    }
    client.batch_execute("discard all").await.expect("the session goes on");
    assert_eq!(column(&client, "show dbgate.session").await.expect("still there"), [session]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn what_is_flushed_comes_at_once_whatever_stands_behind_it() {
    let gate = Gate::start(SHOP).await;
    let mut peer = Peer::through(&gate.grant(Access::Read).await).await;
    let mut owner = superuser(&gate.database).await;
    let locked = owner.transaction().await.expect("begins");
    locked.batch_execute("lock table orders").await.expect("locked");
    // In one write: what is behind the Flush waits for the lock.
    let all = ask().parse("p", "select 1").and_flush().run("select count(*) from orders");
    all.and_sync().send(&mut peer).await;
    let told =
        tokio::time::timeout(Duration::from_secs(5), peer.until(b'1')).await.expect("before the lock is given up");
    assert_eq!(tags(&told), "1");
    locked.commit().await.expect("given up");
    assert_eq!(tags(&peer.until(b'Z').await), "12DCZ");
    drop(peer);
    gate.stop().await;
}
