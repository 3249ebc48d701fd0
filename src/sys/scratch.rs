//! A folder for one test, gone when the test ends.

use std::path::{Path, PathBuf};

use crate::core::encoding;
use crate::sys::random;

/// A new empty folder under the machine's temporary folder.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("dbgate-test-{}", encoding::hex(&random::bytes::<8>())));
        std::fs::create_dir_all(&path).expect("a scratch folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
