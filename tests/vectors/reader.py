#!/usr/bin/python3
"""Reads a store without the program that wrote it, from storage/FORMAT.md alone.

    reader.py DATA list              what each vault holds, one JSON object a line, with the SHA-256 of files
    reader.py DATA list --at TIME    what each held at a time in nanoseconds since 1970
    reader.py DATA cat VAULT PATH    a file's content; VAULT as CUSTOMER/NAME, PATH with %XX for bytes outside ASCII
    reader.py DATA verify            opens and compares everything that is stored, and says how much it was

DATA is a data directory: `secrets/gateway.key`, `store/packs` and, for `verify`, `store/audit` are read. The index file is
not: its tables are made again from the log.
"""
import hashlib
import json
import pathlib
import sys
import urllib.parse

from audit_log import verify_audit
from past import Past
from primitives import Malformed
from store import KINDS, Row, Store, expect
from verification import verify_store


def shown(name):
    return urllib.parse.quote_from_bytes(name, safe="/")


def sha256(pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def entry(store, name, vault, path, number, inode):
    line = {
        "vault": name, "path": shown(path), "inode": number, "kind": KINDS[inode.get(0)],
        "mode": f"{inode.get(1):04o}", "uid": inode.get(2), "gid": inode.get(3), "links": inode.get(7),
        "mtime_ns": inode.get(5) if inode.get(14) is None else inode.get(14),
    }
    if line["kind"] == "file":
        content = Row(inode.get(9))
        line.update(size=content.get(1), sha256=sha256(store.content(vault, content)))
    if inode.get(10) is not None:
        line["target"] = shown(inode.get(10))
    if inode.get(11):
        line["properties"] = {key.decode(): value.decode() for key, value in inode.get(11).items()}
    if inode.get(12):
        line["incomplete"] = True
    return line


def list_past(store, time):
    for name, vault in store.vaults():
        for path, number, inode in sorted(Past(store, vault, time).walk()):
            print(json.dumps(entry(store, name, vault, path, number, inode)))


def list_all(store):
    for name, vault in store.vaults():
        for path, number, inode in sorted(store.walk(vault)):
            print(json.dumps(entry(store, name, vault, path, number, inode)))


def cat(store, name, path):
    vault = store.vault(name)
    inode = store.lookup(vault, urllib.parse.unquote_to_bytes(path))
    expect(KINDS[inode.get(0)] == "file", "not a file")
    for piece in store.content(vault, Row(inode.get(9))):
        sys.stdout.buffer.write(piece)


def main(arguments):
    match arguments:
        case [data, "list"]:
            list_all(Store(pathlib.Path(data)))
        case [data, "list", "--at", time]:
            list_past(Store(pathlib.Path(data)), int(time))
        case [data, "cat", vault, path]:
            cat(Store(pathlib.Path(data)), vault, path)
        case [data, "verify"]:
            store = Store(pathlib.Path(data))
            print(json.dumps({**verify_store(store), **verify_audit(store)}))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Malformed as error:
        sys.exit(f"{sys.argv[1]}: {error}")
