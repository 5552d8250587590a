"""A session of webdav4 and its fsspec file system: python3 webdav4_session.py URL USER TOKEN CA_FILE."""

import io
import ssl
import sys

from webdav4.client import Client, HTTPError, ResourceAlreadyExists, ResourceConflict, ResourceNotFound
from webdav4.fsspec import WebdavFileSystem

url, user, token, ca_file = sys.argv[1:]
context = ssl.create_default_context(cafile=ca_file)
client = Client(url, auth=(user, token), verify=context)


def refused(kind, action, *arguments, **named):
    try:
        action(*arguments, **named)
    except kind:
        return
    raise SystemExit(f"{action.__name__}{arguments} was not refused")


client.mkdir("dir")
refused(ResourceAlreadyExists, client.mkdir, "dir")
refused(ResourceConflict, client.mkdir, "no/parent")
name = "dir/zwei ä & <b> 100 %.txt"
content = bytes(at % 251 for at in range(300_000))
client.upload_fileobj(io.BytesIO(content), name)
refused(ResourceAlreadyExists, client.upload_fileobj, io.BytesIO(b""), name)
listed = client.ls("dir")
assert [entry["name"] for entry in listed] == [name], listed
entry = listed[0]
assert entry["type"] == "file" and entry["content_length"] == len(content) and entry["etag"], entry
assert client.content_length(name) == len(content)
assert client.etag(name) == entry["etag"]
assert client.isfile(name) and client.exists(name) and not client.exists("nothing")
# Of a directory it asks for all below without end, which nobody answers; a listing tells as much.
refused(HTTPError, client.isdir, "dir")
assert [entry["type"] for entry in client.ls("/")] == ["directory"]
assert client.modified(name) is not None and client.created(name) is not None
back = io.BytesIO()
client.download_fileobj(name, back)
assert back.getvalue() == content
client.copy(name, "dir/copy")
refused(ResourceAlreadyExists, client.copy, name, "dir/copy", overwrite=False)
client.move("dir/copy", "dir/moved", overwrite=True)
with client.open("dir/moved", mode="rb") as file:
    file.seek(299_000)
    assert file.read(500) == content[299_000:299_500]
client.remove("dir/moved")
refused(ResourceNotFound, client.info, "dir/moved")

files = WebdavFileSystem(url, auth=(user, token), verify=context)
with files.open("dir/text", "w") as file:
    file.write("line\n" * 1000)
with files.open("dir/text", "r") as file:
    assert file.read() == "line\n" * 1000
files.makedirs("dir/a/b/c")
files.mv("dir/text", "dir/a/b/c/text")
assert files.find("dir") == sorted(["dir/a/b/c/text", name]), files.find("dir")
assert files.du("dir") == 5000 + len(content)
assert files.checksum(name)
files.rm("dir", recursive=True)
assert files.ls("/") == []
