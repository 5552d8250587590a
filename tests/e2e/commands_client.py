"""Runs commands on one connection, with a file open or not, until the server ends it; prints how many, and of what kind."""
import asyncio
import sys

import asyncssh

port, user, key, known_hosts, most = int(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])


async def main():
    connection = await asyncssh.connect(
        "127.0.0.1", port, username=user, client_keys=[key], known_hosts=known_hosts, config=None)
    sftp = await connection.start_sftp_client()
    # An open file: the connection must not end beneath it.
    file = await sftp.open("held", "wb")
    for _ in range(most):
        assert (await connection.run("pwd", check=True)).stdout == "/\n"
    await file.write(b"content")
    await file.close()
    print(f"{most} with a file open")
    more = 0
    try:
        while True:
            await connection.run("pwd", check=True)
            more += 1
            # What comes next of a client that has somewhere to go: another command, or nothing.
            await asyncio.sleep(0.01)
    except (asyncssh.ConnectionLost, asyncssh.DisconnectError, asyncssh.ChannelOpenError, OSError) as error:
        print(f"then {more} more")
        assert more < 50, error


asyncio.run(main())
