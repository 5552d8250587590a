//! Audit records as bytes: deterministic CBOR, fields in clear, details sealed (FORMAT.md section 8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use super::{Action, Actor, DetailKey, Outcome, Protocol, RecordDraft};
use crate::error::StoreError;
use crate::id::{InodeId, RecordNumber, VaultId};
use crate::index::Table;
use crate::record::RecordKey;
use crate::time::UnixNanos;

/// Bytes of the largest record: two paths, a note and room to spare.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
enum ActorKind {
    #[n(0)]
    User,
    #[n(1)]
    Unknown,
    #[n(2)]
    Operator,
    #[n(3)]
    System,
}

#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
struct Row {
    #[n(0)]
    number: u64,
    #[n(1)]
    utc: i64,
    #[n(2)]
    boot: u64,
    #[n(3)]
    customer: Option<ByteArray<16>>,
    #[n(4)]
    actor: ActorKind,
    #[n(5)]
    user: Option<ByteArray<16>>,
    #[n(6)]
    credential: Option<String>,
    #[n(7)]
    factors: Vec<String>,
    #[n(8)]
    source: Option<ByteVec>,
    #[n(9)]
    protocol: Protocol,
    #[n(10)]
    session: Option<ByteArray<16>>,
    #[n(11)]
    action: Action,
    #[n(12)]
    vault: Option<VaultId>,
    #[n(13)]
    object: Option<InodeId>,
    #[n(14)]
    bytes: Option<u64>,
    #[n(15)]
    content_hash: Option<ByteArray<32>>,
    #[n(16)]
    outcome: Outcome,
    #[n(17)]
    reason: Option<String>,
    #[n(18)]
    details: Option<ByteVec>,
}

/// A record as it stands in the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place in the log.
    pub number: RecordNumber,
    /// When, by the wall clock.
    pub utc: UnixNanos,
    /// When, since the machine booted (nanoseconds): cannot be set back.
    pub boot_nanos: u64,
    /// What happened, without details.
    pub draft: RecordDraft,
    /// Sealed details, if any.
    pub sealed_details: Option<Vec<u8>>,
    factors: Vec<String>,
}

impl Record {
    /// Factors proven, in order.
    pub fn factors(&self) -> &[String] {
        &self.factors
    }

    /// Opens the details with the vault's audit key or the system's.
    pub fn open_details(&self, key: &RecordKey) -> Option<Vec<(DetailKey, Vec<u8>)>> {
        let plain =
            key.open(Table::AuditDetails, &self.number.0.to_be_bytes(), self.sealed_details.as_deref()?)?;
        let rows: Vec<(DetailKey, ByteVec)> = minicbor::decode(&plain).ok()?;
        Some(rows.into_iter().map(|(key, value)| (key, value.into())).collect())
    }
}

/// Encodes a record (deterministic CBOR) with its number and times; details sealed with `details`.
///
/// # Errors
/// `Randomness`; `TooLarge` for a record over [`RECORD_BYTES_MAX`].
pub fn encode_record(
    draft: &RecordDraft,
    number: RecordNumber,
    utc: UnixNanos,
    boot_nanos: u64,
    details: &RecordKey,
) -> Result<Vec<u8>, StoreError> {
    let too_large = || StoreError::TooLarge("an audit record");
    let sealed = if draft.details.is_empty() {
        None
    } else {
        let rows: Vec<(DetailKey, ByteVec)> =
            draft.details.iter().map(|(key, value)| (*key, value.clone().into())).collect();
        let mut plain = Vec::new();
        minicbor::encode(&rows, &mut plain).map_err(|_| too_large())?;
        Some(details.seal(Table::AuditDetails, &number.0.to_be_bytes(), &plain)?)
    };
    let (actor, user) = match &draft.actor {
        Actor::User(user) => (ActorKind::User, Some(*user)),
        Actor::Unknown => (ActorKind::Unknown, None),
        Actor::Operator => (ActorKind::Operator, None),
        Actor::System => (ActorKind::System, None),
    };
    let row = Row {
        number: number.0,
        utc: utc.0,
        boot: boot_nanos,
        customer: draft.customer.map(Into::into),
        actor,
        user: user.map(Into::into),
        credential: draft.credential.clone(),
        factors: draft.factors.iter().map(|factor| (*factor).to_owned()).collect(),
        source: draft.source.map(|source| match source {
            IpAddr::V4(address) => address.octets().to_vec().into(),
            IpAddr::V6(address) => address.octets().to_vec().into(),
        }),
        protocol: draft.protocol,
        session: draft.session.map(Into::into),
        action: draft.action,
        vault: draft.vault,
        object: draft.object,
        bytes: draft.bytes,
        content_hash: draft.content_hash.map(Into::into),
        outcome: draft.outcome,
        reason: draft.reason.clone(),
        details: sealed.map(Into::into),
    };
    let mut encoded = Vec::with_capacity(320);
    minicbor::encode(&row, &mut encoded).map_err(|_| too_large())?;
    if encoded.len() > RECORD_BYTES_MAX { Err(too_large()) } else { Ok(encoded) }
}

/// What of a record says where it belongs: read without the rest, for whoever looks at millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Its place in the log.
    pub number: RecordNumber,
    /// When.
    pub utc: UnixNanos,
    /// Whose tree it belongs to besides the system's.
    pub customer: Option<[u8; 16]>,
}

