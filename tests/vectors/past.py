"""A vault as it was at a moment (FORMAT.md section 12)."""
import struct

from store import DENTRIES, DENTRY_HISTORY, INODE_HISTORY, INODES, KINDS, ROOT_INODE, Row, expect

# Bytes of a live key, before the commits in the key of a superseded state.
INODE_KEY, DENTRY_KEY = 24, 40


def time_of(moment):
    return Row(moment).get(1)


def spans(store, vault, live, history, key_bytes, begin_at):
    """Live key -> states as (begin, end or None, row), each superseded one compared with its key."""
    found = {}
    for key, row in store.rows(live, vault):
        found.setdefault(key, []).append((time_of(row.get(begin_at)), None, row))
    for key, past in store.rows(history, vault):
        row, end = Row(past.get(0)), Row(past.get(1))
        begin = Row(row.get(begin_at))
        commits = struct.unpack(f">{(len(key) - key_bytes) // 8}Q", key[key_bytes:])
        # Format 1 has no beginning in the key.
        expect(commits in ((end.get(0), begin.get(0)), (end.get(0),)), "a state under another one's commits")
        found.setdefault(key[:key_bytes], []).append((begin.get(1), end.get(1), row))
    return found


def shown(states, time):
    there = [row for begin, end, row in states if begin <= time and (end is None or time < end)]
    expect(len(there) <= 1, "two states at one moment")
    return there[0] if there else None


class Past:
    """What was there."""

    def __init__(self, store, vault, time):
        self.store, self.vault, self.time = store, vault, time
        self.inodes = spans(store, vault, INODES, INODE_HISTORY, INODE_KEY, 8)
        self.names = spans(store, vault, DENTRIES, DENTRY_HISTORY, DENTRY_KEY, 3)

    def inode(self, number):
        row = shown(self.inodes.get(self.vault + struct.pack(">Q", number), []), self.time)
        if row is None or KINDS[row.get(0)] != "directory":
            return row
        row = Row(row + [None] * (16 - len(row)))
        row[5], row[14] = self.touched(number, row), None
        return row

    def touched(self, directory, row):
        """A directory's mtime: when a name last came or went since its state began."""
        begun, last = time_of(row.get(8)), row.get(15)
        last = last if last is not None and begun < last <= self.time else None
        for key, states in self.names.items():
            if key[16:24] == struct.pack(">Q", directory):
                for moment in (moment for begin, end, _ in states for moment in (begin, end)):
                    if moment is not None and begun < moment <= self.time:
                        last = moment if last is None else max(last, moment)
        return row.get(5) if last is None else last

    def walk(self):
        """Paths and inodes, the root left out."""
        pending = [(b"", ROOT_INODE)]
        while pending:
            directory, parent = pending.pop()
            for key, states in self.names.items():
                name = shown(states, self.time) if key[16:24] == struct.pack(">Q", parent) else None
                if name is None:
                    continue
                path = directory + b"/" + name.get(0) if directory else name.get(0)
                inode = self.inode(name.get(1))
                expect(inode, f"{path!r} leads to an inode that was not there")
                yield path, name.get(1), inode
                if KINDS[name.get(2)] == "directory":
                    pending.append((path, name.get(1)))
