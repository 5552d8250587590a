"""A session of webdavclient3: python3 webdavclient3_session.py URL USER TOKEN CA_FILE, in an empty directory."""

import hashlib
import os
import sys

from webdav3.client import Client
from webdav3.exceptions import RemoteResourceNotFound

url, user, token, ca_file = sys.argv[1:]
client = Client({"webdav_hostname": url.rstrip("/"), "webdav_login": user, "webdav_password": token})
client.verify = ca_file


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


assert client.mkdir("tree")
assert client.check("tree") and client.is_dir("tree") and not client.check("nothing")
os.makedirs("here/below")
for name, size in [("here/one.bin", 300_000), ("here/below/zwei ä & <b> %41.txt", 20), ("here/empty", 0)]:
    with open(name, "wb") as file:
        file.write(os.urandom(size))
client.push("tree", "here")
assert sorted(client.list("tree")) == ["below/", "empty", "one.bin"], client.list("tree")
os.mkdir("back")
client.pull("tree", "back")
for name in ["one.bin", "below/zwei ä & <b> %41.txt", "empty"]:
    assert digest("here/" + name) == digest("back/" + name), name

described = {entry["path"].rsplit("/", 1)[-1]: entry for entry in client.list("tree", get_info=True)}
assert described["one.bin"]["size"] == "300000", described
info = client.info("tree/one.bin")
assert info["size"] == "300000" and info["etag"] and info["modified"], info
assert client.free() > 0

client.copy("tree/one.bin", "tree/two.bin")
client.move("tree/two.bin", "tree/below/three.bin")
assert client.check("tree/below/three.bin") and not client.check("tree/two.bin")
client.download_sync("tree/below/three.bin", "three.bin")
assert digest("three.bin") == digest("here/one.bin")

option = {"namespace": "urn:x", "name": "color", "value": "grün"}
client.set_property("tree/one.bin", option)
assert client.get_property("tree/one.bin", option) == "grün"

client.clean("tree")
try:
    client.list("tree")
    raise SystemExit("a directory that was removed is listed")
except RemoteResourceNotFound:
    pass
