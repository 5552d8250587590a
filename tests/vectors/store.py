"""A store's log, opened and replayed from storage/FORMAT.md alone: tables, trees and contents, without the index file.

The order is that of the document's sections. A difference from what it says is `Malformed`.
"""
import struct

from primitives import Malformed, blake3, cbor, gcm_open, hkdf, lz4_block, xaes_open

try:
    import xxhash
except ImportError:
    xxhash = None

BLOCK = 4096
BATCH_MAGIC = b"COFBATCH"
SEGMENT_BYTES = 64 << 20
FORMATS = (1, 2)
# Number and header tag of the batch that the first one names.
BEFORE_THE_FIRST = (0, bytes(16))
KEY_EPOCH = 1
KINDS = ("file", "directory", "link")

# Numbers of the tables (section 7).
STORE, CUSTOMERS, USERS, CREDENTIALS, VAULTS, INODES, DENTRIES, INODE_HISTORY, DENTRY_HISTORY = range(1, 10)
SEGMENTS, CHUNKS, PACKS, USAGE, LOCKS, INCIDENTS, AUDIT_DETAILS = range(10, 17)
SNAPSHOTS, GARBAGE, FRAGMENTED, PACK_COUNTS, UPLOADS, DIGESTS, SHARES = range(17, 24)
AUDIT_TREES = 30
# The one row that stands in clear.
FORMAT_ROW = b"format"
# Tables whose values stand under their vault's key; the key of a row begins with the vault.
OF_VAULTS = {INODES, DENTRIES, INODE_HISTORY, DENTRY_HISTORY, SEGMENTS, CHUNKS, SNAPSHOTS, DIGESTS,
             SHARES}
ROOT_INODE = 1
# The directory of uploads in parts, which no name leads to.
PARTS_INODE = 0


def expect(holds, what):
    if not holds:
        raise Malformed(what)


def u64(number):
    return struct.pack(">Q", number)


class Row(list):
    """A CBOR array whose element n is field n; fields at the end may be left out."""

    def __init__(self, value):
        expect(isinstance(value, list), "a row is an array")
        super().__init__(value)

    def get(self, number):
        return self[number] if number < len(self) else None


class GatewayKeys:
    """What is derived from the gateway key (section 2)."""

    def __init__(self, path):
        text = path.read_bytes()
        expect(len(text) == 65 and text.endswith(b"\n"), "a gateway key is 64 digits and a newline")
        self.key = bytes.fromhex(text.decode())
        self.packs = self.derive("packs")
        self.records = self.derive("records")
        self.audit_details = self.derive("audit details")
        self.audit_signing = self.derive("audit signing")

    def derive(self, label, context=b""):
        return hkdf(self.key, b"", b"coffre v1 gateway " + label.encode() + context)

    def open_managed_slot(self, vault, slot):
        """The root key of a vault."""
        expect(len(slot) == 92, "a managed slot has 92 bytes")
        expect(slot[:32] == self.derive("slot commitment", vault), "a slot of another gateway key")
        return gcm_open(self.derive("slots", vault), slot[32:44], slot[44:], b"coffre v1 managed slot" + vault)


class VaultKeys:
    """What is derived from a vault's root key (section 2)."""

    def __init__(self, vault, root):
        def derive(label):
            return hkdf(root, b"", b"coffre v1 vault " + label.encode() + vault)

        self.content = derive("content")
        self.chunk_id = derive("chunk id")
        self.names = derive("names")
        self.records = derive("records")
        self.audit = derive("audit")

    def frame(self, salt):
        return hkdf(self.content, salt, b"coffre v1 pack frames")

    def name_mac(self, parent, name):
        return blake3(struct.pack("<Q", parent) + name, self.names)[:16]


def open_record(key, table, row_key, sealed):
    """The value in a record (section 4)."""
    plain = xaes_open(key, sealed[:24], sealed[24:], bytes([table]) + row_key)
    (size,) = struct.unpack_from("<I", plain)
    expect(len(plain) % 32 == 0 and 4 + size <= len(plain), "a record of a length it cannot have")
    expect(not any(plain[4 + size:]), "a record is filled up with zeros")
    expect(len(plain) - (4 + size) < 32, "a record is filled up to the next 32 bytes")
    return plain[4:4 + size]


