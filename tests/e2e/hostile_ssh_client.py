"""Floods an SSH connection after its login, and never reads an answer; says how it ended on standard output."""
import asyncio
import sys

import asyncssh
from asyncssh.packet import Boolean, String, UInt32

port, user, key, known_hosts, attack = int(sys.argv[1]), *sys.argv[2:6]

GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_DATA, PING = 80, 90, 94, 192


def pings(connection, _channel):
    connection.send_packet(PING, String(b"x" * 1024))


def questions(connection, _channel):
    connection.send_packet(GLOBAL_REQUEST, String(b"nothing@example.com"), Boolean(True))


def channels(connection, _channel):
    connection.send_packet(CHANNEL_OPEN, String(b"session"), UInt32(7), UInt32(2 << 20), UInt32(32768))


def data_beyond_the_window(connection, channel):
    connection.send_packet(CHANNEL_DATA, UInt32(channel._send_chan), String(b"\0" * 32000))


ATTACKS = {attack.__name__: attack for attack in (pings, questions, channels, data_beyond_the_window)}


async def main():
    connection = await asyncssh.connect(
        "127.0.0.1", port, username=user, client_keys=[key], known_hosts=known_hosts, config=None)
    stdin, _stdout, _stderr = await connection.open_session(subsystem="sftp", encoding=None)
    # From here on answers stay where they are.
    connection._transport.pause_reading()
    sent = 0
    for _ in range(400):
        for _ in range(500):
            ATTACKS[attack](connection, stdin.channel)
            sent += 1
        for _ in range(500):
            if connection._transport is None or connection._transport.is_closing():
                print(f"ended after {sent}")
                return
            if connection._transport.get_write_buffer_size() == 0:
                break
            await asyncio.sleep(0.01)
        else:
            print(f"waits after {sent}")
            await asyncio.sleep(5)
            return
    print(f"sent {sent}")


asyncio.run(main())
