//! Trees, notes, checkpoints and proofs, held against `ct-merkle` and `signed_note`.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ed25519_dalek::SigningKey;
use signed_note::{Note as OtherNote, StandardVerifier, VerifierList};

use crate::core::audit::checkpoint::Checkpoint;
use crate::core::audit::merkle::{self, Frontier, Nodes as _, Tree};
use crate::core::audit::note::{Algorithm, Note, NoteError, NoteSigner, VerifierKey};
use crate::core::audit::proof::Proof;
use crate::core::transcript::Leaf;

const SIZES: u64 = 130;

fn signer(name: &str, seed: u8) -> NoteSigner {
    NoteSigner::new(name, SigningKey::from_bytes(&[seed; 32])).expect("a good name")
}

#[test]
fn roots_and_proofs_equal_those_of_ct_merkle() {
    let mut other = MemoryBackedTree::<sha2::Sha256, String>::new();
    let (mut tree, mut frontier, mut leaves) = (Tree::default(), Frontier::default(), Vec::new());
    let mut roots = vec![merkle::empty_root()];
    for size in 1..=SIZES {
        let text = format!("entry {size}");
        let leaf = Leaf::of(&text);
        other.push(text);
        tree.push(leaf);
        frontier.push(leaf);
        leaves.push(leaf);
        let root = frontier.root();
        assert_eq!(root.as_slice(), other.root().as_bytes().as_slice(), "root of {size}");
        assert_eq!((merkle::root(&leaves), tree.root_at(size)), (root, Some(root)));
        roots.push(root);
        for index in 0..size {
            let path = tree.inclusion(index, size).expect("a proof");
            let theirs = other.prove_inclusion(usize::try_from(index).expect("small"));
            assert_eq!(path.concat(), theirs.as_bytes(), "inclusion of {index} in {size}");
            let leaf = tree.leaf(index).expect("a leaf");
            assert!(merkle::verify_inclusion(index, size, leaf, &path, &root));
        }
        for old in 1..=size {
            let path = tree.consistency(old, size).expect("a proof");
            let old_root = roots[usize::try_from(old).expect("small")];
            assert!(merkle::verify_consistency(old, size, &old_root, &root, &path), "{old} of {size}");
            if old < size {
                let theirs = other.prove_consistency(usize::try_from(size - old).expect("small"));
                assert_eq!(path.concat(), theirs.as_bytes(), "consistency of {old} in {size}");
            }
        }
    }
}

#[test]
fn a_proof_holds_for_its_own_place_only() {
    let mut tree = Tree::default();
    (0..23).for_each(|index| tree.push(Leaf::of(&index.to_string())));
    let (root, path) = (tree.root_at(23).expect("a root"), tree.inclusion(9, 23).expect("a proof"));
    let leaf = Leaf::of("9");
    assert!(merkle::verify_inclusion(9, 23, leaf, &path, &root));
    assert!(!merkle::verify_inclusion(8, 23, leaf, &path, &root));
    assert!(!merkle::verify_inclusion(23, 23, leaf, &path, &root));
    assert!(!merkle::verify_inclusion(9, 23, Leaf::of("8"), &path, &root));
    assert!(!merkle::verify_inclusion(9, 23, leaf, &path[1..], &root));
    let longer: Vec<_> = path.iter().copied().chain([root]).collect();
    assert!(!merkle::verify_inclusion(9, 23, leaf, &longer, &root));
    let mut swapped = path.clone();
    swapped.swap(0, 1);
    assert!(!merkle::verify_inclusion(9, 23, leaf, &swapped, &root));
    // A node is no leaf: the text whose plain hash would be the node has another leaf hash.
    let pair = tree.root_at(2).expect("the first pair");
    assert_ne!(Leaf::of("0").0, pair);
    assert!(!merkle::verify_inclusion(0, 12, Leaf::of("01"), &tree.inclusion(0, 23).expect("a proof")[1..], &root));
    assert_eq!(tree.inclusion(23, 23), None);
    assert_eq!(tree.inclusion(0, 24), None);
    let old = tree.root_at(7).expect("a root");
    let path = tree.consistency(7, 23).expect("a proof");
    assert!(!merkle::verify_consistency(8, 23, &old, &root, &path));
    assert!(!merkle::verify_consistency(7, 23, &root, &root, &path));
    assert!(!merkle::verify_consistency(7, 23, &old, &root, &path[1..]));
    assert!(!merkle::verify_consistency(0, 23, &merkle::empty_root(), &root, &[]));
}

