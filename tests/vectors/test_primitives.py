"""Published answers that the reader's own primitives must give, and what they must refuse."""
import unittest

from primitives import Malformed, blake3, cbor, hkdf, lz4_block, xaes_open


class Primitives(unittest.TestCase):
    def test_blake3_gives_the_answers_of_its_authors(self):
        key = b"whats the Elvish word for friend"
        content = bytes(place % 251 for place in range(102_400))
        for size, plain, keyed in [
            (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
             "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"),
            (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
             "1c35d1a5811083fd7119f5d5d1ba027b4d01c0c6c49fb6ff2cf75393ea5db4a7"),
        ]:
            self.assertEqual(blake3(content[:size]).hex(), plain)
            self.assertEqual(blake3(content[:size], key).hex(), keyed)

    def test_hkdf_gives_the_answer_of_rfc_5869(self):
        answer = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
        self.assertEqual(hkdf(b"\x0b" * 22, b"", b"").hex(), answer)

    def test_xaes_opens_the_examples_of_c2sp(self):
        nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
        for key, aad, sealed in [
            (1, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (3, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
        ]:
            self.assertEqual(xaes_open(bytes([key]) * 32, nonce, bytes.fromhex(sealed), aad), b"XAES-256-GCM")
        with self.assertRaises(Malformed):
            xaes_open(b"\1" * 32, nonce, bytes.fromhex(sealed), b"")

    def test_cbor_is_shortest_definite_and_whole(self):
        self.assertEqual(cbor(bytes.fromhex("83 01 38 63 a1 41 61 f6")), [1, -100, {b"a": None}])
        for wrong in ("1801", "190001", "9f01ff", "8101 00", "82 01", "c101"):
            with self.assertRaises(Malformed):
                cbor(bytes.fromhex(wrong))

    def test_lz4_unpacks_overlapping_matches_and_refuses_what_is_no_block(self):
        # 4 literals, a match of 19 + 4 that overlaps itself, 5 literals.
        block = bytes.fromhex("4f 61626364 0400 04 50 31323334 35")
        unpacked = b"abcd" + b"abcd" * 5 + b"abc" + b"12345"
        self.assertEqual(lz4_block(block, len(unpacked)), unpacked)
        self.assertEqual(lz4_block(b"\xf0\x00" + b"x" * 15, 15), b"x" * 15)
        self.assertEqual(lz4_block(b"\0", 0), b"")
        for wrong, size in [(block, 31), (block, 33), (block[:-1], 32), (bytes.fromhex("10610200"), 5), (b"\xf0", 15)]:
            with self.assertRaises(Malformed):
                lz4_block(wrong, size)


if __name__ == "__main__":
    unittest.main()
