//! `GET /v1/sessions/{id}/undo`.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};

use crate::core::api::undo::{SCHEMA, UndoView, Undos};
use crate::core::api::{ApiError, ErrorCode};
use crate::core::grant::{Access, SessionId};
use crate::core::identity::Identity;
use crate::core::policy::Subject;
use crate::core::undo::{Column, Image, Kept};
use crate::server::grants;
use crate::server::http::Caller;
use crate::server::http::refusal::Refusal;
use crate::server::state::State;

/// What small writes of a session of the caller's changed, and the statements that take it back.
#[utoipa::path(get, path = "/v1/sessions/{id}/undo", tag = "sessions", security(("bearer" = [])),
    params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, body = Undos), (status = 401, body = ApiError), (status = 404, body = ApiError)))]
pub async fn read(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Undos>, Refusal> {
    let missing = || Refusal::not_found("write of this session that can be taken back");
    let session = SessionId::parse(&id).ok_or_else(missing)?;
    let principal = grants::principal(caller.identity());
    let images = state.images.of_session(session.as_str()).await.map_err(|error| Refusal::internal(&error))?;
    let mut writes = Vec::new();
    for image in images.into_iter().filter(|image| image.principal == principal) {
        let kept = present(&state, caller.identity(), &image).await?;
        writes.push(view(Image { kept, ..image }));
    }
    // Of somebody else's session nobody learns even that there was one.
    if writes.is_empty() {
        return Err(missing());
    }
    Ok(Json(Undos { schema: SCHEMA.to_owned(), session: session.as_str().to_owned(), writes }))
}

/// What of it the caller may still see: rights may have changed since the write.
async fn present(state: &State, identity: &Identity, image: &Image) -> Result<Kept, Refusal> {
    let Kept::Change(change) = &image.kept else { return Ok(image.kept.clone()) };
    let gone = || Kept::Nothing("you may not see these rows any more".to_owned());
    let Some(served) = state.target(&image.target) else { return Ok(gone()) };
    let catalog = served.catalog(&image.database).await?;
    let subject = Subject {
        identity,
        target: served.name(),
        environment: served.environment(),
        database: &image.database,
        access: Access::Write,
        agent: image.agent.as_deref(),
        reason: None,
        ticket: None,
    };
    let compiled = served.compiler().compile(&served.policy(), &subject, &catalog).await;
    let scope = compiled.map_err(|_| Refusal::new(ErrorCode::Busy, "the broker is stopping"))?.scope;
    let Some(relation) = scope.relations.get(&change.relation) else { return Ok(gone()) };
    let is_clear =
        |kept: &Column| relation.columns.iter().any(|column| column.name == kept.name && column.mask.is_none());
    let is_open = relation.read && !relation.is_closed() && change.columns.iter().all(is_clear);
    Ok(if is_open { image.kept.clone() } else { gone() })
}

fn view(image: Image) -> UndoView {
    let (relation, rows, proposed) = match image.kept {
        Kept::Change(change) => (Some(change.relation.to_string()), Some(change.before.len()), change.compensation()),
        Kept::Nothing(reason) => (None, None, Err(reason)),
    };
    let (sql, why_not) = match proposed {
        Ok(sql) => (Some(sql), None),
        Err(reason) => (None, Some(reason)),
    };
    UndoView {
        statement: image.statement,
        target: image.target,
        database: image.database,
        at: image.at.rfc3339(),
        expires_at: image.expires.rfc3339(),
        relation,
        rows,
        sql,
        why_not,
    }
}