#[test]
fn published_notes_are_accepted() {
    let note = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
    let parsed = Note::parse(note).expect("the form of a note");
    assert!(parsed.text().ends_with("ed è subito sera.\n"));
    assert_eq!(parsed.as_str(), note);
    // The example of golang.org/x/mod/sumdb/note, with its key.
    let key = VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").expect("a key");
    let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    assert_eq!(Note::parse(note).and_then(|note| note.open(&[key])).expect("a signed note").len(), 1);
}

#[test]
fn our_notes_are_accepted_by_another_implementation() {
    let signer = signer("gate.example.com/log", 1);
    let head = Checkpoint { origin: signer.name().to_owned(), size: 7, root: [9; 32] };
    let note = head.sign(&signer);
    let key = signer.verifier().to_string();
    assert_eq!(VerifierKey::parse(&key).expect("its own text"), signer.verifier());
    let theirs = StandardVerifier::new(&key).expect("a verifier key");
    let (verified, unknown) = OtherNote::from_bytes(note.as_bytes())
        .expect("a note")
        .verify(&VerifierList::new(vec![Box::new(theirs)]))
        .expect("a verified note");
    assert_eq!((verified.len(), unknown.len()), (1, 0));
    assert_eq!(Checkpoint::open(&note, &[signer.verifier()]).expect("a checkpoint").0, head);
}

#[test]
fn only_notes_whose_every_line_is_checked_open() {
    let (log, other) = (signer("gate.example/log", 1), signer("other.example", 2));
    let text = "gate.example/log\n3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let note = log.sign(text);
    let line = |note: &str| note.lines().last().expect("a signature line").to_owned();
    let keys = [log.verifier(), log.verifier().with_algorithm(Algorithm::Cosignature)];
    let open = |note: &str| Note::parse(note).and_then(|note| note.open(&keys));
    assert_eq!(open(&note).expect("good").len(), 1);
    let cosigned = log.cosign(&Note::parse(&note).expect("good"), 1_700_000_000);
    assert_eq!(open(&cosigned).expect("good").last().and_then(|by| by.time), Some(1_700_000_000));
    let own = line(&note);
    let refused = [
        (format!("{note}{}\n", line(&other.sign(text))), NoteError::UnknownKey("other.example".into())),
        (format!("{note}{own}\n"), NoteError::Twice),
        (note.replace("\n3\n", "\n4\n"), NoteError::Signature("gate.example/log".into())),
        (format!("{text}\n{}\n", line(&cosigned)), NoteError::Unsigned("gate.example/log".into())),
        (text.to_owned(), NoteError::Form),
        (note.trim_end().to_owned(), NoteError::Form),
        (note.replace("\n3\n", "\n3\r\n"), NoteError::Form),
        (format!("{note}\n"), NoteError::Form),
        (note.replace('\u{2014}', "-"), NoteError::Form),
    ];
    for (note, error) in refused {
        assert_eq!(open(&note).expect_err("refused"), error, "{note}");
    }
    assert!(NoteSigner::new("has space", SigningKey::from_bytes(&[1; 32])).is_err());
    assert!(VerifierKey::new("weak.example", Algorithm::Ed25519, &[0; 32]).is_err(), "a key of small order");
}

#[test]
fn checkpoints_have_three_lines_and_one_spelling() {
    let root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(Checkpoint::parse(&format!("o\n0\n{root}\n")).is_ok());
    for text in [
        format!("o\n01\n{root}\n"),
        format!("o\n+1\n{root}\n"),
        format!("o\n-1\n{root}\n"),
        format!("o\n1\n{root}\nextension\n"),
        format!("o\n1\n{root}"),
        format!("\n1\n{root}\n"),
        format!("o\n1\n{}\n", root.replace("AA=", "AB=")),
        "o\n1\nAAAA\n".to_owned(),
        "o\n18446744073709551616\n".to_owned(),
    ] {
        assert!(Checkpoint::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn receipts_read_back_and_have_one_spelling() {
    let proof = Proof { index: 5, path: vec![[1; 32], [2; 32]], checkpoint: "o\n6\nx\n\n\u{2014} o AAAA\n".into() };
    let text = proof.write();
    assert_eq!(Proof::parse(&text), Some(proof));
    let alone = Proof { index: 0, path: Vec::new(), checkpoint: "c\n".into() };
    assert_eq!(Proof::parse(&alone.write()), Some(alone));
    for bad in [
        text.replace("index 5", "index 05"),
        text.replace("@v1", "@v2"),
        text.replace("index 5", "extra AAAA\nindex 5"),
        text.replace("index 5\n", ""),
        text.replacen("AQEB", "AQE!", 1),
    ] {
        assert_eq!(Proof::parse(&bad), None, "{bad}");
    }
}
