#!/usr/bin/python3
"""Made the two data directories of this folder, once: see README.md.

    make.py COFFRE DIRECTORY

COFFRE is the program of the release, DIRECTORY an empty one on a file system with sparse files. What clients sent is
written down beside each data directory as its expectation; nothing is read back here.
"""
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

import paramiko
from paramiko.sftp import (
    CMD_CLOSE, CMD_EXTENDED, CMD_FSETSTAT, CMD_OPEN, CMD_SETSTAT, CMD_STATUS,
    SFTP_FLAG_CREATE, SFTP_FLAG_TRUNC, SFTP_FLAG_WRITE,
)

COFFRE, ROOT = os.path.abspath(sys.argv[1]), pathlib.Path(os.path.abspath(sys.argv[2]))
MIB = 1 << 20


def noise(seed, size):
    return hashlib.shake_256(seed.encode()).digest(size)


class Gateway:
    """A server on a data directory, its command line and its clients."""

    def __init__(self, data):
        self.data = data
        self.log = open(f"{data}.log", "ab")
        command = [COFFRE, "--json", "--data", data, "quickstart", "--sftp", "127.0.0.1:0", "--webdav", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        self.ready = json.loads(self.process.stdout.readline())

    def coffre(self, *arguments):
        out = subprocess.run([COFFRE, "--json", "--data", self.data, *arguments], check=True, stdout=subprocess.PIPE)
        return json.loads(out.stdout)

    def connect(self, user, key_file):
        host, port = self.ready["sftp"].split(":")
        transport = paramiko.Transport((host, int(port)))
        transport.connect(username=user, pkey=paramiko.Ed25519Key.from_private_key_file(key_file))
        return Client(transport)

    def curl(self, *arguments):
        command = ["curl", "--fail", "--silent", "--show-error", "--cacert", self.ready["ca_file"]]
        command += ["--user", f"{self.ready['user']}:{self.ready['token']}"]
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)


class Client:
    """SFTP, and the tree that it must have made."""

    def __init__(self, transport):
        self.transport = transport
        self.sftp = paramiko.SFTPClient.from_transport(transport)
        self.tree = {}

    def mkdir(self, path):
        self.sftp.mkdir(path)
        self.tree[path] = {"kind": "directory"}

    def attributes(self, path, mode, mtime):
        attributes = paramiko.SFTPAttributes()
        attributes.st_mode, attributes.st_uid, attributes.st_gid = mode, 1000, 100
        attributes.st_atime, attributes.st_mtime = mtime + 1, mtime
        self.sftp._request(CMD_SETSTAT, path, attributes)
        self.tree[path].update(mode=mode, mtime=mtime, uid=1000, gid=100)

    def begin(self, path, pieces, size=None, mode=None, mtime=None):
        """Opens, writes and sets attributes; the content becomes visible at `finish`."""
        attributes = paramiko.SFTPAttributes()
        attributes.st_mode = mode
        flags = SFTP_FLAG_WRITE | SFTP_FLAG_CREATE | SFTP_FLAG_TRUNC
        _, answer = self.sftp._request(CMD_OPEN, path, flags, attributes)
        file = paramiko.SFTPFile(self.sftp, answer.get_binary(), "wb", -1)
        for offset, piece in pieces:
            file.seek(offset)
            file.write(piece)
        if size is not None:
            file.truncate(size)
        if mtime is not None:
            self.times(file, mtime)
        end = max((offset + len(piece) for offset, piece in pieces), default=0)
        self.tree[path] = {"kind": "file", "size": max(end, size or 0), "pieces": dict(pieces)}
        if mode is not None:
            self.tree[path]["mode"] = mode
        if mtime is not None:
            self.tree[path]["mtime"] = mtime
        return file

    def times(self, file, mtime):
        attributes = paramiko.SFTPAttributes()
        attributes.st_atime, attributes.st_mtime = mtime + 1, mtime
        self.sftp._request(CMD_FSETSTAT, file.handle, attributes)

    def finish(self, *files):
        """Closes files at once, so that a batch holds several transactions."""
        self.unanswered = len(files)
        for file in files:
            self.sftp._async_request(self, CMD_CLOSE, file.handle)
            file._closed = True
        while self.unanswered:
            self.sftp._read_response()

    def _async_response(self, kind, message, number):
        assert kind == CMD_STATUS and message.get_int() == 0, "a file could not be closed"
        self.unanswered -= 1

    def put(self, path, pieces, **more):
        self.finish(self.begin(path, pieces, **more))

    def link(self, old, new):
        self.sftp._request(CMD_EXTENDED, "hardlink@openssh.com", old, new)
        self.tree[new] = self.tree[old]

    def symlink(self, target, path):
        self.sftp.symlink(target, path)
        self.tree[path] = {"kind": "link", "target": target}

    def rename(self, old, new):
        self.sftp.posix_rename(old, new)
        for path in [path for path in self.tree if path == old or path.startswith(old + b"/")]:
            self.tree[new + path[len(old):]] = self.tree.pop(path)

    def remove(self, path):
        self.sftp.remove(path)
        del self.tree[path]

    def close(self):
        self.transport.close()


