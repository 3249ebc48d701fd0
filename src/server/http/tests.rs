//! The route table against the published document, and the API without a single good token.

use std::collections::BTreeSet;

use utoipa::OpenApi as _;

use super::openapi::Document;
use super::{ROUTES, Who};

#[test]
fn the_published_document_has_exactly_the_routes_of_the_table() {
    let document = serde_json::to_value(Document::openapi()).expect("a document");
    let paths = document["paths"].as_object().expect("paths");
    let published: BTreeSet<(String, String, bool)> = paths
        .iter()
        .flat_map(|(path, operations)| {
            let operations = operations.as_object().expect("operations");
            operations
                .iter()
                .map(|(method, operation)| (method.clone(), path.clone(), operation.get("security").is_some()))
        })
        .collect();
    let table: BTreeSet<(String, String, bool)> = ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.to_owned(), route.who == Who::SignedIn))
        .collect();
    assert_eq!(published, table);
}
