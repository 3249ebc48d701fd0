//! Throws changed inputs at every parser of foreign bytes, each for some seconds: `tests/run --fuzz`.
//!
//! What must hold is in `fuzz/harness.rs`; a panic there is a finding. Inputs begin as those of the
//! corpora and are flipped, cut, doubled and spliced with one another. It knows nothing of coverage;
//! it is what a stable compiler allows, and runs as fast as the program itself. Inputs that broke
//! something are written to `fuzz/findings` and are tried first by every later run.
//!
//!     cargo bench --bench fuzz -- --seconds 60 [--only NAME] [--seed NUMBER]

#[path = "../fuzz/harness.rs"]
mod harness;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Target = (&'static str, fn(&[u8]));

/// Every parser of bytes that come from outside.
const TARGETS: [Target; 9] = [
    ("frames", harness::frames),
    ("frontend", harness::frontend),
    ("backend", harness::backend),
    ("scram", harness::scram),
    ("balancer", harness::balancer),
    ("statement", harness::statement),
    ("line", harness::line),
    ("contents", harness::contents),
    ("evidence", harness::evidence),
];

/// The longest input: what is behind is rarely looked at differently.
const LONGEST: usize = 4096;

/// Small, and the same for the same seed everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(most.max(1)).expect("fits")).expect("below a usize")
    }

    /// One of these, or nothing where there are none.
    fn one<'a>(&mut self, of: &'a [Vec<u8>]) -> &'a [u8] {
        of.get(self.below(of.len())).map_or(&[], Vec::as_slice)
    }
}

fn main() -> ExitCode {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let seconds = argument("--seconds").map_or(60, |text| text.parse().expect("a number of seconds"));
    let seed = argument("--seed").map_or(0x9e37_79b9_7f4a_7c15, |text| text.parse().expect("a number"));
    let only = argument("--only");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut is_broken = false;
    for (name, target) in TARGETS.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        let (tried, broken) = run(name, target, root, Duration::from_secs(seconds), seed);
        println!("{name:10} {tried:>10} inputs, {}", if broken { "BROKEN" } else { "nothing found" });
        is_broken |= broken;
    }
    ExitCode::from(u8::from(is_broken))
}

/// How many inputs were tried, and whether one broke something.
fn run(name: &str, target: fn(&[u8]), root: &Path, time: Duration, seed: u64) -> (u64, bool) {
    let findings = root.join("fuzz/findings").join(name);
    let mut inputs = files(&findings);
    for input in &inputs {
        if breaks(target, input) {
            eprintln!("{name}: a known finding still breaks it");
            return (1, true);
        }
    }
    inputs.extend(seeds(root));
    let (until, mut dice, mut tried) = (Instant::now() + time, Dice(seed | 1), 0);
    while Instant::now() < until {
        for _ in 0..64 {
            let input = changed(&inputs, &mut dice);
            tried += 1;
            if breaks(target, &input) {
                keep(&findings, &input);
                return (tried, true);
            }
            // Some of what came out is changed further later on.
            if dice.below(256) == 0 && inputs.len() < 20_000 {
                inputs.push(input);
            }
        }
    }
    (tried, false)
}

fn breaks(target: fn(&[u8]), input: &[u8]) -> bool {
    catch_unwind(|| target(input)).is_err()
}

fn keep(folder: &Path, input: &[u8]) {
    let name = dbgate::core::transcript::Leaf::of(&String::from_utf8_lossy(input)).hex();
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(folder.join(&name), input));
    match written {
        Ok(()) => eprintln!("kept as {}", folder.join(name).display()),
        Err(error) => eprintln!("could not be kept ({error}): {input:?}"),
    }
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// Lines of the corpora and vectors, each by itself and as messages of the protocol.
fn seeds(root: &Path) -> Vec<Vec<u8>> {
    let whole: Vec<Vec<u8>> =
        ["tests/corpus", "tests/vectors"].iter().flat_map(|name| files(&root.join(name))).collect();
    let lines: Vec<Vec<u8>> =
        whole.iter().flat_map(|file| file.split(|byte| *byte == b'\n').map(<[u8]>::to_vec)).collect();
    let mut seeds = Vec::new();
    for line in lines.into_iter().filter(|line| !line.is_empty() && line.len() <= LONGEST) {
        for tag in [b'Q', b'P', b'B', b'E', b'T', b'D', b'C', b'S', b'R'] {
            let mut message = vec![tag];
            message.extend(i32::try_from(line.len() + 5).expect("short").to_be_bytes());
            message.extend(&line);
            message.push(0);
            if tag == b'P' {
                message.extend([0, 0]);
            }
            seeds.push(message);
        }
        seeds.push(line);
    }
    seeds.extend(whole.into_iter().filter(|file| file.len() <= 16 * LONGEST));
    seeds.extend([
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL".to_vec(),
        b"SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAA:BBBB".to_vec(),
        [&b"\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a\x21\x11\x00\x0c"[..], &[1; 12]].concat(),
        b"\x00\x00\x00\x1c\x00\x03\x00\x00user\x00a\x00database\x00b\x00\x00".to_vec(),
    ]);
    seeds
}

/// One of the inputs after a few changes.
fn changed(inputs: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const INTERESTING: [i32; 10] = [0, 1, -1, 4, 5, 127, 0x7fff, 0x0001_0000, i32::MAX, i32::MIN];
    let mut bytes = dice.one(inputs).to_vec();
    for _ in 0..=dice.below(6) {
        let (at, length) = (dice.below(bytes.len() + 1), dice.below(32));
        let end = (at + length).min(bytes.len());
        match dice.below(8) {
            0 | 1 => {
                let bit = dice.below(8);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let piece: Vec<u8> = bytes.iter().copied().skip(at).take(length).collect();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = dice.one(inputs);
                let from = dice.below(other.len());
                bytes.splice(at..end, other.iter().copied().skip(from).take(length));
            }
            6 => {
                let number = INTERESTING.get(dice.below(INTERESTING.len())).copied().unwrap_or(0).to_be_bytes();
                bytes.splice(at..(at + 4).min(bytes.len()), number);
            }
            _ => {
                const LETTERS: &[u8] = b"'\"$\\;(){}[],.-/*\0\n \xc3\xff";
                bytes.insert(at, LETTERS.get(dice.below(LETTERS.len())).copied().unwrap_or(0));
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}