def shown(name):
    """Bytes as a URL has them: what is not ASCII text is %XX."""
    return urllib.parse.quote_from_bytes(name, safe="/")


def sha256(size, pieces):
    """Of what the pieces make, the rest being zeros; by parts, as files may be large."""
    digest, at = hashlib.sha256(), 0
    for offset in sorted(pieces):
        assert offset >= at, "pieces do not overlap"
        for hole in range(at, offset, MIB):
            digest.update(bytes(min(MIB, offset - hole)))
        digest.update(pieces[offset])
        at = offset + len(pieces[offset])
    for hole in range(at, size, MIB):
        digest.update(bytes(min(MIB, size - hole)))
    return digest.hexdigest()


def lines(tree):
    """Paths and what they must be; links are counted by the inode that paths share."""
    for path in sorted(tree):
        entry = tree[path]
        line = {"path": shown(path), "kind": entry["kind"]}
        if entry["kind"] == "file":
            line["size"] = entry["size"]
            line["sha256"] = sha256(entry["size"], entry["pieces"])
            line["links"] = sum(other is entry for other in tree.values())
        if entry["kind"] == "link":
            line["target"] = shown(entry["target"])
        if "mode" in entry:
            line["mode"] = f"{entry['mode']:04o}"
        if "mtime" in entry:
            line["mtime_ns"] = entry["mtime"] * 10**9
        line.update({name: entry[name] for name in ("uid", "gid", "properties", "incomplete") if name in entry})
        yield line


def keygen(data, name):
    path = os.path.join(data, "keys", name)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
    return path


def expectation(data, users, trees, more):
    text = {"format": 1, "users": users, **more}
    text["trees"] = [
        {"user": user, "vault": vault, "at": at, "entries": list(lines(tree))} for user, vault, at, tree in trees
    ]
    pathlib.Path(f"{data}.json").write_text(json.dumps(text, indent=1) + "\n")


def pack(data):
    """The directory as an archive in which a preallocated pack's zeros are a hole."""
    name = os.path.basename(data)
    with tempfile.TemporaryDirectory(dir=ROOT) as thin:
        subprocess.run(["cp", "--archive", "--sparse=always", data, thin], check=True)
        command = ["tar", "-C", thin, "--sparse", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]
        subprocess.run([*command, "--exclude=admin.sock", "-cf", f"{data}.tar", name], check=True)
    subprocess.run(["gzip", "-9", "--no-name", f"{data}.tar"], check=True)


