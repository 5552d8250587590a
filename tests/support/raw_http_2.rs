//! HTTP/2 frame by frame (RFC 9113): what no polite client sends.

use anyhow::{Result, ensure};

use crate::{Gateway, RawHttp};

/// Types of frames.
pub mod kind {
    #![allow(missing_docs, reason = "the names of RFC 9113 section 6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}
/// `END_STREAM`; `ACK` of SETTINGS.
pub const END_STREAM: u8 = 1;
/// `END_HEADERS`
pub const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A big-endian number in what it carries.
    pub fn number(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }

    /// The status of a HEADERS frame, if it is one of those that have a number of their own (RFC 7541 appendix A).
    pub fn status(&self) -> Option<u16> {
        match self.payload.first()? {
            0x88 => Some(200),
            0x89 => Some(204),
            0x8a => Some(206),
            0x8b => Some(304),
            0x8c => Some(400),
            0x8d => Some(404),
            0x8e => Some(500),
            _ => None,
        }
    }

    /// The settings of a SETTINGS frame.
    pub fn settings(&self) -> Vec<(u16, u32)> {
        let setting = |bytes: &[u8]| {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            (number, u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
        };
        self.payload.chunks_exact(6).map(setting).collect()
    }
}

/// One HTTP/2 connection to the WebDAV listener.
#[derive(Debug)]
pub struct RawHttp2 {
    raw: RawHttp,
}

impl RawHttp2 {
    /// Connects and greets, with these settings of the client's.
    ///
    /// # Errors
    /// When the server does not agree to HTTP/2.
    pub fn connect(gateway: &Gateway, settings: &[(u16, u32)]) -> Result<Self> {
        Self::connect_after(gateway, settings, b"")
    }

    /// The same, after it has said something else.
    ///
    /// # Errors
    /// When the server does not agree to HTTP/2.
    pub fn connect_after(gateway: &Gateway, settings: &[(u16, u32)], before: &[u8]) -> Result<Self> {
        let raw = RawHttp::connect_offering(gateway, &["h2"], before)?;
        ensure!(raw.protocol().as_deref() == Some("h2"), "agreed on {:?}", raw.protocol());
        let mut client = Self { raw };
        client.raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(number, value)| [&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        client.send(kind::SETTINGS, 0, 0, &settings)?;
        Ok(client)
    }

    /// A frame as bytes.
    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the server has closed.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        self.send_bytes(&Self::frame(kind, flags, stream, payload))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the server has closed.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.raw.send(bytes)
    }

    /// A request's headers, none of them compressed, with the demo user's credentials.
    pub fn headers(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let (credentials, host) = self.raw.credentials();
        let own = [
            (":method", method),
            (":scheme", "https"),
            (":authority", &host),
            (":path", path),
            ("authorization", &credentials),
        ];
        own.iter().chain(more).flat_map(|(name, value)| literal(name, value)).collect()
    }

    /// The next frame; nothing when the server closed.
    ///
    /// # Errors
    /// When the server is silent.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        let mut head = [0; 9];
        if !self.raw.fill(&mut head)? {
            return Ok(None);
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
        let whole = self.raw.fill(&mut payload)?;
        Ok(whole.then(|| Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }))
    }

    /// The next frame of a kind; nothing when the server closed before one came.
    ///
    /// # Errors
    /// When the server is silent.
    pub fn next_of(&mut self, kind: u8) -> Result<Option<Frame>> {
        while let Some(frame) = self.next_frame()? {
            if frame.kind == kind {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

/// A header that is not to be remembered (RFC 7541 section 6.2.2).
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = text.len();
    if left < 127 {
        bytes.push(u8::try_from(left).unwrap_or(0));
    } else {
        bytes.push(127);
        left -= 127;
        while left >= 128 {
            bytes.push(u8::try_from(left % 128).unwrap_or(0) | 128);
            left /= 128;
        }
        bytes.push(u8::try_from(left).unwrap_or(0));
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
