//! Which combinations of factors a customer takes.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::factor::Factor;

/// Factors that together prove who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// An unattended machine's SSH key, from the networks it is pinned to.
    MachineKey,
    /// A person's SSH key alone.
    Key,
    /// A person's SSH key, then a code.
    KeyAndCode,
    /// A person's SSH key, then a password.
    KeyAndPassword,
    /// A password, then a code.
    PasswordAndCode,
    /// An app token.
    Token,
    /// A key of a smart card, which asks for a PIN.
    SmartCard,
    /// An OpenSSH user certificate of one of the customer's authorities.
    SshCertificate,
    /// A TLS client certificate (WebDAV).
    TlsCertificate,
}

impl Combination {
    /// Every one, in the order in which people read them.
    pub const ALL: [Self; 9] = [
        Self::MachineKey,
        Self::SmartCard,
        Self::SshCertificate,
        Self::TlsCertificate,
        Self::KeyAndCode,
        Self::KeyAndPassword,
        Self::PasswordAndCode,
        Self::Token,
        Self::Key,
    ];

    /// As operators write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MachineKey => "machine-key",
            Self::Key => "key",
            Self::KeyAndCode => "key+code",
            Self::KeyAndPassword => "key+password",
            Self::PasswordAndCode => "password+code",
            Self::Token => "token",
            Self::SmartCard => "smart-card",
            Self::SshCertificate => "ssh-certificate",
            Self::TlsCertificate => "tls-certificate",
        }
    }

    /// Which one these factors are, in the order in which they were proven; `machine` says whose the key is.
    pub fn of(factors: &[Factor], machine: bool) -> Option<Self> {
        match factors {
            [Factor::SshKey] if machine => Some(Self::MachineKey),
            [Factor::SshKey] => Some(Self::Key),
            [Factor::SshKey, Factor::Totp | Factor::RecoveryCode] => Some(Self::KeyAndCode),
            [Factor::SshKey, Factor::Password] => Some(Self::KeyAndPassword),
            [Factor::Password, Factor::Totp | Factor::RecoveryCode] => Some(Self::PasswordAndCode),
            [Factor::AppToken] => Some(Self::Token),
            [Factor::SmartCard] => Some(Self::SmartCard),
            [Factor::SshCertificate] => Some(Self::SshCertificate),
            [Factor::TlsCertificate] => Some(Self::TlsCertificate),
            _ => None,
        }
    }

    fn bit(self) -> u16 {
        match self {
            Self::MachineKey => 1,
            Self::Key => 1 << 1,
            Self::KeyAndCode => 1 << 2,
            Self::KeyAndPassword => 1 << 3,
            Self::PasswordAndCode => 1 << 4,
            Self::Token => 1 << 5,
            Self::SmartCard => 1 << 6,
            Self::SshCertificate => 1 << 7,
            Self::TlsCertificate => 1 << 8,
        }
    }
}

/// A set of combinations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Policy(u16);

impl Policy {
    /// What is taken when nothing else is said: nothing that one weak factor opens.
    pub const STRONG: Self = Self(0b1_1111_1101);
    /// What customers take that were there before there was a choice: a person's key alone, too.
    pub const OF_BEFORE: Self = Self(0b1_1111_1111);

    /// Whether a combination is taken.
    pub fn takes(self, combination: Combination) -> bool {
        self.0 & combination.bit() != 0
    }

    /// The combinations that are taken.
    pub fn combinations(self) -> impl Iterator<Item = Combination> {
        Combination::ALL.into_iter().filter(move |combination| self.takes(*combination))
    }
}

impl FromIterator<Combination> for Policy {
    fn from_iter<I: IntoIterator<Item = Combination>>(combinations: I) -> Self {
        Self(combinations.into_iter().fold(0, |bits, combination| bits | combination.bit()))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.combinations().map(Combination::name).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy({self})")
    }
}

/// Not a list of combinations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no way to log in: say `default`, or some of machine-key, smart-card, ssh-certificate, tls-certificate, key+code, key+password, password+code, token, key, with commas between"
)]
pub struct PolicyError(String);

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text == "default" {
            return Ok(Self::STRONG);
        }
        let named = |name: &str| {
            let found = Combination::ALL.into_iter().find(|combination| combination.name() == name.trim());
            found.ok_or_else(|| PolicyError(name.to_owned()))
        };
        text.split(',').map(named).collect()
    }
}

impl<C> Encode<C> for Policy {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        out.u16(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Policy {
    fn decode(from: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        from.u16().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_and_the_default_takes_no_key_alone() {
        let policy: Policy = "key+code, token".parse().unwrap();
        assert_eq!(policy.to_string(), "key+code,token");
        assert_eq!("default".parse(), Ok(Policy::STRONG));
        assert!(!Policy::STRONG.takes(Combination::Key) && Policy::OF_BEFORE.takes(Combination::Key));
        assert_eq!(Policy::STRONG.to_string().parse(), Ok(Policy::STRONG));
        assert_eq!(Policy::OF_BEFORE, Combination::ALL.into_iter().collect());
        for bad in ["", "password", "code", "key,", "key+code+password", "KEY"] {
            assert!(bad.parse::<Policy>().is_err(), "{bad}");
        }
        let bytes = minicbor::to_vec(Policy::STRONG).unwrap();
        assert_eq!(minicbor::decode::<Policy>(&bytes).unwrap(), Policy::STRONG);
    }
}
