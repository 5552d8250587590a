//! HKDF-SHA-256 labels: every one of the product, in one file.
use super::Secret32;

/// What the gateway key is used for; each use has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayLabel {
    /// Seals batch headers and journals, authenticates pack headers.
    Packs,
    /// Seals values of system tables.
    Records,
    /// Wraps vault root keys in managed slots.
    Slots,
    /// Seals details of audit records that belong to no vault.
    AuditDetails,
    /// Seed of the Ed25519 key that signs audit checkpoints.
    AuditSigning,
    /// MAC under which app-token secrets are stored.
    TokenMac,
    /// A value that tells a right gateway key from a wrong one.
    KeyCheck,
}

/// The key under which all managed keys stand.
#[derive(Debug, Clone)]
pub struct GatewayKey(Secret32);

impl GatewayKey {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(Secret32::new(bytes)))
    }
    /// Takes a stored key.
    pub fn from_secret(secret: Secret32) -> Self { Self(secret) }
    /// The key itself, to store it in its own file.
    pub fn expose(&self) -> &Secret32 { &self.0 }
    /// The key for one use.
    pub fn derive(&self, _label: GatewayLabel) -> Secret32 { todo!() }
}
