//! Steps of proving who one is.

/// One step of proving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// A signature by a registered SSH key.
    SshKey,
    /// A signature by a registered key of a smart card (PIV), which asks its holder for a PIN.
    SmartCard,
    /// A TLS client certificate whose key is registered.
    TlsCertificate,
    /// An app token.
    AppToken,
    /// An OpenSSH user certificate of an authority of the customer's.
    SshCertificate,
    /// A password.
    Password,
    /// A one-time code by the clock.
    Totp,
    /// A recovery code.
    RecoveryCode,
}

impl Factor {
    /// As written in audit records.
    pub fn name(self) -> &'static str {
        match self {
            Self::SshKey => "ssh-key",
            Self::SmartCard => "smart-card",
            Self::TlsCertificate => "tls-certificate",
            Self::AppToken => "app-token",
            Self::SshCertificate => "ssh-certificate",
            Self::Password => "password",
            Self::Totp => "totp",
            Self::RecoveryCode => "recovery-code",
        }
    }
}
