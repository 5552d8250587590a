//! The escrow slot: a root key sealed to an offline X25519 key by HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, AES-256-GCM. The gateway has the recipient's public key only: it can seal and never open.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::SlotError;
use super::passphrase::{PassphraseSlot, Purpose};
use crate::id::VaultId;
use crate::keys::RootKey;
use crate::keys::derive::{ESCROW_COMMITMENT, ESCROW_INFO};
use crate::secret::{Passphrase, Secret32};

/// The public half of an escrow key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscrowRecipient(pub [u8; 32]);

/// The private half; lives on a machine without a network.
#[derive(Debug)]
pub struct EscrowKey(Secret32);

/// The private half under a passphrase, as its file has it.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
pub struct LockedEscrowKey {
    #[cbor(n(0), with = "minicbor::bytes")]
    recipient: [u8; 32],
    #[n(1)]
    slot: PassphraseSlot,
}

impl EscrowKey {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Secret32([0; 32]);
        getrandom::fill(&mut seed.0)?;
        let (private, _) = X25519HkdfSha256::derive_keypair(seed.expose());
        let bytes = Zeroizing::new(<[u8; 32]>::from(private.to_bytes()));
        Ok(Self(Secret32::new(*bytes)))
    }

    /// Takes a stored key.
    pub fn from_secret(secret: Secret32) -> Self {
        Self(secret)
    }

    /// The key itself, to store it in its own file.
    pub fn expose(&self) -> &Secret32 {
        &self.0
    }

    /// Its public half.
    ///
    /// # Errors
    /// [`SlotError`] when the bytes are no key.
    pub fn recipient(&self) -> Result<EscrowRecipient, SlotError> {
        let public = X25519HkdfSha256::sk_to_pk(&self.private()?);
        Ok(EscrowRecipient(public.to_bytes().into()))
    }

    /// The same under a passphrase.
    ///
    /// # Errors
    /// As [`PassphraseSlot::seal`].
    pub fn lock(&self, passphrase: &Passphrase) -> Result<LockedEscrowKey, SlotError> {
        let recipient = self.recipient()?.0;
        let slot = PassphraseSlot::seal_for(Purpose::Escrow(&recipient), &self.0, passphrase)?;
        Ok(LockedEscrowKey { recipient, slot })
    }

    fn private(&self) -> Result<<X25519HkdfSha256 as Kem>::PrivateKey, SlotError> {
        <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(self.0.expose()).map_err(|_| SlotError)
    }
}

impl LockedEscrowKey {
    /// Opens it.
    ///
    /// # Errors
    /// [`SlotError`] for a wrong passphrase or a changed byte.
    pub fn open(&self, passphrase: &Passphrase) -> Result<EscrowKey, SlotError> {
        self.slot.open_for(Purpose::Escrow(&self.recipient), passphrase).map(EscrowKey)
    }
}

/// A root key sealed to an escrow key.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct EscrowSlot {
    /// The recipient's public key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) recipient: [u8; 32],
    /// HPKE's `enc`.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) encapsulated: [u8; 32],
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) commitment: [u8; 32],
    /// Ciphertext and tag.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) sealed: Vec<u8>,
}

impl EscrowSlot {
    /// Seals a vault's root key to a recipient.
    ///
    /// # Errors
    /// [`SlotError`] when the recipient is no key (a point of small order).
    pub fn seal(vault: VaultId, root: &RootKey, recipient: EscrowRecipient) -> Result<Self, SlotError> {
        let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&recipient.0).map_err(|_| SlotError)?;
        let info = info(vault);
        let (encapsulated, mut context) =
            hpke::setup_sender::<AesGcm256, HkdfSha256, X25519HkdfSha256>(&OpModeS::Base, &public, &info)
                .map_err(|_| SlotError)?;
        let mut commitment = [0; 32];
        context.export(ESCROW_COMMITMENT, &mut commitment).map_err(|_| SlotError)?;
        let sealed = context.seal(root.0.expose(), &info).map_err(|_| SlotError)?;
        Ok(Self { recipient: recipient.0, encapsulated: encapsulated.to_bytes().into(), commitment, sealed })
    }

    /// To whom it is sealed.
    pub fn recipient(&self) -> EscrowRecipient {
        EscrowRecipient(self.recipient)
    }

    /// Opens it; needs the offline key.
    ///
    /// # Errors
    /// [`SlotError`] for another key, another vault's slot or a changed byte.
    pub fn open(&self, vault: VaultId, key: &EscrowKey) -> Result<RootKey, SlotError> {
        if key.recipient()?.0 != self.recipient {
            return Err(SlotError);
        }
        let encapsulated =
            <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&self.encapsulated).map_err(|_| SlotError)?;
        let info = info(vault);
        let mut context = hpke::setup_receiver::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &key.private()?,
            &encapsulated,
            &info,
        )
        .map_err(|_| SlotError)?;
        let mut expected = [0; 32];
        context.export(ESCROW_COMMITMENT, &mut expected).map_err(|_| SlotError)?;
        if !bool::from(expected.ct_eq(&self.commitment)) {
            return Err(SlotError);
        }
        let opened = Zeroizing::new(context.open(&self.sealed, &info).map_err(|_| SlotError)?);
        let root = Zeroizing::new(<[u8; 32]>::try_from(opened.as_slice()).map_err(|_| SlotError)?);
        Ok(RootKey(Secret32::new(*root)))
    }
}

fn info(vault: VaultId) -> Vec<u8> {
    [ESCROW_INFO, &vault.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escrow_slot_opens_for_its_vault_and_key_only() {
        let (vault, root) = (VaultId([1; 16]), RootKey::generate().unwrap());
        let key = EscrowKey::generate().unwrap();
        let slot = EscrowSlot::seal(vault, &root, key.recipient().unwrap()).unwrap();
        assert_eq!(slot.open(vault, &key).unwrap().0.expose(), root.0.expose());
        assert!(slot.open(VaultId([2; 16]), &key).is_err());
        assert!(slot.open(vault, &EscrowKey::generate().unwrap()).is_err());
        let changes: [fn(&mut EscrowSlot); 4] = [
            |slot| slot.recipient[3] ^= 1,
            |slot| slot.encapsulated[3] ^= 1,
            |slot| slot.commitment[3] ^= 1,
            |slot| slot.sealed.truncate(40),
        ];
        for change in changes {
            let mut wrong = slot.clone();
            change(&mut wrong);
            assert!(wrong.open(vault, &key).is_err());
        }
        for at in 0..slot.sealed.len() {
            let mut wrong = slot.clone();
            wrong.sealed[at] ^= 1;
            assert!(wrong.open(vault, &key).is_err(), "byte {at}");
        }
        let other = EscrowSlot { recipient: EscrowKey::generate().unwrap().recipient().unwrap().0, ..slot };
        assert!(other.open(vault, &key).is_err());
    }

    #[test]
    fn a_point_of_small_order_is_no_recipient() {
        let root = RootKey::generate().unwrap();
        assert!(EscrowSlot::seal(VaultId([1; 16]), &root, EscrowRecipient([0; 32])).is_err());
    }

    #[test]
    fn a_locked_escrow_key_opens_with_its_passphrase_only() {
        let key = EscrowKey::generate().unwrap();
        let locked = key.lock(&Passphrase::new(b"of the notary".to_vec())).unwrap();
        let opened = locked.open(&Passphrase::new(b"of the notary".to_vec())).unwrap();
        assert_eq!(opened.recipient().unwrap(), key.recipient().unwrap());
        assert!(locked.open(&Passphrase::new(b"of the clerk".to_vec())).is_err());
    }
}
