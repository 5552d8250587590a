//! What a customer's auditor is given: a directory that verifies with no server and no secret, and holds nothing of other
//! customers (FORMAT.md section 18).
//!
//! ```text
//! coffre/audit-export/<customer, 32 hexadecimal digits>
//! name hospital
//! first 0                 records of the customer before these, lost by then
//! edge <hash, base64>     one line for each perfect subtree over them, largest first
//! records 1234
//! root <base64>
//! from 0
//! details opened          or sealed
//! lines <SHA-256 of records.jsonl, hexadecimal>
//! time 1770000000000000000
//! ```

mod verification;
mod writing;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use coffre_storage::audit::customer::{Customer, customer_of, origin};
use coffre_storage::audit::merkle::{Frontier, Hash};
use coffre_storage::note;

use super::rows::Details;
use crate::units::hex;
pub(super) use verification::verify;

/// The signed note of a directory: with it the directory is one.
pub(super) const MANIFEST: &str = "export";
const RECORDS: &str = "records";
const LINES: &str = "records.jsonl";
const CHECKPOINTS: &str = "checkpoints";
const VERIFIER: &str = "checkpoint.pub";
const README: &str = "README.txt";
/// First bytes of the records: magic; then each as its length (u32, little-endian) and its bytes.
const MAGIC: &[u8; 8] = b"COFAUDC1";
const README_TEXT: &str = include_str!("readme.txt");

/// What the signed note says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Manifest {
    customer: Customer,
    name: String,
    before: Frontier,
    records: u64,
    root: Hash,
    from: u64,
    details: Details,
    lines: String,
    time: i64,
}

fn manifest_origin(customer: &Customer) -> String {
    format!("coffre/audit-export/{}", hex(customer))
}

impl Manifest {
    fn body(&self) -> String {
        let edge: Vec<_> =
            self.before.edge().iter().map(|hash| format!("edge {}\n", BASE64.encode(hash))).collect();
        let edge = edge.concat();
        format!(
            "{}\nname {}\nfirst {}\n{edge}records {}\nroot {}\nfrom {}\ndetails {}\nlines {}\ntime {}\n",
            manifest_origin(&self.customer),
            self.name,
            self.before.size(),
            self.records,
            BASE64.encode(self.root),
            self.from,
            self.details.name(),
            self.lines,
            self.time
        )
    }

    fn verify(text: &str, customer: Customer, public: &[u8; 32]) -> Option<Self> {
        let body = note::verify(&manifest_origin(&customer), text, public).ok()?;
        let mut lines = body.lines().skip(1);
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let name = field("name")?.to_owned();
        let first: u64 = field("first")?.parse().ok()?;
        let mut edge = Vec::new();
        for _ in 0..first.count_ones() {
            edge.push(BASE64.decode(field("edge")?).ok()?.try_into().ok()?);
        }
        let found = Self {
            customer,
            name,
            before: Frontier::from_parts(first, edge)?,
            records: field("records")?.parse().ok()?,
            root: BASE64.decode(field("root")?).ok()?.try_into().ok()?,
            from: field("from")?.parse().ok()?,
            details: Details::from_name(field("details")?)?,
            lines: field("lines")?.to_owned(),
            time: field("time")?.parse().ok()?,
        };
        (found.body() == body).then_some(found)
    }
}

/// The customer and the key of a line that verifies.
pub(super) fn customer_key(line: &str) -> Option<(Customer, [u8; 32])> {
    let origin_name = line.split('+').next()?;
    let customer = customer_of(origin_name)?;
    Some((customer, note::parse_verifier(&origin(&customer), line)?))
}