class NoHeader(Malformed):
    """A pack that was only being made, or a damaged one."""


class Pack:
    """A pack whose header is authentic (section 5)."""

    def __init__(self, path, keys):
        self.number = int(path.name.removesuffix(".pack"), 16)
        with path.open("rb") as file:
            self.header, self.file = file.read(BLOCK).ljust(BLOCK, b"\0"), path
        magic, version, zero, number, self.salt = struct.unpack_from("<8sIIQ32s", self.header)
        self.batch_key = hkdf(keys.packs, self.salt, b"coffre v1 pack batches")
        self.header_key = hkdf(keys.packs, self.salt, b"coffre v1 pack header")
        if magic != b"COFPACK1" or not self.is_authentic(self.header):
            raise NoHeader(f"{path.name} has no header")
        expect(version in FORMATS, f"format {version} is not known here")
        self.version = version
        expect(zero == 0 and not any(self.header[56:4064]), "what is not used in a header is zero")
        expect(number == self.number, f"{path.name} says that it is pack {number}")

    def is_authentic(self, block):
        return len(block) == BLOCK and blake3(block[:4064], self.header_key) == block[4064:]

    def read(self, offset, size):
        with self.file.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def footer(self, offset):
        """The footer at this offset: batches in the pack and the last one's number; nothing if there is none."""
        block = self.read(offset, BLOCK)
        if block[:8] != b"COFFOOT1" or not self.is_authentic(block):
            return None
        number, own, batches, last = struct.unpack_from("<4Q", block, 8)
        expect(number == self.number and own == offset, "a footer of another place")
        # A crash may have come before what was preallocated behind it was given back.
        expect(not any(self.read(offset + BLOCK, BLOCK)), "something stands behind a footer")
        return batches, last


class Header:
    """The head of a batch that opened (section 6)."""

    def __init__(self, pack, offset):
        head = pack.read(offset, 128)
        expect(len(head) == 128 and head[:8] == BATCH_MAGIC, "no batch")
        (self.number,) = struct.unpack_from("<Q", head, 8)
        self.nonce, self.tag = head[8:16], head[112:128]
        self.aad = BATCH_MAGIC + struct.pack("<3Q", pack.number, offset, self.number)
        plain = gcm_open(pack.batch_key, b"HEAD" + self.nonce, head[16:128], self.aad)
        fields = struct.unpack_from("<4IQ16sQ16s", plain)
        self.blocks, self.frames, self.meta, zero, self.transaction, self.before, self.durable, self.checksum = fields
        expect(zero == 0 and not any(plain[64:]), "what is not used in a batch's header is zero")
        expect(self.durable < self.number, "a batch that was durable before it was written")


class Batch:
    """A batch that follows another and whose sections opened (section 6)."""

    def __init__(self, pack, offset, previous):
        """`previous`: number and header tag of the batch before."""
        header = Header(pack, offset)
        # Behind packs that were reclaimed the chain begins anew.
        if previous is not None:
            expect(header.number == previous[0] + 1, "a batch that is not the next")
            expect(header.before == previous[1], "a batch that does not follow the one before")
        self.number, self.tag, self.end = header.number, header.tag, offset + header.blocks * BLOCK
        frames, meta, size = header.frames, header.meta, header.blocks * BLOCK - 128
        body = pack.read(offset + 128, size)
        expect(frames + meta <= len(body) == size, "a batch longer than its blocks")
        self.is_summed = xxhash is not None
        if self.is_summed:
            summed = int.from_bytes(header.checksum, "little")
            expect(xxhash.xxh3_128_intdigest(body) == summed, "a batch of another checksum")
        self.frames_begin, self.frames_end = offset + 128, offset + 128 + frames
        self.meta = gcm_open(pack.batch_key, b"META" + header.nonce, body[frames:frames + meta], header.aad)

    def read_meta(self):
        """From here on what is malformed is no end of the log: it is authentic."""
        meta = Row(cbor(self.meta))
        self.frames = [Row(row) for row in meta.get(0) or []]
        self.changes = [Row(row) for row in meta.get(1) or []]
        self.first_record, self.records = meta.get(2), meta.get(3) or []
        self.sequence, self.time = meta.get(4), meta.get(5)
        self.deltas = [Row(row) for row in meta.get(6) or []]
        self.part = None if meta.get(7) is None else Part(Row(cbor(meta.get(7))))