def demo_files(demo, gateway):
    demo.mkdir(b"docs")
    demo.mkdir(b"docs/deep")
    demo.mkdir(b"docs/deep/er")
    whole = noise("cut into several chunks", 130_000)
    block = noise("one block", 200)
    files = [
        demo.begin(b"empty", [], mode=0o600),
        demo.begin(b"docs/one chunk.txt", [(0, b"Une ligne de texte.\n" * 150)], mode=0o640),
        demo.begin(b"docs/chunks.bin", [(0, whole)], mode=0o644, mtime=1_200_000_002),
        demo.begin(b"docs/deep/er/file", [(0, b"at the bottom\n")]),
        demo.begin(b"latin-1 \xe9t\xe9", [(0, b"not UTF-8\n")], mode=0o644, mtime=1_300_000_003),
        demo.begin(b"n" * 255, [(0, b"the longest name\n")], mode=0o644),
        demo.begin(b"new\nline", [(0, b"a name of two lines\n")], mode=0o604),
        # More pieces than are kept in the inode, in the first and the last of three segments.
        demo.begin(
            b"segments",
            [(number * 8192, block) for number in range(20)]
            + [(130 * MIB + number * 16384 + 17, block) for number in range(3)],
            size=150 * MIB + 5,
            mode=0o644,
            mtime=4_000_000_000,
        ),
        demo.begin(b"sparse", [(3 * MIB, b"an island")], size=90 * MIB, mode=0o644),
    ]
    demo.finish(*files)
    # The same content again: stored once. Then a tail that only one of them has.
    copy = demo.begin(b"docs/copy.bin", [(0, whole)], mode=0o444)
    longer = demo.begin(b"docs/longer.bin", [(0, whole), (130_000, b"and more\n")], mode=0o644)
    demo.finish(copy, longer)
    # Written into again, out of order, after it was committed.
    demo.put(b"fragments", [(0, noise("fragments", 12_000))])
    fragments = demo.tree[b"fragments"]
    content = bytearray(noise("fragments", 12_000).ljust(40_000, b"\0"))
    file = demo.sftp.open(b"fragments", "r+b")
    for offset, piece in [(39_990, b"0123456789"), (5_000, b"five thousand"), (4_090, b"across a border"), (20_000, b"!")]:
        file.seek(offset)
        file.write(piece)
        content[offset:offset + len(piece)] = piece
    demo.times(file, 1_600_000_006)
    demo.finish(file)
    fragments.update(size=40_000, pieces={0: bytes(content)}, mtime=1_600_000_006)
    # Names.
    demo.link(b"docs/one chunk.txt", b"second name")
    demo.symlink(b"docs/one chunk.txt", b"link")
    demo.symlink(b"../nowhere/\xe9", b"docs/dangling")
    # What leaves history behind.
    demo.put(b"docs/changed", [(0, b"first\n")])
    demo.put(b"docs/changed", [(0, b"second, longer\n")])
    gone = demo.begin(b"gone", [(0, b"deleted later\n")])
    moved = demo.begin(b"moved from", [(0, b"moved onto another\n")], mode=0o604)
    onto = demo.begin(b"moved onto", [(0, b"replaced by a rename\n")])
    demo.finish(gone, moved, onto)
    demo.remove(b"gone")
    demo.rename(b"moved from", b"moved onto")
    demo.rename(b"docs/deep", b"docs/deeper")
    demo.attributes(b"docs/deeper/er", 0o750, 1_400_000_000)
    # WebDAV: a file of its own, and properties that no server knows.
    url = gateway.ready["webdav"]
    upload = ROOT / "by webdav"
    upload.write_bytes(b"<p>by WebDAV</p>\n")
    gateway.curl("-T", str(upload), "-H", "X-OC-Mtime: 1234567890", f"{url}page.html")
    demo.tree[b"page.html"] = {"kind": "file", "size": 17, "pieces": {0: upload.read_bytes()}, "mtime": 1_234_567_890}
    properties = {"author": "Zo\u00eb", "note": "kept & <seen>"}
    body = "".join(
        f"<x:{name}>{value.replace('&', '&amp;').replace('<', '&lt;')}</x:{name}>" for name, value in properties.items()
    )
    patch = ROOT / "patch"
    patch.write_text(
        '<?xml version="1.0"?><d:propertyupdate xmlns:d="DAV:" xmlns:x="urn:example:x"><d:set><d:prop>'
        f"{body}</d:prop></d:set></d:propertyupdate>"
    )
    for path in ("page.html", "docs/"):
        gateway.curl("-X", "PROPPATCH", "--data-binary", f"@{patch}", f"{url}{path}")
        demo.tree[path.rstrip("/").encode()]["properties"] = {"namespace": "urn:example:x", "values": properties}


