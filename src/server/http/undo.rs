//! `GET /v1/sessions/{id}/undo`.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};

use crate::core::api::ApiError;
use crate::core::api::undo::{SCHEMA, UndoView, Undos};
use crate::core::grant::SessionId;
use crate::core::undo::{Image, Kept};
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
    let writes: Vec<_> = images.into_iter().filter(|image| image.principal == principal).map(view).collect();
    // Of somebody else's session nobody learns even that there was one.
    if writes.is_empty() {
        return Err(missing());
    }
    Ok(Json(Undos { schema: SCHEMA.to_owned(), session: session.as_str().to_owned(), writes }))
}

fn view(image: Image) -> UndoView {
    let (relation, rows, proposed) = match image.kept {
        Kept::Change(change) => {
            let name = format!("{}.{}", change.relation.schema, change.relation.name);
            (Some(name), Some(change.before.len()), change.compensation())
        }
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