/// Reads the first fields of a record; nothing for bytes that do not begin like one.
pub fn outline(bytes: &[u8]) -> Option<Outline> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let fields = decoder.map().ok()??;
    let (mut number, mut utc, mut customer) = (None, None, None);
    // Fields stand in the order of their numbers.
    for _ in 0..fields {
        match decoder.u8().ok()? {
            0 => number = Some(RecordNumber(decoder.u64().ok()?)),
            1 => utc = Some(UnixNanos(decoder.i64().ok()?)),
            2 => decoder.skip().ok()?,
            3 => {
                if decoder.datatype().ok()? == minicbor::data::Type::Null {
                    decoder.skip().ok()?;
                } else {
                    customer = Some(decoder.bytes().ok()?.try_into().ok()?);
                }
            }
            _ => break,
        }
    }
    Some(Outline { number: number?, utc: utc?, customer })
}

/// Whether a record's fields stand in the order of their numbers, none of them twice: one record has one spelling, and every reader
/// of it reads the same.
fn is_ordered(bytes: &[u8]) -> Option<bool> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let fields = decoder.map().ok()??;
    let mut last = None;
    for _ in 0..fields {
        let number = decoder.u8().ok()?;
        decoder.skip().ok()?;
        if last.is_some_and(|last| last >= number) {
            return Some(false);
        }
        last = Some(number);
    }
    Some(true)
}

/// Reads a record; nothing for bytes that are none (trailing ones included), or that say a field twice or out of its order.
pub fn decode_record(bytes: &[u8]) -> Option<Record> {
    is_ordered(bytes)?.then_some(())?;
    let mut decoder = minicbor::Decoder::new(bytes);
    let row: Row = decoder.decode().ok()?;
    (decoder.position() == bytes.len()).then_some(())?;
    let actor = match (row.actor, row.user) {
        (ActorKind::User, Some(user)) => Actor::User(user.into()),
        (ActorKind::User, None) => return None,
        (ActorKind::Unknown, _) => Actor::Unknown,
        (ActorKind::Operator, _) => Actor::Operator,
        (ActorKind::System, _) => Actor::System,
    };
    let source = match row.source {
        None => None,
        Some(octets) => Some(match octets.as_slice() {
            [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d)),
            long => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(long).ok()?)),
        }),
    };
    Some(Record {
        number: RecordNumber(row.number),
        utc: UnixNanos(row.utc),
        boot_nanos: row.boot,
        draft: RecordDraft {
            customer: row.customer.map(Into::into),
            actor,
            credential: row.credential,
            factors: Vec::new(),
            source,
            protocol: row.protocol,
            session: row.session.map(Into::into),
            action: row.action,
            vault: row.vault,
            object: row.object,
            bytes: row.bytes,
            content_hash: row.content_hash.map(Into::into),
            outcome: row.outcome,
            reason: row.reason,
            details: Vec::new(),
        },
        sealed_details: row.details.map(Into::into),
        factors: row.factors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Secret32;

    #[test]
    fn a_record_comes_back_and_its_names_only_with_the_key() {
        let key = RecordKey::new(&Secret32::new([1; 32]));
        let draft = RecordDraft {
            source: Some("192.0.2.7".parse().unwrap()),
            bytes: Some(7),
            factors: vec!["ssh-key"],
            details: vec![(DetailKey::Path, b"/secret/name".to_vec())],
            ..RecordDraft::new(Actor::User([2; 16]), Action::FileRead)
        };
        let encoded = encode_record(&draft, RecordNumber(5), UnixNanos(6), 7, &key).unwrap();
        assert!(!encoded.windows(6).any(|window| window == b"secret"));
        let record = decode_record(&encoded).unwrap();
        assert_eq!((record.number, record.utc, record.boot_nanos), (RecordNumber(5), UnixNanos(6), 7));
        assert_eq!((record.draft.source, record.draft.bytes), (draft.source, Some(7)));
        assert_eq!(record.factors(), ["ssh-key"]);
        assert_eq!(record.open_details(&key).unwrap(), draft.details);
        assert!(record.open_details(&RecordKey::new(&Secret32::new([2; 32]))).is_none());
        let seen = Outline { number: record.number, utc: record.utc, customer: None };
        assert_eq!(outline(&encoded), Some(seen));
        let owned = RecordDraft { customer: Some([9; 16]), ..draft.clone() };
        let owned = encode_record(&owned, RecordNumber(5), UnixNanos(6), 7, &key).unwrap();
        assert_eq!(outline(&owned), Some(Outline { customer: Some([9; 16]), ..seen }));
        for len in 0..encoded.len() {
            assert!(decode_record(&encoded[..len]).is_none(), "cut at {len}");
        }
        assert!(decode_record(&[encoded, vec![0]].concat()).is_none(), "trailing byte");
    }

    #[test]
    fn a_record_that_says_a_field_twice_or_out_of_order_is_none() {
        let key = RecordKey::new(&Secret32::new([1; 32]));
        let draft = RecordDraft::new(Actor::System, Action::StoreOpen);
        let encoded = encode_record(&draft, RecordNumber(5), UnixNanos(6), 7, &key).unwrap();
        assert_eq!(decode_record(&encoded).unwrap().number, RecordNumber(5));
        // Its first field once more, in front: another number for who reads the first one only.
        let twice = [&[encoded[0] + 1, 0, 9], &encoded[1..]].concat();
        assert!(decode_record(&twice).is_none());
        // The number behind the time.
        assert_eq!(encoded[1..5], [0, 5, 1, 6], "number, then time");
        let swapped = [&[encoded[0], 1, 6, 0, 5], &encoded[5..]].concat();
        assert!(decode_record(&swapped).is_none());
    }
}
