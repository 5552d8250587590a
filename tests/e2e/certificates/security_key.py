"""An SSH login with a key of a FIDO security key that exists in memory only, and whose "touched" flag is the caller's.

Usage: security_key.py make FILE       writes the private half to FILE, the public one to FILE.pub
       security_key.py use FILE PORT USER FLAGS
"""

import hashlib
import struct
import sys

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KIND = b"sk-ssh-ed25519@openssh.com"
APPLICATION = b"ssh:"


def string(value):
    return struct.pack(">I", len(value)) + value


class SecurityKey(paramiko.PKey):
    """Signs as the device does: over the hash of its application, its flags, its counter and the hash of the message."""

    public_blob = None

    def __init__(self, private, flags):
        self.private, self.flags = private, flags

    def get_name(self):
        return KIND.decode()

    def asbytes(self):
        public = self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return string(KIND) + string(public) + string(APPLICATION)

    def sign_ssh_data(self, data, algorithm=None):
        state = bytes([self.flags]) + struct.pack(">I", 7)
        signed = hashlib.sha256(APPLICATION).digest() + state + hashlib.sha256(data).digest()
        signature = string(KIND) + string(self.private.sign(signed)) + state
        return paramiko.Message(signature)


def main():
    command, path = sys.argv[1:3]
    if command == "make":
        private = Ed25519PrivateKey.generate()
        with open(path, "wb") as out:
            out.write(
                private.private_bytes(
                    serialization.Encoding.Raw,
                    serialization.PrivateFormat.Raw,
                    serialization.NoEncryption(),
                )
            )
        with open(path + ".pub", "w", encoding="ascii") as out:
            out.write(f"{KIND.decode()} {SecurityKey(private, 1).get_base64()} device\n")
        return
    port, user, flags = int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    with open(path, "rb") as source:
        key = SecurityKey(Ed25519PrivateKey.from_private_bytes(source.read()), flags)
    transport = paramiko.Transport(("127.0.0.1", port))
    transport.connect(username=user, pkey=key)
    print(paramiko.SFTPClient.from_transport(transport).listdir("/"))
    transport.close()


main()
