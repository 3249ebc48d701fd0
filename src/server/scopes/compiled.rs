//! Compiling scopes: beside the workers that serve connections, since ten thousand relations take a
//! while, and once for all who ask the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::core::policy::{OwnedSubject, Policy, Subject};
use crate::core::scope::catalog::Catalog;
use crate::core::scope::{RelationName, Scope, compile};

/// How many scopes that cannot be made are remembered.
const MOST_REFUSED: usize = 1000;

/// How many compiled scopes are kept for the next who asks. Each can be as large as the catalog.
const MOST_KEPT: usize = 16;

/// A scope and its digest, which takes as long as compiling a part of it.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub scope: Arc<Scope>,
    pub digest: Arc<str>,
}

/// The process stops: nothing is compiled any more.
#[derive(Debug, thiserror::Error)]
#[error("the process stops")]
pub struct Stopping;

/// Compiles the scopes of one target.
#[derive(Default)]
pub struct Compiler {
    refused: Arc<Mutex<Refused>>,
    kept: Mutex<Vec<Kept>>,
}

/// By digest of the scope: the relation whose view the target did not take, and why.
type Refused = HashMap<String, (RelationName, String)>;

struct Kept {
    policy: String,
    catalog: Weak<Catalog>,
    asked: OwnedSubject,
    compiled: Compiled,
}

impl Compiler {
    /// What a policy gives somebody on a database, without the relations whose views the target is
    /// known to refuse.
    pub async fn compile(
        &self,
        policy: &Arc<Policy>,
        subject: &Subject<'_>,
        catalog: &Arc<Catalog>,
    ) -> Result<Compiled, Stopping> {
        let asked = OwnedSubject::of(subject);
        let is_it = |kept: &&Kept| {
            kept.policy == policy.digest() && kept.catalog.as_ptr() == Arc::as_ptr(catalog) && kept.asked == asked
        };
        let known = lock(&self.kept).iter().find(is_it).map(|kept| kept.compiled.clone());
        if let Some(compiled) = known {
            return Ok(compiled);
        }
        let work = {
            let (policy, asked, catalog, refused) =
                (policy.clone(), asked.clone(), catalog.clone(), self.refused.clone());
            move || compiled(&policy, &asked.subject(), &catalog, &refused)
        };
        let compiled = tokio::task::spawn_blocking(work).await.map_err(|_| Stopping)?;
        let kept = Kept {
            policy: policy.digest().to_owned(),
            catalog: Arc::downgrade(catalog),
            asked,
            compiled: compiled.clone(),
        };
        let mut all = lock(&self.kept);
        all.retain(|kept| kept.catalog.strong_count() > 0);
        if all.len() >= MOST_KEPT {
            all.remove(0);
        }
        all.push(kept);
        Ok(compiled)
    }

    /// Remembers that a scope cannot be made, so that it is not tried at every grant.
    pub fn refuse(&self, digest: &str, relation: RelationName, reason: String) {
        let mut refused = lock(&self.refused);
        // Digests of catalogs and policies that are gone; trying once more costs little.
        if refused.len() >= MOST_REFUSED {
            refused.clear();
        }
        refused.insert(digest.to_owned(), (relation, reason));
        lock(&self.kept).retain(|kept| *kept.compiled.digest != *digest);
    }
}

fn compiled(policy: &Policy, subject: &Subject<'_>, catalog: &Catalog, refused: &Mutex<Refused>) -> Compiled {
    let mut without = BTreeMap::new();
    loop {
        let scope = compile::compile_without(policy, subject, catalog, &without);
        let digest = scope.digest();
        let known = lock(refused).get(&digest).cloned();
        // A relation that is withheld has no view, so each is found once and this ends.
        let is_more = known.is_some_and(|(relation, reason)| {
            without.insert(relation, format!("its masking view cannot be made: {reason}")).is_none()
        });
        if !is_more {
            return Compiled { scope: Arc::new(scope), digest: digest.into() };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
