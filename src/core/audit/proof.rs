//! Receipts: where a line stands in the log, and the proof (C2SP tlog-proof, version 1).

use crate::core::audit::checkpoint::decimal;
use crate::core::audit::merkle::Hash;
use crate::core::encoding::{base64, unbase64};

const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// A path longer than this proves nothing that a 64-bit size could need.
const LONGEST_PATH: usize = 63;

/// An inclusion proof together with the signed checkpoint it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub index: u64,
    pub path: Vec<Hash>,
    /// A signed checkpoint, unread.
    pub checkpoint: String,
}

impl Proof {
    /// The text form. There are no `extra` data: nothing would sign them.
    pub fn write(&self) -> String {
        let path: String = self.path.iter().map(|hash| format!("{}\n", base64(hash))).collect();
        format!("{MAGIC}\nindex {}\n{path}\n{}", self.index, self.checkpoint)
    }

    /// Reads the text form exactly as [`Proof::write`] writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        if lines.next()? != MAGIC {
            return None;
        }
        let index = decimal(lines.next()?.strip_prefix("index ")?)?;
        let path = lines.map(|line| unbase64(line)?.try_into().ok()).collect::<Option<Vec<Hash>>>()?;
        let proof = Self { index, path, checkpoint: checkpoint.to_owned() };
        (proof.path.len() <= LONGEST_PATH).then_some(proof)
    }
}
