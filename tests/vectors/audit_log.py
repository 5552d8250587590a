"""The audit log (FORMAT.md section 8): records of the log, their copy for readers, the tree over them, the signed notes."""
import base64
import hashlib
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from primitives import Malformed, cbor
from store import AUDIT_DETAILS, VAULTS, expect, open_record, u64

ORIGIN = "coffre/audit"
ED25519 = b"\x01"
# Fields of a record.
NUMBER, ACTION, VAULT, DETAILS = 0, 11, 12, 18
VAULT_ADD = 10


def leaf(record):
    return hashlib.sha256(b"\0" + record).digest()


def tree_head(leaves):
    """The root of RFC 6962 section 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_head(leaves[:left]) + tree_head(leaves[left:])).digest()


def open_details(store, record):
    """Pairs of a record's details."""
    keys = [store.gateway.audit_details]
    # A vault that is only being made has no key that a reader of the log could have.
    if VAULT in record and record[ACTION] != VAULT_ADD:
        if store.row(VAULTS, record[VAULT]).get(11) is not None:
            # Its key went with the slot: nobody reads these again.
            return []
        keys.insert(0, store.keys_of(record[VAULT]).audit)
    opened = None
    while opened is None:
        try:
            opened = open_record(keys.pop(0), AUDIT_DETAILS, u64(record[NUMBER]), record[DETAILS])
        except Malformed:
            if not keys:
                raise
    pairs = cbor(opened)
    expect(all(len(pair) == 2 for pair in pairs), "details are pairs")
    return pairs


def laid_out(directory):
    """Records of the segments, as bytes."""
    found = []
    for path in sorted(directory.glob("segment-*.log")):
        text = path.read_bytes()
        magic, first = struct.unpack_from("<8sQ", text)
        expect(magic == b"COFAUDT1" and first == len(found), f"{path.name} does not follow the one before")
        at = 16
        while at < len(text):
            (size,) = struct.unpack_from("<I", text, at)
            expect(at + 4 + size <= len(text), f"{path.name} ends inside a record")
            found.append(text[at + 4:at + 4 + size])
            at += 4 + size
    return found


def notes(directory):
    """Texts of the signed notes."""
    text, at, found = (directory / "checkpoints").read_bytes(), 0, []
    while at < len(text):
        (size,) = struct.unpack_from("<I", text, at)
        found.append(text[at + 4:at + 4 + size].decode())
        at += 4 + size
    return found


def verify_note(note, key, key_id, leaves):
    """A C2SP signed note over a tree of so many records; returns how many."""
    text, _, signatures = note.partition("\n\n")
    text += "\n"
    lines = text.split("\n")
    expect(lines[0] == ORIGIN and lines[3].startswith("commit ") and lines[4].startswith("time "), "a note's lines")
    size = int(lines[1])
    # A store that was killed has records in its log that no segment holds, but never a note over more than there are.
    expect(size <= len(leaves), "a note over records that are not there")
    expect(base64.b64decode(lines[2]) == tree_head(leaves[:size]), f"the note over {size} records names another root")
    dash, name, encoded = signatures.rstrip("\n").split(" ")
    signature = base64.b64decode(encoded)
    expect(dash == "\u2014" and name == ORIGIN and signature[:4] == key_id, "a note that another key signed")
    try:
        key.verify(signature[4:], text.encode())
    except InvalidSignature:
        raise Malformed("a note whose signature is not true") from None
    return size


def verify_audit(store):
    """Opens every record, and compares segments, tree and notes with the log."""
    directory = store.directory / "audit"
    for number, text in enumerate(store.records, store.first_record):
        record = cbor(text)
        expect(isinstance(record, dict) and record[NUMBER] == number, f"record {number} has another number")
        if DETAILS in record:
            open_details(store, record)
    copied = laid_out(directory)
    first, both = store.first_record, max(len(copied) - store.first_record, 0)
    expect(len(copied) >= first, "records that neither the segments nor the packs hold")
    expect(copied[first:] == store.records[:both], "the segments hold other records than the log")
    records = copied[:first] + store.records

    key = Ed25519PrivateKey.from_private_bytes(store.gateway.audit_signing).public_key()
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = hashlib.sha256(ORIGIN.encode() + b"\n" + ED25519 + raw).digest()[:4]
    line = f"{ORIGIN}+{key_id.hex()}+{base64.b64encode(ED25519 + raw).decode()}\n"
    expect((directory / "checkpoint.pub").read_text() == line, "checkpoint.pub names another key")

    leaves = [leaf(record) for record in records]
    signed = [verify_note(note, key, key_id, leaves) for note in notes(directory)]
    expect(signed == sorted(signed), "notes over fewer records than the ones before")
    return {"records": len(records), "laid_out": len(copied), "notes": len(signed)}
