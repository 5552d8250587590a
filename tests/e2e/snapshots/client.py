"""Reads a tree below /.snapshots through paramiko, and tries to change it; any surprise ends it with an error."""
import stat
import sys

import paramiko

port, user, key_file, root = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
transport = paramiko.Transport(("127.0.0.1", port))
transport.connect(username=user, pkey=paramiko.Ed25519Key.from_private_key_file(key_file))
sftp = paramiko.SFTPClient.from_transport(transport)

entries = {entry.filename: entry for entry in sftp.listdir_attr(root)}
assert "many" in entries and "few" not in entries and "new" not in entries, sorted(entries)
assert stat.S_ISDIR(entries["many"].st_mode)
assert entries["zeros"].st_size == 1_500_000 and stat.S_IMODE(entries["zeros"].st_mode) == 0o644
assert entries["zeros"].st_mtime == 1_300_000_004
assert len(sftp.listdir(root + "/many")) == 64
links = root.rsplit("/", 1)[0] + "/links"
assert stat.S_ISLNK(sftp.lstat(links + "/absolute").st_mode)
assert sftp.readlink(links + "/absolute") == "/tree/chunk"
assert sftp.stat(links + "/absolute").st_size == 65_536
assert sftp.normalize(links + "/relative") == root + "/a/b/c"

with sftp.open(root + "/zeros", "rb") as remote:
    remote.prefetch(1_500_000)
    assert remote.read() == bytes(1_500_000)
    remote.seek(1_499_999)
    assert remote.read(10) == b"\0"
    for change in (lambda: remote.truncate(1), lambda: remote.chmod(0o600), lambda: remote.utime((1, 1))):
        try:
            change()
        except PermissionError:
            pass
        else:
            raise AssertionError("a handle of the past was changed")

for mode in ("wb", "ab", "r+b", "w+b", "a+b", "xb"):
    for name in ("/zeros", "/fresh"):
        try:
            sftp.open(root + name, mode)
        except PermissionError:
            continue
        except FileNotFoundError:
            # Not there, and not to be made.
            assert name == "/fresh" and mode == "r+b", (name, mode)
            continue
        raise AssertionError(f"{name} was opened with {mode}")
for change in (
    lambda: sftp.remove(root + "/zeros"),
    lambda: sftp.rename(root + "/zeros", root + "/ones"),
    lambda: sftp.posix_rename(root + "/zeros", "/ones"),
    lambda: sftp.mkdir(root + "/fresh"),
    lambda: sftp.rmdir(root + "/many"),
    lambda: sftp.symlink("zeros", root + "/ones"),
    lambda: sftp.chmod(root + "/zeros", 0o600),
    lambda: sftp.chown(root + "/zeros", 1, 1),
    lambda: sftp.utime(root + "/zeros", (1, 1)),
    lambda: sftp.truncate(root + "/zeros", 1),
):
    try:
        change()
    except PermissionError:
        continue
    raise AssertionError("a change of the past was taken")
assert sftp.stat(root + "/zeros").st_size == 1_500_000
transport.close()
