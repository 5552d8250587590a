"""What the reader needs and Python does not have: HKDF, XAES-256-GCM, keyed BLAKE3, CBOR, LZ4 blocks.

AES is OpenSSL's, by way of python3-cryptography; everything else is written from its specification, so that no line is
shared with the program whose output is read.
"""
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Malformed(Exception):
    """Bytes that are not what the format says."""


def hkdf(key, salt, info):
    """HKDF-SHA-256 (RFC 5869), 32 bytes: one round of expansion."""
    prk = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def gcm_open(key, nonce, sealed, aad):
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Malformed("it does not open") from None


def xaes_open(key, nonce, sealed, aad):
    """XAES-256-GCM (C2SP): a 24-byte nonce, half of which goes into the key."""
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    # The first subkey of CMAC: the encrypted zero block, doubled in GF(2^128).
    zero = int.from_bytes(aes.update(bytes(16)), "big")
    doubled = (zero << 1 & (1 << 128) - 1) ^ (0x87 if zero >> 127 else 0)
    blocks = (struct.pack(">H2s", number, b"X\0") + nonce[:12] for number in (1, 2))
    mixed = ((int.from_bytes(block, "big") ^ doubled).to_bytes(16, "big") for block in blocks)
    return gcm_open(b"".join(aes.update(block) for block in mixed), nonce[12:], sealed, aad)


# BLAKE3: https://github.com/BLAKE3-team/BLAKE3-specs.
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
CHUNK_BYTES = 1024
# Which words each of a round's eight mixings takes: columns, then diagonals.
MIXINGS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
           (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
MASK = 0xFFFFFFFF


def _schedule():
    order = tuple(range(16))
    for _ in range(7):
        yield order
        order = tuple(order[place] for place in PERMUTATION)


SCHEDULE = tuple(_schedule())


def _compress(chain, block, counter, size, flags):
    v = [*chain, *IV[:4], counter & MASK, counter >> 32, size, flags]
    words = struct.unpack("<16I", block)
    for order in SCHEDULE:
        for number, (a, b, c, d) in enumerate(MIXINGS):
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = va + vb + words[order[2 * number]] & MASK
            vd ^= va
            vd = vd >> 16 | vd << 16 & MASK
            vc = vc + vd & MASK
            vb ^= vc
            vb = vb >> 12 | vb << 20 & MASK
            va = va + vb + words[order[2 * number + 1]] & MASK
            vd ^= va
            vd = vd >> 8 | vd << 24 & MASK
            vc = vc + vd & MASK
            vb ^= vc
            v[a], v[b], v[c], v[d] = va, vb >> 7 | vb << 25 & MASK, vc, vd
    return tuple(low ^ high for low, high in zip(v[:8], v[8:]))


def _chunk(key, chunk, number, flags, last_flag):
    chain, blocks = key, max(1, -(-len(chunk) // 64))
    for block in range(blocks):
        piece = chunk[block * 64:block * 64 + 64]
        own = flags | (CHUNK_START if block == 0 else 0) | (CHUNK_END | last_flag if block == blocks - 1 else 0)
        chain = _compress(chain, piece.ljust(64, b"\0"), number, len(piece), own)
    return chain


def _subtree(key, view, first, flags, last_flag):
    if len(view) <= CHUNK_BYTES:
        return _chunk(key, bytes(view), first, flags, last_flag)
    # The left part is the largest power of two of whole chunks that leaves something for the right.
    left = 1 << ((len(view) - 1) // CHUNK_BYTES).bit_length() - 1
    chains = (_subtree(key, view[:left * CHUNK_BYTES], first, flags, 0)
              + _subtree(key, view[left * CHUNK_BYTES:], first + left, flags, 0))
    return _compress(key, struct.pack("<16I", *chains), 0, 64, flags | PARENT | last_flag)


def blake3(content, key=None):
    """32 bytes; keyed when there is a key."""
    words, flags = (struct.unpack("<8I", key), KEYED) if key else (IV, 0)
    return struct.pack("<8I", *_subtree(words, memoryview(content), 0, flags, ROOT))


SIMPLE = {20: False, 21: True, 22: None}


class _Cbor:
    """The part of RFC 8949 that the format uses, and nothing that has a shorter form."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def take(self, size):
        if self.at + size > len(self.text):
            raise Malformed("CBOR ends too early")
        self.at += size
        return self.text[self.at - size:self.at]

    def argument(self, low):
        if low < 24:
            return low
        if low > 27:
            raise Malformed("CBOR of no definite length")
        size = 1 << low - 24
        value = int.from_bytes(self.take(size), "big")
        if value < (24 if size == 1 else 1 << 4 * size):
            raise Malformed("CBOR that is not in its shortest form")
        return value

    def item(self):
        first = self.take(1)[0]
        kind, low = first >> 5, first & 31
        if kind == 7:
            if low not in SIMPLE:
                raise Malformed("a CBOR value that is not used")
            return SIMPLE[low]
        value = self.argument(low)
        if kind == 0:
            return value
        if kind == 1:
            return -1 - value
        if kind == 2:
            return bytes(self.take(value))
        if kind == 3:
            return bytes(self.take(value)).decode()
        if kind == 4:
            return [self.item() for _ in range(value)]
        if kind == 5:
            return dict((self.item(), self.item()) for _ in range(value))
        raise Malformed("a CBOR tag")


def cbor(text):
    """The one item that these bytes are."""
    reader = _Cbor(text)
    item = reader.item()
    if reader.at != len(text):
        raise Malformed("bytes behind the CBOR item")
    return item


def lz4_block(packed, size):
    """Unpacks one LZ4 block (lz4_Block_format.md) of a known size."""
    out, at = bytearray(), 0

    def take(count):
        nonlocal at
        if at + count > len(packed):
            raise Malformed("an LZ4 block that ends too early")
        at += count
        return packed[at - count:at]

    def length(nibble):
        value, more = nibble, 255 if nibble == 15 else 0
        while more == 255:
            more = take(1)[0]
            value += more
        return value

    while at < len(packed):
        token = take(1)[0]
        out += take(length(token >> 4))
        if at == len(packed):
            break
        back = int.from_bytes(take(2), "little")
        if not 0 < back <= len(out):
            raise Malformed("an LZ4 match that begins before the block")
        for _ in range(min(length(token & 15) + 4, size - len(out) + 1)):
            out.append(out[-back])
        if len(out) > size:
            break
    if len(out) != size:
        raise Malformed("an LZ4 block of another size")
    return bytes(out)
