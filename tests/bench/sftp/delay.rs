//! A line with a round trip: a relay on loopback that holds every byte back for half of it in each direction. Its capacity
//! is not limited but by memory, so windows and pipelining are what shows.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Pieces that one direction holds: 64 KiB each, 128 MiB in all, more than any window.
const PIECES_MAX: usize = 2048;
/// Bytes relayed at once.
const PIECE_BYTES: usize = 64 * 1024;

struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

/// Listens on a free port and relays to another; returns the port. Ends with the process.
pub(crate) fn relay(to: u16, round_trip: Duration) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A connection that cannot be made is one that the client sees closed.
            drop(connect(client, to, round_trip / 2));
        }
    });
    Ok(port)
}

fn connect(client: TcpStream, to: u16, one_way: Duration) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", to))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    one_direction(client.try_clone()?, server.try_clone()?, one_way);
    one_direction(server, client, one_way);
    Ok(())
}

fn one_direction(from: TcpStream, to: TcpStream, one_way: Duration) {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    thread::spawn(move || take_in(from, &sender, one_way));
    thread::spawn(move || give_out(to, &receiver));
}

fn take_in(mut from: TcpStream, to: &SyncSender<Piece>, one_way: Duration) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let piece = Piece { due: Instant::now() + one_way, bytes: buffer[..len].to_vec() };
        if to.send(piece).is_err() {
            return;
        }
    }
}

fn give_out(mut to: TcpStream, from: &Receiver<Piece>) {
    while let Ok(piece) = from.recv() {
        while let Some(left) = piece.due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            thread::park_timeout(left);
        }
        if to.write_all(&piece.bytes).is_err() {
            return;
        }
    }
    // The other side has closed; so does this one.
    drop(to.shutdown(Shutdown::Write));
}
