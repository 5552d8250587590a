"""Verifies what Coffre proves, from FORMAT.md sections 8 and 18 and the RFCs alone: proof.txt KEY | directory KEY."""
import base64, hashlib, pathlib, struct, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

def leaf(record): return hashlib.sha256(b"\0" + record).digest()
def node(left, right): return hashlib.sha256(b"\1" + left + right).digest()

def note(text, line):
    """Origin, size and root of a signed note (C2SP signed-note, tlog-checkpoint)."""
    name, _, key = line.strip().split("+", 2)
    body, signature = text.split("\n\n\u2014 " + name + " ")
    Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).verify(base64.b64decode(signature)[4:], (body + "\n").encode())
    origin, size, root = body.split("\n")[:3]
    assert origin == name
    return int(size), base64.b64decode(root)

def included(hash_, index, size, path):
    """RFC 9162 section 2.1.3.2."""
    last = size - 1
    for other in path:
        assert last
        if index & 1 or index == last:
            hash_ = node(other, hash_)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            hash_ = node(hash_, other)
        index, last = index >> 1, last >> 1
    assert last == 0
    return hash_

def consistent(old, new, path):
    """RFC 9162 section 2.1.4.2."""
    (size, old_root), (size_2, new_root) = old, new
    if size == size_2:
        return old_root == new_root and not path
    path = [old_root] + path if size & (size - 1) == 0 else path
    index, last = size - 1, size_2 - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    first = second = path[0]
    for other in path[1:]:
        assert last
        if index & 1 or index == last:
            first, second = node(other, first), node(other, second)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            second = node(second, other)
        index, last = index >> 1, last >> 1
    return last == 0 and (first, second) == (old_root, new_root)

def root(leaves):
    """RFC 6962 section 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node(root(leaves[:split]), root(leaves[split:]))

def pieces(data):
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        yield data[at + 4:at + 4 + size]
        at += 4 + size

where, key = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text()
if where.is_dir():
    leaves = [leaf(record) for record in pieces((where / "records").read_bytes()[8:])]
    notes = [note(text.decode(), key) for text in pieces((where / "checkpoints").read_bytes())]
    assert notes and notes[-1][0] == len(leaves) and all(root(leaves[:size]) == signed for size, signed in notes)
else:
    head, rest = where.read_text().split("\n\n", 1)
    lines = head.split("\n")
    if lines[0] == "c2sp.org/tlog-proof@v1":
        record, index = base64.b64decode(lines[1].removeprefix("extra ")), int(lines[2].removeprefix("index "))
        size, signed = note(rest, key)
        assert included(leaf(record), index, size, [base64.b64decode(line) for line in lines[3:]]) == signed
    else:
        assert lines[0] == "coffre/audit-consistency@v1"
        end = rest.index("\n", rest.index("\n\n") + 2) + 1
        old, new = note(rest[:end], key), note(rest[end:], key)
        assert consistent(old, new, [base64.b64decode(line) for line in lines[1:]])
print("verified")
