"""Drives the gateway through paramiko the way scripts do; any difference ends it with an error."""
import hashlib
import io
import random
import sys

import paramiko

port, user, key_file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
transport = paramiko.Transport(("127.0.0.1", port))
transport.connect(username=user, pkey=paramiko.Ed25519Key.from_private_key_file(key_file))
sftp = paramiko.SFTPClient.from_transport(transport)

random.seed(1)

# Random writes, truncates and reads of one handle against a plain buffer.
model = bytearray()
with sftp.open("random.bin", "w+b") as remote:
    remote.set_pipelined(False)
    for step in range(400):
        choice = random.random()
        if choice < 0.6:
            offset, size = random.randrange(0, 4_000_000), random.choice([1, 17, 4096, 32768, 100_000])
            piece = random.randbytes(size)
            remote.seek(offset)
            remote.write(piece)
            if len(model) < offset:
                model.extend(bytes(offset - len(model)))
            model[offset:offset + size] = piece
        elif choice < 0.7 and model:
            size = random.randrange(0, len(model) * 2)
            remote.truncate(size)
            if size < len(model):
                del model[size:]
            else:
                model.extend(bytes(size - len(model)))
        else:
            offset, size = random.randrange(0, 5_000_000), random.choice([1, 4096, 70_000])
            remote.seek(offset)
            got = remote.read(size)
            assert got == bytes(model[offset:offset + size]), f"step {step}: read at {offset} of {size} differs"
with sftp.open("random.bin", "rb") as remote:
    assert remote.read() == bytes(model), "after close"
assert sftp.stat("random.bin").st_size == len(model)

# Prefetch: hundreds of reads queued before any answer is read.
content = random.randbytes(48 * 1024 * 1024)
sftp.putfo(io.BytesIO(content), "big.bin")
with sftp.open("big.bin", "rb") as remote:
    remote.prefetch(len(content))
    digest = hashlib.sha256(remote.read()).hexdigest()
assert digest == hashlib.sha256(content).hexdigest(), "prefetch differs"

# Pipelined writes, append mode.
with sftp.open("pipelined.bin", "wb") as remote:
    remote.set_pipelined(True)
    for start in range(0, 8 * 1024 * 1024, 32768):
        remote.write(content[start:start + 32768])
with sftp.open("pipelined.bin", "ab") as remote:
    remote.write(b"tail")
with sftp.open("pipelined.bin", "rb") as remote:
    assert remote.read() == content[:8 * 1024 * 1024] + b"tail"

# Sparse: a hole costs nothing and reads as zeros.
with sftp.open("sparse.bin", "wb") as remote:
    remote.seek(3 * 1024 * 1024 * 1024)
    remote.write(b"end")
assert sftp.stat("sparse.bin").st_size == 3 * 1024 * 1024 * 1024 + 3
with sftp.open("sparse.bin", "rb") as remote:
    remote.seek(1024 * 1024 * 1024)
    assert remote.read(65536) == bytes(65536)
    remote.seek(3 * 1024 * 1024 * 1024 - 2)
    assert remote.read(10) == b"\0\0end"

# Unlink while open; two handles see one content.
writer = sftp.open("shared.bin", "w+b")
reader = sftp.open("shared.bin", "rb")
writer.write(b"first")
writer.flush()
assert reader.read(5) == b"first"
sftp.remove("shared.bin")
writer.seek(0)
writer.write(b"other")
reader.seek(0)
assert reader.read(5) == b"other"
writer.close()
reader.close()
try:
    sftp.stat("shared.bin")
    raise AssertionError("unlinked file is still there")
except FileNotFoundError:
    pass

transport.close()
