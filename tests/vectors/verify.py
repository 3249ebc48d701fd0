#!/usr/bin/env python3
"""A second verifier, written from docs/audit-format.md and not from the Rust code.

Checks the vectors in this folder with the standard library alone; Ed25519 signatures are checked
too where the `cryptography` package is installed.

    python3 tests/vectors/verify.py            check every vector
    python3 tests/vectors/verify.py FILE VKEY  check one evidence file
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None

HERE = pathlib.Path(__file__).parent


class Bad(Exception):
    """The file is not what was recorded."""


def need(condition, what):
    if not condition:
        raise Bad(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf(line):
    return sha256(b"\0" + line.encode())


def root(leaves):
    """RFC 6962 section 2.1, by its definition."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + root(leaves[:split]) + root(leaves[split:]))


def included(index, size, hash_, path, expected):
    """RFC 9162 section 2.1.3.2."""
    if index >= size:
        return False
    place, last = index, size - 1
    for step in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            hash_ = sha256(b"\1" + step + hash_)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            hash_ = sha256(b"\1" + hash_ + step)
        place, last = place >> 1, last >> 1
    return last == 0 and hash_ == expected


def unbase64(text):
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base 64 in another spelling")
    return data


def parse_line(text):
    """A line must be its own canonical form."""
    members = json.loads(text)
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    need(canonical == text and members["v"] == 1 and len(text.encode()) <= 16384, f"not canonical: {text[:60]}")
    return members


def chain(lines, session, previous):
    for index, text in enumerate(lines):
        line = parse_line(text)
        need(line["sid"] == session and line["seq"] == index, f"line {index} is out of sequence")
        need(line["prev"] == previous.hex(), f"line {index} is not linked to the one before it")
        previous = leaf(text)


def open_note(note, keys):
    """All signature lines must be by `keys` (name, type, public key), the first key among them."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    seen = set()
    for line in signatures.rstrip("\n").split("\n"):
        dash, name, value = line.split(" ")
        need(dash == "\u2014", "not a signature line")
        data = unbase64(value)
        for position, (key_name, kind, key) in enumerate(keys):
            key_id = sha256(key_name.encode() + b"\n" + bytes([kind]) + key)[:4]
            if (name, data[:4]) != (key_name, key_id):
                continue
            need(position not in seen, "signed twice by one key")
            seen.add(position)
            signature, message = data[4:], text.encode()
            if kind == 4:
                time = struct.unpack(">Q", signature[:8])[0]
                signature, message = signature[8:], f"cosignature/v1\ntime {time}\n{text}".encode()
            if Ed25519PublicKey:
                try:
                    Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
                except Exception as error:
                    raise Bad(f"signature of {name}") from error
            break
        else:
            raise Bad(f"a signature by an unknown key: {name}")
    need(0 in seen, "not signed by the key it should be")
    origin, size, root_hash = text.rstrip("\n").split("\n")
    return origin, int(size), unbase64(root_hash)


def verify(text, vkey):
    name, _, material = vkey.split("+", 2)
    log = (name, 1, unbase64(material)[1:])
    lines = text.split("\n")
    need(lines[0] == "dbgate-transcript/v1" and lines[-2:] == ["end", ""], "not a whole evidence file")
    parts = {tag: [line[2:] for line in lines[1:-2] if line[:2] == tag + " "] for tag in "agchr"}
    need([line[0] for line in lines[1:-2]] == [t for t in "agchr" for _ in parts[t]], "sections out of order")
    gateway, client = parts["g"], parts["c"]
    opened, closed = parse_line(gateway[0]), parse_line(gateway[-1])
    session = opened["sid"]
    chain(gateway, session, bytes.fromhex(opened["grant_h"]))
    need(not parts["a"] or leaf(parts["a"][0]).hex() == opened["grant_h"], "another grant")
    proof, _, checkpoint = "\n".join(parts["r"] + [""]).partition("\n\n")
    magic, index, *path = proof.split("\n")
    need(magic == "c2sp.org/tlog-proof@v1" and index.startswith("index "), "not a receipt")
    origin, size, root_hash = open_note(checkpoint, [log])
    need(origin == name, "the receipt is of another log")
    path = [unbase64(step) for step in path]
    need(included(int(index[6:]), size, leaf(gateway[-1]), path, root_hash), "not in the log")
    if opened["level"] >= 1:
        chain(client, session, leaf(gateway[0]))
        head_name = f"{name}/session/{session}"
        keys = [(head_name, 1, bytes.fromhex(opened["client_key"])), (name, 4, log[2])]
        head = open_note("\n".join(parts["h"] + [""]), keys)
        need(head == (head_name, len(client), root([leaf(line) for line in client])), "the client's head")
        if "client_head" in closed:
            need(closed["client_head"] == {"n": head[1], "root": head[2].hex()}, "closed over another head")
        ours = {m["no"]: m["stmt_c"] for m in map(json.loads, gateway) if m["k"] == "stmt" and m["part"] == 0}
        theirs = {m["no"]: m["stmt_c"] for m in map(json.loads, client) if m["k"] == "stmt"}
        need(ours == theirs or closed["k"] != "session.close", "the two accounts differ")
    return closed["k"] == "session.close"


def check_vectors():
    vkey = (HERE / "log.vkey").read_text().strip()
    read = lambda name: (HERE / name).read_text()
    assert verify(read("good.dbgt"), vkey) is True
    assert verify(read("open.dbgt"), vkey) is False
    for bad in sorted(HERE.glob("bad-*.dbgt")):
        try:
            verify(bad.read_text(), vkey)
        except Bad as reason:
            print(f"{bad.name}: {reason}")
        else:
            raise SystemExit(f"{bad.name} was accepted")
    merkle = json.loads(read("merkle.json"))
    leaves = [leaf(f"entry {index}") for index in range(130)]
    assert [root(leaves[:size]).hex() for size in range(131)] == merkle["roots"]
    for case in merkle["inclusion"]:
        path, size = [bytes.fromhex(step) for step in case["path"]], case["size"]
        assert included(case["index"], size, leaves[case["index"]], path, root(leaves[:size]))
    commitments = json.loads(read("commitments.json"))
    for case in commitments["cases"]:
        message = case["domain"].encode() + b"\0" + case["input"].encode()
        assert hmac.new(bytes.fromhex(commitments["key"]), message, "sha256").hexdigest() == case["hmac"]
    print("all vectors hold" + ("" if Ed25519PublicKey else " (signatures not checked: no `cryptography` package)"))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print("complete" if verify(pathlib.Path(sys.argv[1]).read_text(), sys.argv[2]) else "incomplete")
    else:
        check_vectors()
