"""Everything a store holds, opened and compared with everything else that speaks of it."""
import hashlib

from past import Past
from primitives import blake3
from store import (
    CHUNKS, DIGESTS, GARBAGE, INCIDENTS, INODE_HISTORY, INODES, KINDS, OF_VAULTS, PARTS_INODE, ROOT_INODE, SEGMENTS, SHARES, UPLOADS,
    USAGE, VAULTS, Row, expect,
)

# Larger files are not hashed as a whole: this BLAKE3 takes a second for a mebibyte. Their chunks are.
HASHED_BYTES_MAX = 1 << 20


def contents(store, vault):
    """Each content that the vault keeps, live or superseded, once: an inode's next state may keep the last one's."""
    found = {}
    states = [row for _, row in store.rows(INODES, vault)]
    states += [Row(row.get(0)) for _, row in store.rows(INODE_HISTORY, vault)]
    for state in states:
        if state.get(9) is not None:
            content = Row(state.get(9))
            known = found.setdefault(content.get(0), content)
            # What a content is made of never changes.
            expect(known == content, f"two contents of number {content.get(0)}")
    return list(found.values())


def verify_references(store, vault):
    """Chunks and segments are counted by who holds them, each holder once."""
    chunks, segments = {}, {}

    def hold(extents):
        for chunk in {extent.get(2) for extent in extents}:
            chunks[chunk] = chunks.get(chunk, 0) + 1

    for content in contents(store, vault):
        kind, rest = content.get(4)[0], Row(content.get(4)[1])
        if kind == 0:
            hold([Row(extent) for extent in rest.get(0)])
        else:
            for segment in filter(None, rest.get(0)):
                segments[segment] = segments.get(segment, 0) + 1
    for key in store.tables[UPLOADS]:
        if key.startswith(vault):
            segment = int.from_bytes(key[16:], "big")
            segments[segment] = segments.get(segment, 0) + 1
    shares = {key: row.get(0) for key, row in store.rows(SHARES, vault)}
    for key, row in store.rows(SEGMENTS, vault):
        hold([Row(extent) for extent in row.get(1)])
        counted = segments.pop(int.from_bytes(key[16:], "big"), 0)
        said = row.get(0) + shares.pop(key, 0)
        expect(said == counted, f"segment {key[16:].hex()} counts {said} references of {counted}")
    expect(not shares, f"holders of segments that are not there: {[key.hex() for key in shares]}")
    expect(not segments, f"segments that are not there: {sorted(segments)}")
    for key, row in store.rows(CHUNKS, vault):
        counted = chunks.pop(key[16:], 0)
        waits = counted or any(garbage[8:] == key for garbage in store.tables[GARBAGE])
        expect(waits, f"chunk {key[16:].hex()} is referred to by nobody and does not wait to be forgotten")
        expect(row.get(1) == counted, f"chunk {key[16:].hex()} counts {row.get(1)} references of {counted}")
    expect(not chunks, f"{len(chunks)} chunks that are not there")


def verify_tree(store, vault):
    """Names lead to inodes, inodes have their names; returns files and their bytes."""
    links, files, size = {}, 0, 0
    for path, number, inode in store.walk(vault):
        links[number] = links.get(number, 0) + 1
        if KINDS[inode.get(0)] == "file":
            files, size = files + 1, size + verify_content(store, vault, path, Row(inode.get(9)))
    for path, number, inode in store.walk(vault, PARTS_INODE):
        links[number] = links.get(number, 0) + 1
        if KINDS[inode.get(0)] == "file":
            verify_content(store, vault, path, Row(inode.get(9)))
    stored = inodes = 0
    for key, row in store.rows(INODES, vault):
        number = int.from_bytes(key[16:], "big")
        if number not in (PARTS_INODE, ROOT_INODE):
            expect(row.get(7) == links.get(number), f"inode {number} says {row.get(7)} names and has {links.get(number)}")
        inodes, stored = inodes + 1, stored + Row(row.get(9)).get(2)
    return files, size, stored, inodes


def verify_content(store, vault, path, content):
    whole = b"" if content.get(1) <= HASHED_BYTES_MAX else None
    for piece in store.content(vault, content):
        whole = whole + piece if whole is not None else None
    if whole is not None and content.get(3) is not None:
        expect(blake3(whole) == content.get(3), f"{path!r} has another BLAKE3 than its inode says")
    return content.get(1)


def verify_digests(store, vault):
    """What is kept of a content is what it has; returns how many there are."""
    known, count = {content.get(0): content for content in contents(store, vault)}, 0
    for key, row in store.rows(DIGESTS, vault):
        content = known.get(int.from_bytes(key[16:], "big"))
        expect(content, f"digests {key[16:].hex()} are of nothing that is there")
        hashers = [hashlib.sha256(), hashlib.sha1(), hashlib.md5()]
        for piece in store.content(vault, content):
            for hasher in hashers:
                hasher.update(piece)
        for kept, hasher in zip(row, hashers):
            expect(kept in (None, hasher.digest()), f"digests {key[16:].hex()} are of other bytes")
        count += 1
    return count


def verify_store(store):
    """Opens every row and every frame, and compares what counts with what is counted."""
    found = {"batches": store.batches, "checksums": store.checksums, "packs": len(store.packs)}
    found.update(rows=0, frames=0, files=0, bytes=0, digests=0)
    for table in store.tables:
        found["rows"] += sum(1 for _ in store.rows(table))
    for vault, chunk, place in store.stored:
        store.frame(vault, chunk, place)
        found["frames"] += 1
    usage = {key: row for key, row in store.rows(USAGE)}
    live = {}
    for key, row in store.rows(VAULTS):
        if row.get(11) is not None:
            left = [table for table in OF_VAULTS if any(known.startswith(key) for known in store.tables[table])]
            expect(row.get(4) is None and not left, f"vault {key.hex()} was erased and is still there: {left}")
            continue
        # Every state of the past opens and stands under its own commits.
        Past(store, key, 0)
        verify_references(store, key)
        found["digests"] += verify_digests(store, key)
        files, size, stored, inodes = verify_tree(store, key)
        found["files"], found["bytes"] = found["files"] + files, found["bytes"] + size
        counted = usage.pop(row.get(0) + key)
        expect(tuple(counted[:2]) == (stored, inodes), f"vault {key.hex()} counts another usage")
        unique = framed = 0
        for _, chunk in store.rows(CHUNKS, key):
            place = Row(chunk.get(0))
            unique, framed = unique + place.get(3), framed + place.get(2)
            live[place.get(0)] = live.get(place.get(0), 0) + place.get(2)
        # Format 1 did not count these; the program that opened it first did, without a batch of the log.
        if counted.get(2) is not None:
            expect((counted.get(2), counted.get(3)) == (unique, framed), f"vault {key.hex()} counts other chunks")
    expect(not usage, "usage of vaults that are not there")
    if all(pack.version > 1 for pack in store.packs.values()):
        told = {pack: size for pack, size in store.live.items() if size}
        expect(told == live, "packs gained and lost other bytes than chunks refer to")
    found["exports"] = store.exports_agree
    found["incidents"] = sum(1 for _ in store.rows(INCIDENTS))
    return found
