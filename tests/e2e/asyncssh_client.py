"""Drives the gateway through asyncssh the way scripts do; any difference ends it with an error."""
import asyncio
import random
import stat
import sys

import asyncssh

port, user, key, known_hosts, here, back = int(sys.argv[1]), *sys.argv[2:7]


async def refused(work):
    try:
        await work
    except asyncssh.SFTPError as error:
        return error
    raise AssertionError("it was not refused")


async def main():
    async with asyncssh.connect("127.0.0.1", port, username=user, client_keys=[key], known_hosts=known_hosts, config=None) as connection:
        async with connection.start_sftp_client() as sftp:
            assert sftp.version == 3
            await sftp.put(here, "there", recurse=True, preserve=True)
            await sftp.get("there", back, recurse=True, preserve=True)

            found = await sftp.glob("there/many/file-00*")
            assert sorted(found) == [f"there/many/file-00{digit}" for digit in range(10)], found
            await sftp.symlink("many", "there/another")
            assert await sftp.readlink("there/another") == "many"
            assert stat.S_ISLNK((await sftp.lstat("there/another")).permissions)
            assert await sftp.realpath("there/another") == "/there/many"
            assert (await sftp.statvfs("/")).bsize > 0

            content = random.Random(1).randbytes(9 * 1024 * 1024)
            async with sftp.open("big", "wb") as file:
                # Many writes at once, out of order.
                pieces = list(range(0, len(content), 65536))
                random.Random(2).shuffle(pieces)
                await asyncio.gather(*(file.write(content[at:at + 65536], at) for at in pieces))
                await file.fsync()
            async with sftp.open("big", "rb") as file:
                got = await asyncio.gather(*(file.read(65536, at) for at in pieces))
                assert all(piece == content[at:at + 65536] for at, piece in zip(pieces, got))
            await sftp.link("big", "hard")
            async with sftp.open("big", "ab") as file:
                await file.write(b"tail")
            assert (await sftp.stat("hard")).size == len(content) + 4
            await sftp.truncate("hard", 5)
            assert await sftp.getsize("big") == 5
            if hasattr(sftp, "remote_copy"):
                await sftp.remote_copy("there/medium.bin", "copied")
                assert await sftp.getsize("copied") == await sftp.getsize("there/medium.bin")

            await sftp.posix_rename("hard", "big")
            assert isinstance(await refused(sftp.stat("missing")), asyncssh.SFTPNoSuchFile)
            assert isinstance(await refused(sftp.rename("big", "there/empty")), asyncssh.SFTPFailure)
            await sftp.utime("big", times=(1_000_000_000, 1_100_000_000))
            times = await sftp.stat("big")
            assert (times.atime, times.mtime) == (1_000_000_000, 1_100_000_000), times
            await sftp.rmtree("there")
            assert await sftp.listdir("/") and "there" not in await sftp.listdir("/")


asyncio.run(main())