def clean():
    """Two lives of a server, both ended as an operator ends them."""
    data = str(ROOT / "clean")
    gateway = Gateway(data)
    run = gateway.coffre
    run("customer", "add", "clinic", "--bytes-max", "1G", "--users-max", "9")
    # Kept for a hundred years: what was superseded must be found by whoever opens this later.
    run("vault", "add", "clinic/records", "--retention", "36500d")
    run("vault", "add", "clinic/archive")
    run("user", "add", "clinic/nurse", "--mount", "/=records", "--mount", "/archive=archive,append-only")
    run("user", "add", "clinic/auditor", "--mount", "/=records:wards,read-only")
    nurse_key, lost_key, auditor_key = (keygen(data, name) for name in ("nurse", "lost", "auditor"))
    run("credential", "add-key", "clinic/nurse", f"{nurse_key}.pub")
    lost = run("credential", "add-key", "clinic/nurse", f"{lost_key}.pub", "--rights", "read-only")
    run("credential", "add-key", "clinic/auditor", f"{auditor_key}.pub")
    token = run("credential", "add-token", "clinic/nurse", "--expires", "365d", "--from", "127.0.0.0/8")

    demo = gateway.connect("demo", gateway.ready["key_file"])
    demo_files(demo, gateway)
    demo.close()

    nurse = gateway.connect("nurse", nurse_key)
    nurse.mkdir(b"wards")
    files = [
        nurse.begin(b"wards/east", [(0, noise("east", 18_000))], mode=0o640, mtime=1_700_000_000),
        # Equal to a file of another vault.
        nurse.begin(b"wards/text", [(0, b"Une ligne de texte.\n" * 150)], mode=0o640),
    ]
    nurse.finish(*files)
    nurse.put(b"wards/text", [(0, b"Une autre.\n")], mode=0o640, mtime=1_700_000_002)
    archived = {b"2019": {"kind": "file", "size": 9, "pieces": {0: b"archived\n"}}}
    nurse.put(b"archive/2019", [(0, b"archived\n")])
    del nurse.tree[b"archive/2019"]
    nurse.close()
    run("credential", "revoke", lost["id"])
    gateway.stop()

    gateway = Gateway(data)
    nurse_again = gateway.connect("nurse", nurse_key)
    nurse_again.put(b"wards/second life", [(0, b"written after a restart\n")], mode=0o640)
    nurse.tree.update(nurse_again.tree)
    # An upload that breaks off: what was received stays, marked as not whole.
    piece = noise("broken off", 5_000)
    broken_off = nurse_again.begin(b"wards/broken off", [(0, piece)])
    nurse.tree[b"wards/broken off"] = {"kind": "file", "size": 5_000, "pieces": {0: piece}, "incomplete": True}
    nurse_again.transport.sock.close()
    gateway.stop()
    # Forgotten while the connection was there, it would have been closed.
    broken_off._closed = True

    users = [
        {"user": "demo", "key": "demo/id_ed25519"},
        {"user": "clinic/nurse", "key": "keys/nurse", "token": token["token"], "token_id": token["id"],
         "expires": token["expires"], "revoked_key": "keys/lost"},
        {"user": "clinic/auditor", "key": "keys/auditor"},
    ]
    trees = [("demo", "demo/demo", "/", demo.tree), ("clinic/nurse", "clinic/records", "/", nurse.tree),
             ("clinic/nurse", "clinic/archive", "/archive", archived)]
    expectation(data, users, trees, {})
    pack(data)


def killed():
    """A server that was killed with acknowledged batches behind the index's last checkpoint."""
    data = str(ROOT / "killed")
    gateway = Gateway(data)
    demo = gateway.connect("demo", gateway.ready["key_file"])
    demo.mkdir(b"before")
    whole = noise("before the checkpoint", 40_000)
    files = [
        demo.begin(b"before/kept", [(0, whole)], mode=0o644, mtime=1_500_000_000),
        demo.begin(b"before/changed", [(0, b"before\n")]),
        demo.begin(b"before/moved", [(0, b"moved\n")], mode=0o600, mtime=1_500_000_001),
        demo.begin(b"before/gone", [(0, b"deleted\n")]),
    ]
    demo.finish(*files)
    # A checkpoint is taken each second with changes: this lets one pass, then nothing changes.
    time.sleep(3)
    # From here on within less than a second: the index does not hear of it.
    begun = time.monotonic()
    demo.mkdir(b"after")
    files = [
        demo.begin(b"after/new", [(0, noise("after the checkpoint", 9_000))], mode=0o644, mtime=1_500_000_002),
        # Refers to chunks that only the log's older part holds.
        demo.begin(b"after/copy", [(0, whole)], mode=0o644, mtime=1_500_000_003),
        demo.begin(b"before/changed", [(0, b"after, and longer\n")], mode=0o644, mtime=1_500_000_004),
    ]
    demo.finish(*files)
    demo.rename(b"before/moved", b"after/moved")
    demo.remove(b"before/gone")
    demo.symlink(b"new", b"after/link")
    # Received, never closed: nothing was promised.
    unfinished = demo.sftp.open(b"after/unfinished", "wb")
    unfinished.write(noise("unfinished", 3_000))
    gateway.kill()
    took = time.monotonic() - begun
    print(f"{took:.3f} s from the first change after a checkpoint to the kill")
    assert took < 0.9, "a checkpoint may have passed: make it again on a faster disk"
    users = [{"user": "demo", "key": "demo/id_ed25519"}]
    expectation(data, users, [("demo", "demo/demo", "/", demo.tree)], {"unpromised": ["after/unfinished"]})
    pack(data)


clean()
killed()
