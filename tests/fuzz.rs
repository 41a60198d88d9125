//! What the fuzzers in `contrib/fuzz` call, called with their corpus: inputs that reach far, and
//! every one that once broke something. Beside that each input in some thousand mutations, the
//! same in every run; the long search is the fuzzers' (`contrib/fuzz/run`).

#[path = "../contrib/fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::Path;
use vitald::prng::Prng;

/// Mutations of all inputs of a target together; VITALD_FUZZ_MUTATIONS says otherwise.
const MUTATIONS: u64 = 3_000;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/fuzz/corpus");
    let entries = fs::read_dir(dir.join(target)).expect("a corpus");
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("an input");
            (path.display().to_string(), bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

fn mutated(bytes: &[u8], others: &[(String, Vec<u8>)], prng: &mut Prng) -> Vec<u8> {
    const TELLING: [&[u8]; 12] = [
        b"\0",
        b"\n",
        b"\r\n",
        b"\"",
        b"{",
        b"[",
        b"}",
        b"\xff",
        b"-1",
        b"18446744073709551616",
        b"null",
        b"\xe2\x82\xac",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..=prng.below(4) {
        let at = prng.below(bytes.len() as u64 + 1) as usize;
        let end = (at + prng.below(16) as usize).min(bytes.len());
        match prng.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << prng.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = TELLING[prng.below(TELLING.len() as u64) as usize];
                bytes.splice(at..at, piece.iter().copied());
            }
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = &others[prng.below(others.len() as u64) as usize].1;
                let from = prng.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn search(target: &str) {
    let (_, body) = bodies::BODIES
        .iter()
        .find(|(name, _)| *name == target)
        .expect("a body");
    let inputs = corpus(target);
    assert!(!inputs.is_empty(), "{target} has no corpus");
    let call = |what: &str, bytes: &[u8]| {
        let result = std::panic::catch_unwind(|| body(bytes));
        if result.is_err() {
            panic!("{target}, {what}: {}", bytes.escape_ascii());
        }
    };
    for (name, bytes) in &inputs {
        call(name, bytes);
    }
    let given = std::env::var("VITALD_FUZZ_MUTATIONS").ok();
    let count = given
        .and_then(|text| text.parse().ok())
        .unwrap_or(MUTATIONS);
    let mut prng = Prng::new(vitald::prng::fnv1a(target.as_bytes()));
    for _ in 0..count {
        let (name, bytes) = &inputs[prng.below(inputs.len() as u64) as usize];
        let bytes = mutated(bytes, &inputs, &mut prng);
        call(&format!("a mutation of {name}"), &bytes);
    }
}

#[test]
fn control_lines() {
    search("control");
}

#[test]
fn definitions() {
    search("definition");
}

#[test]
fn http_answers() {
    search("http");
}

#[test]
fn answers_of_servers() {
    search("servers");
}

#[test]
fn state_files() {
    search("state");
}

#[test]
fn frames_of_our_children() {
    search("frames");
}

#[test]
fn notifications() {
    search("notify");
}

#[test]
fn every_body_is_searched_and_has_a_fuzzer() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/fuzz");
    let this = fs::read_to_string(file!()).expect("this file");
    for (name, _) in bodies::BODIES {
        assert!(this.contains(&format!("search({name:?})")), "{name}");
        assert!(dir.join(format!("fuzzers/{name}.rs")).is_file(), "{name}");
    }
}
