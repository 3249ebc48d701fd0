//! `GET /openapi.json`: the API described for programs.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::server::http::{challenges, discovery, grants, health, requests, sessions, targets, undo, whoami};

/// Collects what the handlers say of themselves.
#[derive(OpenApi)]
#[openapi(
    info(title = "dbgate broker", description = "Just-in-time access to PostgreSQL targets."),
    paths(
        discovery::read,
        targets::list,
        whoami::read,
        challenges::make,
        grants::make,
        grants::end,
        sessions::upload,
        sessions::evidence,
        undo::read,
        requests::list,
        requests::create,
        requests::read,
        requests::approve,
        requests::reject,
        requests::question,
        requests::withdraw,
        health::alive,
        health::ready,
        document,
    ),
    modifiers(&Bearer)
)]
pub struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses((status = 200, body = serde_json::Value)))]
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
