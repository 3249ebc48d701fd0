//! What must hold for any bytes from outside, one function for each parser of them. Property tests
//! call these with random bytes, a fuzzer may with its own.

use bytes::BytesMut;
use dbgate::core::audit::checkpoint::Checkpoint;
use dbgate::core::audit::note::Note;
use dbgate::core::audit::{Outcome, VerifierKey, verify};
use dbgate::core::mask::net::{self, Look, Net};
use dbgate::core::statement::grammar;
use dbgate::core::statement::literals::{self, Stripped};
use dbgate::core::transcript::{Event, redact};
use dbgate::core::wire::{backend, frame, frontend, proxy, scram, startup};

/// Cutting a stream into messages takes every byte once and never more than one message too many.
pub fn frames(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    let mut taken = 0;
    while let Ok(Some(message)) = frame::take(&mut buffer, 1 << 16) {
        let here = bytes.get(taken..).expect("within");
        let view = frame::view(here, 1 << 16).expect("the same bytes").expect("a whole message");
        assert_eq!((view.tag, view.body), (message.tag, message.body.as_ref()));
        taken += message.wire_length();
    }
    assert_eq!(taken + buffer.len(), bytes.len());
}

/// A client's message is read or refused, and what is read comes from the message.
pub fn frontend(bytes: &[u8]) {
    let Some((tag, body)) = bytes.split_first() else { return };
    let message = frame::Message { tag: *tag, body: body.to_vec().into() };
    if let Ok(frontend::Frontend::Parse { types, .. }) = frontend::parse(&message) {
        assert!(frontend::types(types).is_ok());
    }
    if let Ok(frontend::Frontend::Bind { parameters, .. }) = frontend::parse(&message)
        && let Ok(Some(bound)) = frontend::bound(&[], parameters)
    {
        assert!(frontend::unbound(&bound).is_ok());
    }
    let _ = frontend::unbound(bytes);
}

/// A server's messages, and the first packet of a client.
pub fn backend(bytes: &[u8]) {
    let _ = backend::row_description(bytes).map(|fields| {
        let mut out = BytesMut::new();
        backend::write_row_description(&fields, &mut out);
    });
    if let Ok(values) = backend::data_row(bytes) {
        assert!(values.into_iter().flatten().map(<[u8]>::len).sum::<usize>() <= bytes.len());
    }
    let _ = (backend::command_tag(bytes).is_ok(), backend::parameter(bytes).is_ok());
    let edit = backend::ErrorEdit { position: backend::Position::Behind(7), hides: backend::Hides::Words };
    assert_eq!(backend::error_fields(bytes).is_ok(), backend::edit_error(bytes, edit).is_ok());
    let mut buffer = BytesMut::from(bytes);
    let _ = startup::take(&mut buffer);
}

/// The password exchange.
pub fn scram(bytes: &[u8]) {
    let verifier = scram::Verifier::decoy("user", &[1; 32]);
    if let Ok((_, first)) = scram::initial_response(bytes)
        && let Ok(server) = scram::Server::start(verifier, first, &[2; 18], None, true)
    {
        assert!(server.finish(first).is_err());
    }
    let text = String::from_utf8_lossy(bytes);
    let verifier = scram::Verifier::decoy("user", &[1; 32]);
    if let Ok(server) = scram::Server::start(verifier, "n,,n=,r=abcdefghijkl", &[2; 18], None, true) {
        assert!(server.finish(&text).is_err(), "nobody knows this password");
    }
    let _ = (scram::Verifier::parse(&text).is_some(), scram::end_point(bytes).is_some());
}

/// The header of a load balancer.
pub fn balancer(bytes: &[u8]) {
    if let Some((fixed, rest)) = bytes.split_first_chunk::<{ proxy::HEAD }>()
        && let Ok(head) = proxy::head(fixed)
    {
        let _ = proxy::source(head, rest);
    }
}

/// A statement's text: parsed or refused; without literals it is the same text all the same.
pub fn statement(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = grammar::parse(&text);
    let _ = (redact::shape(&text), redact::redact(&text).len());
    let mut stripped = Stripped::default();
    if stripped.strip(&text) {
        assert!(stripped.places.iter().all(|place| text.get(place.clone()).is_some()));
        let (key, mut again) = (stripped.key.clone(), Stripped::default());
        for probe in stripped.probes(&text).expect("the places are in the text") {
            // Other literals may make it too long to be looked at.
            assert!(again.strip(&probe) || probe.len() > literals::LONGEST);
            assert!(again.key == key || probe.len() > literals::LONGEST);
        }
    }
}

/// A line of a transcript: what is read is what was written.
pub fn line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(event) = Event::parse(&text) {
        assert_eq!(event.line.as_str(), text);
    }
}

/// Contents that are looked through keep their length, and text stays text.
pub fn contents(bytes: &[u8]) {
    for look in [Look::Text, Look::Json, Look::Nested, Look::Binary, Look::Lexemes] {
        let (mut hidden, mut found) = (bytes.to_vec(), net::Found::new());
        net::value(&mut hidden, look, Net::Redact, &mut found);
        assert_eq!(hidden.len(), bytes.len());
        assert!(!found.is_empty() || hidden == bytes);
        if std::str::from_utf8(bytes).is_ok() {
            assert!(std::str::from_utf8(&hidden).is_ok());
        }
    }
    for look in [net::line, net::error] {
        let mut body = bytes.to_vec();
        look(&mut body, Net::Redact, &mut net::Found::new());
        assert_eq!(body.len(), bytes.len());
    }
    let mut body = bytes.to_vec();
    net::row(&mut body, &[Look::Text, Look::Json], Net::Redact, &mut net::Found::new());
    assert_eq!(body.len(), bytes.len());
}

/// A container of evidence, a note, a checkpoint: nothing that nobody signed is called good.
pub fn evidence(bytes: &[u8]) {
    let report = verify::verify_bytes(bytes, &[]);
    assert_ne!(report.outcome(), Outcome::Good, "no key is known");
    let text = String::from_utf8_lossy(bytes);
    let _ = (Note::parse(&text).is_ok(), Checkpoint::parse(&text).is_ok(), VerifierKey::parse(&text).is_ok());
}
