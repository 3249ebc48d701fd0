//! The evidence file of one session, `<session>.dbgt`: tagged lines in a fixed order.
//!
//! ```text
//! dbgate-transcript/v1
//! a {the log's grant line}           at most one
//! g {gateway line}                   one or more, in order
//! c {client line}                    none for native clients
//! h the client's head, a signed note
//! r the receipt of the last gateway line, a tlog-proof
//! end
//! ```
//!
//! Exact bytes: what is not written by [`Container::write`] is not read. Tags `b` (sealed bodies)
//! and `t` (time stamps) are reserved; a reader that does not know them must refuse the file.

const MAGIC: &str = "dbgate-transcript/v1";
/// How it begins in every version.
const KIND: &str = "dbgate-transcript/";

/// A piece of the file and the line it begins on, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub line: usize,
    pub text: String,
}

/// The parts of an evidence file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    pub grant: Option<Piece>,
    pub gateway: Vec<Piece>,
    pub client: Vec<Piece>,
    /// The client's head with the log's cosignature.
    pub head: Option<Piece>,
    /// The receipt.
    pub receipt: Option<Piece>,
}

/// Where and why a text is not an evidence file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ContainerError {
    pub line: usize,
    pub what: &'static str,
}

/// What goes into a file, for the one who writes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts<'a> {
    pub grant: Option<&'a str>,
    pub gateway: &'a [String],
    pub client: &'a [String],
    pub head: Option<&'a str>,
    pub receipt: &'a str,
}

impl Parts<'_> {
    /// The file's text.
    pub fn write(&self) -> String {
        let mut text = format!("{MAGIC}\n");
        let mut tagged = |tag: char, body: &str| {
            text.push(tag);
            text.push(' ');
            text.push_str(body);
            text.push('\n');
        };
        self.grant.into_iter().for_each(|line| tagged('a', line));
        self.gateway.iter().for_each(|line| tagged('g', line));
        self.client.iter().for_each(|line| tagged('c', line));
        let blocks = [('h', self.head), ('r', Some(self.receipt))];
        for (tag, block) in blocks {
            let lines = block.into_iter().flat_map(|block| block.strip_suffix('\n').unwrap_or(block).split('\n'));
            lines.for_each(|line| tagged(tag, line));
        }
        text.push_str("end\n");
        text
    }
}

/// Whether bytes are meant to be such a file, by their beginning, in any version, or their end: what is wrong with
/// one says [`Container::parse`].
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(KIND.as_bytes()) || bytes.ends_with(b"\nend\n")
}

impl Container {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, ContainerError> {
        let whole =
            text.strip_suffix('\n').ok_or(ContainerError { line: 1, what: "the file does not end with a line feed" });
        let lines: Vec<&str> = whole?.split('\n').collect();
        if lines.first() != Some(&MAGIC) {
            return Err(ContainerError { line: 1, what: "not a dbgate evidence file" });
        }
        if lines.len() < 2 || lines.last() != Some(&"end") {
            return Err(ContainerError { line: lines.len(), what: "the file is cut off: it does not end with `end`" });
        }
        let mut container = Self::default();
        let mut order = "agchr";
        for (index, line) in lines.iter().enumerate().take(lines.len() - 1).skip(1) {
            let refuse = |what| ContainerError { line: index + 1, what };
            let (tag, body) = line.split_once(' ').ok_or(refuse("a line without a section tag"))?;
            // Sections come in one order: what has been passed does not come again.
            let place = order.find(tag).filter(|_| tag.len() == 1);
            order =
                place.and_then(|place| order.get(place..)).ok_or(refuse("an unknown section, or one out of order"))?;
            let piece = Piece { line: index + 1, text: body.to_owned() };
            match tag {
                "a" if container.grant.is_none() => container.grant = Some(piece),
                "a" => return Err(refuse("a second grant line")),
                "g" => container.gateway.push(piece),
                "c" => container.client.push(piece),
                "h" => extend(&mut container.head, piece),
                _ => extend(&mut container.receipt, piece),
            }
        }
        Ok(container)
    }
}

/// Notes and proofs span several lines; each ends with a line feed of its own.
fn extend(block: &mut Option<Piece>, piece: Piece) {
    let block = block.get_or_insert(Piece { line: piece.line, text: String::new() });
    block.text.push_str(&piece.text);
    block.text.push('\n');
}
