"""Digests by `check-file`, as paramiko asks for them."""

import hashlib
import sys

import paramiko

port, user, key = sys.argv[1:]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect("127.0.0.1", int(port), user, key_filename=key, allow_agent=False, look_for_keys=False)
sftp = client.open_sftp()
content = bytes(range(256)) * 9000 + b"end"
with sftp.open("/f", "w") as file:
    file.write(content)
with sftp.open("/f", "r") as file:
    for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512"):
        assert file.check(name) == hashlib.new(name, content).digest(), name
        piece = content[1000:5000]
        assert file.check(name, 1000, 4000) == hashlib.new(name, piece).digest(), name
        blocks = [piece[at : at + 1024] for at in range(0, len(piece), 1024)]
        digests = b"".join(hashlib.new(name, block).digest() for block in blocks)
        assert file.check(name, 1000, 4000, 1024) == digests, name
    # More than a reply holds: refused, and the session goes on.
    try:
        file.check("sha512", 0, 0, 256)
        raise AssertionError("9000 digests of 64 bytes do not fit")
    except OSError:
        pass
    assert len(file.check("md5", 0, 0, 256)) == 9001 * 16
# What is written and not closed is in the digest, and the one after it is not taken for the one before.
with sftp.open("/f", "r+") as file:
    assert file.check("sha256") == hashlib.sha256(content).digest()
    file.write(b"changed")
    changed = b"changed" + content[7:]
    assert file.check("sha256") == hashlib.sha256(changed).digest()
with sftp.open("/f", "r") as file:
    assert file.check("sha256") == hashlib.sha256(changed).digest()
client.close()
