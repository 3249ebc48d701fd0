//! What small writes changed, kept sealed so that they can be taken back.
//!
//! Each image is sealed (ChaCha20-Poly1305, RFC 8439) for its session and statement with a key in
//! a file beside the store: a copy of the store alone shows nothing.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::core::undo::Image;
use crate::server::store::images::Sealed;
use crate::server::store::{Store, StoreError};
use crate::sys::{clock, random};

/// Keeps and finds images.
pub struct Images {
    store: Store,
    key: LessSafeKey,
}

/// Why images cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an image cannot be sealed")]
    Seal,
}

impl Images {
    /// Over a store, with a key. With another key earlier images are lost.
    pub fn new(store: Store, key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key is as long as the algorithm wants it");
        Self { store, key: LessSafeKey::new(key) }
    }

    /// Keeps one until it expires.
    pub async fn keep(&self, image: &Image) -> Result<(), ImagesError> {
        let statement = i64::try_from(image.statement).map_err(|_| ImagesError::Seal)?;
        let nonce: [u8; NONCE_LEN] = random::bytes();
        let mut sealed = serde_json::to_vec(image).map_err(|_| ImagesError::Seal)?;
        let place = Aad::from(place(&image.session, statement));
        let sealing = self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place, &mut sealed);
        sealing.map_err(|_| ImagesError::Seal)?;
        let bytes = [&nonce[..], &sealed].concat();
        let sealed = Sealed { session: image.session.clone(), statement, bytes };
        Ok(self.store.keep_image(&sealed, image.expires, clock::now()).await?)
    }

    /// Forgets those whose time is over.
    pub async fn forget_old(&self) -> Result<(), StoreError> {
        self.store.forget_images(clock::now()).await
    }

    /// Those of a session; one that cannot be opened is left out, and that is logged.
    pub async fn of_session(&self, session: &str) -> Result<Vec<Image>, ImagesError> {
        let found = self.store.images_of(session, clock::now()).await?;
        let opened = found.into_iter().filter_map(|sealed| {
            let (session, statement) = (sealed.session.clone(), sealed.statement);
            let image = self.unseal(sealed);
            if image.is_none() {
                tracing::warn!(session, statement, "an image cannot be opened: another key, or a changed store");
            }
            image
        });
        Ok(opened.collect())
    }

    fn unseal(&self, sealed: Sealed) -> Option<Image> {
        let (nonce, body) = sealed.bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(place(&sealed.session, sealed.statement)), &mut body);
        serde_json::from_slice(plain.ok()?).ok()
    }
}

fn place(session: &str, statement: i64) -> Vec<u8> {
    format!("dbgate.image/1 {session} {statement}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Moment;
    use crate::core::undo::Kept;
    use crate::server::store::tests::scratch;

    fn image(statement: u64) -> Image {
        let at = clock::now();
        Image {
            session: "ses_1".into(),
            statement,
            principal: "https://idp.example.com ana".into(),
            agent: None,
            target: "demo".into(),
            database: "shop".into(),
            at,
            expires: at.after(std::time::Duration::from_secs(60)),
            kept: Kept::Nothing("a reason that nobody reads in the file".into()),
        }
    }

    #[tokio::test]
    async fn images_are_sealed_for_their_place_and_by_their_key() {
        let (store, _folder) = scratch().await;
        let images = Images::new(store.clone(), &[7; 32]);
        images.keep(&image(1)).await.expect("kept");
        let found = images.of_session("ses_1").await.expect("read");
        assert_eq!(found.iter().map(|image| image.statement).collect::<Vec<_>>(), [1]);
        let sealed = store.images_of("ses_1", Moment::from_seconds(0)).await.expect("read").remove(0);
        assert!(!String::from_utf8_lossy(&sealed.bytes).contains("nobody reads"));
        assert!(images.unseal(Sealed { statement: 2, ..sealed.clone() }).is_none(), "moved to another place");
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            if let Some(byte) = changed.bytes.get_mut(at) {
                *byte ^= 1;
            }
            assert!(images.unseal(changed).is_none(), "byte {at} was changed");
        }
        assert_eq!(Images::new(store.clone(), &[7; 32]).of_session("ses_1").await.expect("read").len(), 1);
        let other = Images::new(store, &[8; 32]);
        assert_eq!(other.of_session("ses_1").await.expect("read").len(), 0);
    }
}