class Part:
    """A part of an export of the index (section 10)."""

    def __init__(self, row):
        self.export, self.base, self.number, self.count, self.rows = (row.get(number) for number in range(5))


class Store:
    """The tables, and where the content lies, as the log tells it (sections 7 and 9)."""

    def __init__(self, data):
        self.directory = data / "store"
        self.gateway = GatewayKeys(data / "secrets" / "gateway.key")
        self.tables = {number: {} for number in (*range(1, 24), AUDIT_TREES) if number != AUDIT_DETAILS}
        self.records, self.stored, self.packs, self.vault_keys = [], [], {}, {}
        # Batches as they stand in the log: number, changes, gains and losses of packs.
        self.log, self.exports, self.parts = [], {}, {}
        self.first_record, self.live = 0, {}
        self.identified = set()
        self.batches = self.checksums = 0
        self.replay()

    def replay(self):
        previous, before = BEFORE_THE_FIRST, 0
        paths = sorted((self.directory / "packs").glob("*.pack"))
        missing = []
        for place, path in enumerate(paths):
            try:
                pack = Pack(path, self.gateway)
            except NoHeader:
                # The newest may not have got one yet; any other has lost it.
                if path == paths[-1]:
                    break
                raise
            self.packs[pack.number] = pack
            if pack.number != before + 1:
                missing += range(before + 1, pack.number)
                previous = None
            before = pack.number
            previous = self.replay_pack(pack, previous, is_newest=place + 1 == len(paths))

        self.build(is_whole=not missing)
        for number in missing:
            row = self.row(PACKS, u64(number))
            expect(row and row.get(2), f"pack {number} is missing and was not given up")

    def build(self, is_whole):
        """The tables: from the first batch, or from the newest whole export and what came after it."""
        base = 0
        if not is_whole:
            expect(self.exports, "packs are missing, and no export of the index is whole")
            number = max(self.exports)
            base, rows = self.exports[number]
            for table, key, value in rows:
                self.tables[table][key] = value
            for key in self.tables[PACK_COUNTS]:
                self.live[int.from_bytes(key, "big")] = self.row(PACK_COUNTS, key).get(0)
        self.exports_agree = 0
        for number, changes, deltas in self.log:
            if number > base:
                self.change(changes, deltas)
            for other, rows in self.exports.values():
                if is_whole and other == number:
                    self.compare(rows)

    def change(self, changes, deltas):
        for change in changes:
            table, key, value = change.get(0), change.get(1), change.get(2)
            if value is None:
                self.tables[table].pop(key, None)
            else:
                self.tables[table][key] = value
        for delta in deltas:
            self.live[delta.get(0)] = self.live.get(delta.get(0), 0) + delta.get(1)

    def compare(self, rows):
        """An export beside the journal up to its base: what only the index has aside."""
        exported = {number: {} for number in self.tables}
        for table, key, value in rows:
            exported[table][key] = value
        for number in set(self.tables) - {STORE, PACK_COUNTS, USAGE, AUDIT_TREES}:
            expect(exported[number] == self.tables[number], f"an export of another table {number} than the journal's")
        self.exports_agree += 1

    def replay_pack(self, pack, previous, is_newest):
        offset, batches = BLOCK, 0
        while True:
            try:
                batch = Batch(pack, offset, previous)
            except Malformed as error:
                ended = error
                break
            self.apply(pack, batch)
            previous, offset, batches = (batch.number, batch.tag), batch.end, batches + 1
        footer = pack.footer(offset)
        if footer is None:
            expect(is_newest, f"pack {pack.number} ends at {offset} without a footer: {ended}")
            self.nothing_durable_behind(pack, offset, (previous or BEFORE_THE_FIRST)[0] + 1)
        else:
            # A pack may have been opened in between: then its footer counts from there.
            expect(footer[0] <= batches, "a footer that counts more batches than there are")
            expect(not batches or footer[1] == previous[0], "a footer that names another last batch")
        return previous

    def nothing_durable_behind(self, pack, end, missing):
        """Refuses a log that ends before a batch which a later one says was durable."""
        for offset in range(end, pack.file.stat().st_size, BLOCK):
            try:
                header = Header(pack, offset)
            except Malformed:
                continue
            expect(header.durable < missing, f"batch {missing} is damaged: batch {header.number} followed it")

    def apply(self, pack, batch):
        batch.read_meta()
        self.batches += 1
        self.checksums += batch.is_summed
        self.log.append((batch.number, batch.changes, batch.deltas))
        if batch.part is not None:
            self.take(batch.part)
        for row in batch.frames:
            place = Row(row.get(2))
            inside = batch.frames_begin <= place.get(1) and place.get(1) + place.get(2) <= batch.frames_end
            expect(place.get(0) == pack.number and inside, "a frame that is not in its batch")
            self.stored.append((row.get(0), row.get(1), place))
        if batch.records:
            if not self.records:
                self.first_record = batch.first_record
            # Packs that were reclaimed took their records with them; the segments have them.
            following = self.first_record + len(self.records)
            if batch.first_record > following:
                self.first_record, self.records = batch.first_record, []
                following = batch.first_record
            expect(batch.first_record == following, "audit records that do not follow each other")
            self.records += batch.records

    def take(self, part):
        """Parts 0 to the last, one after the other, of one export and one base."""
        if part.number == 0:
            self.parts = {"of": (part.export, part.base), "next": 0, "rows": []}
        if self.parts.get("of") != (part.export, part.base) or self.parts.get("next") != part.number:
            self.parts = {}
            return
        self.parts["next"] += 1
        self.parts["rows"] += part.rows
        if part.count is not None:
            expect(part.count == self.parts["next"], "an export of another number of parts")
            self.exports[part.export] = (part.base, self.parts["rows"])
            self.parts = {}

    def record_keys(self, table, key):
        """Keys under which a value may stand."""
        if table not in OF_VAULTS:
            return [self.gateway.records]
        own = self.keys_of(key[:16]).records
        # Later formats seal where a chunk lies under the gateway's key, so that it may move while its vault is locked.
        return [own, self.gateway.records] if table == CHUNKS else [own]

    def row(self, table, key):
        sealed, error = self.tables[table].get(key), None
        if sealed is None:
            return None
        for record_key in self.record_keys(table, key):
            try:
                return Row(cbor(open_record(record_key, table, key, sealed)))
            except Malformed as refused:
                error = refused
        raise Malformed(f"table {table}, key {key.hex()}: {error}")

    def rows(self, table, prefix=b""):
        for key in sorted(self.tables[table]):
            if key.startswith(prefix) and (table, key) != (STORE, FORMAT_ROW):
                yield key, self.row(table, key)

    def keys_of(self, vault):
        if vault not in self.vault_keys:
            row = self.row(VAULTS, vault)
            expect(row, f"vault {vault.hex()} has no row")
            self.vault_keys[vault] = VaultKeys(vault, self.gateway.open_managed_slot(vault, Row(row.get(4)).get(0)))
        return self.vault_keys[vault]

    def vaults(self):
        """Name and identifier of each vault."""
        for key, row in self.rows(VAULTS):
            # One that was erased has no slot: nothing of it opens.
            if row.get(11) is not None:
                continue
            customer = self.row(CUSTOMERS, row.get(0))
            yield f"{customer.get(1)}/{row.get(1)}", key

    def vault(self, name):
        found = [key for known, key in self.vaults() if known == name]
        expect(found, f"there is no vault {name}")
        return found[0]

    def children(self, vault):
        """Parent inode -> (name, inode) of a vault, each name compared with its MAC."""
        found = {}
        for key, row in self.rows(DENTRIES, vault):
            (parent,) = struct.unpack(">Q", key[16:24])
            expect(key[24:] == self.keys_of(vault).name_mac(parent, row.get(0)), "a name under another one's MAC")
            found.setdefault(parent, []).append((row.get(0), row.get(1), row.get(2)))
        return found

    def walk(self, vault, root=ROOT_INODE):
        """Paths and inodes of a vault below a root, that itself left out."""
        children, pending = self.children(vault), [(b"", root)]
        while pending:
            directory, parent = pending.pop()
            for name, number, kind in children.get(parent, []):
                inode = self.row(INODES, vault + u64(number))
                expect(inode, f"inode {number} is named and not there")
                expect(inode.get(0) == kind, "a name of another kind than its inode")
                path = directory + b"/" + name if directory else name
                yield path, number, inode
                if KINDS[kind] == "directory":
                    expect(inode.get(13) == parent, "a directory that names another parent")
                    pending.append((path, number))

    def lookup(self, vault, wanted):
        for path, _, inode in self.walk(vault):
            if path == wanted:
                return inode
        raise Malformed(f"there is no {wanted!r}")

    def salt(self, pack):
        row = self.row(PACKS, u64(pack))
        salt = row.get(0) if row else self.packs[pack].salt
        expect(pack not in self.packs or self.packs[pack].salt == salt, "two salts of one pack")
        return salt

    def frame(self, vault, chunk, place):
        """The plaintext of a frame (section 3)."""
        pack, offset, stored, size, codec, salt_pack = (place.get(number) for number in range(6))
        sealed = self.packs[pack].read(offset, stored)
        expect(len(sealed) == stored, "a frame behind the end of its pack")
        keys = self.keys_of(vault)
        aad = b"COFFRAME" + vault + struct.pack("<I", KEY_EPOCH) + chunk + struct.pack("<IB", size, codec)
        plain = gcm_open(keys.frame(self.salt(salt_pack)), sealed[:12], sealed[12:], aad)
        plain = {0: lambda: plain, 1: lambda: lz4_block(plain, size)}[codec]()
        expect(len(plain) == size, "a chunk of another size")
        # Once for each frame: this BLAKE3 is slow, and what opens the same way twice is the same.
        if (vault, chunk, pack, offset) not in self.identified:
            expect(blake3(plain, keys.chunk_id) == chunk, "a chunk of another identifier")
            self.identified.add((vault, chunk, pack, offset))
        return plain

    def chunk(self, vault, chunk):
        row = self.row(CHUNKS, vault + chunk)
        expect(row, "a chunk that is not there")
        return self.frame(vault, chunk, Row(row.get(0)))

    def segments(self, vault, content):
        """Border in the file and extents of each run of extents."""
        kind, rest = content.get(4)[0], Row(content.get(4)[1]).get(0)
        if kind == 0:
            expect(len(rest) <= 16, "more extents in an inode than fit")
            yield None, [Row(extent) for extent in rest]
            return
        expect(kind == 1, "a body of an unknown kind")
        for place, segment in enumerate(rest):
            if segment is not None:
                row = self.row(SEGMENTS, vault + u64(segment))
                expect(row, f"segment {segment} is not there")
                yield place * SEGMENT_BYTES, [Row(extent) for extent in row.get(1)]

    def content(self, vault, content):
        """Pieces of a content in order, holes filled."""
        at = stored = 0
        for border, extents in self.segments(vault, content):
            for extent in extents:
                offset, size, chunk, inside = (extent.get(number) for number in range(4))
                expect(offset >= at and size > 0, "extents that overlap")
                expect(offset // SEGMENT_BYTES == (offset + size - 1) // SEGMENT_BYTES, "an extent across a border")
                expect(border is None or border <= offset < border + SEGMENT_BYTES, "an extent of another segment")
                while at < offset:
                    at += (hole := min(1 << 20, offset - at))
                    yield bytes(hole)
                plain = self.chunk(vault, chunk)
                expect(inside + size <= len(plain), "an extent longer than its chunk")
                yield plain[inside:inside + size]
                at, stored = at + size, stored + size
        expect(stored == content.get(2), "another count of bytes that are not holes")
        while at < content.get(1):
            at += (hole := min(1 << 20, content.get(1) - at))
            yield bytes(hole)
        expect(at == content.get(1), "extents behind the end of the file")
