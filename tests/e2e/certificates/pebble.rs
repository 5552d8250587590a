//! An ACME directory of a test's own: Debian's pebble, with a resolver that knows every name as loopback.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use coffre_tests::{run_ok, until};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair};

/// Seconds in which it must listen.
const START_SECS_MAX: u64 = 30;

/// Ports at an address of its own.
const DIRECTORY_PORT: u16 = 14_000;
const CONTROL_PORT: u16 = 15_000;
const RESOLVER_PORT: u16 = 8053;
const RESOLVER_CONTROL_PORT: u16 = 8055;

/// A loopback address that no other test of this run has: a port must be known here before it is listened at.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(10);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, COUNT.fetch_add(1, Ordering::Relaxed), high, low.max(1))
}

/// Where a directory will be, before it is there.
pub(super) struct Place {
    home: PathBuf,
    address: Ipv4Addr,
}

/// A directory that runs; gone when dropped.
pub(super) struct Pebble {
    children: Vec<Child>,
}

impl Place {
    /// Its root, and the certificate that it is reached with.
    pub(super) fn new(home: &Path) -> Result<Self> {
        let home = home.join("pebble");
        fs::create_dir_all(&home)?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let root = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);
        let (key, address) = (KeyPair::generate()?, own_address());
        // Not the issuer's name: that would be a certificate that signs itself.
        let mut own = CertificateParams::new(vec![address.to_string()])?;
        own.distinguished_name = DistinguishedName::new();
        let own = own.signed_by(&key, &issuer)?;
        fs::write(home.join("root.pem"), root.pem())?;
        fs::write(home.join("own.pem"), own.pem())?;
        fs::write(home.join("own.key"), key.serialize_pem())?;
        Ok(Self { home, address })
    }

    /// `[webdav.acme]` of a gateway that orders here.
    pub(super) fn section(&self, domains: &[&str]) -> String {
        format!(
            "\n[webdav.acme]\ndomains = {domains:?}\ncontact = ['mailto:admin@example.org']\n\
             directory = 'https://{}:{DIRECTORY_PORT}/dir'\nca_file = '{}'\n",
            self.address,
            self.home.join("root.pem").display()
        )
    }

    /// Starts it: it looks for proofs at this port, and its certificates live so long.
    pub(super) fn open(&self, proofs_at: &str, life_secs: u64) -> Result<Pebble> {
        let at = |port: u16| format!("{}:{port}", self.address);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": at(DIRECTORY_PORT),
            "managementListenAddress": at(CONTROL_PORT),
            "certificate": self.home.join("own.pem"), "privateKey": self.home.join("own.key"),
            "httpPort": 1, "tlsPort": proofs_at.parse::<u16>()?, "ocspResponderURL": "",
            "externalAccountBindingRequired": false, "certificateValidityPeriod": life_secs,
        }});
        let file = self.home.join("pebble.json");
        fs::write(&file, config.to_string())?;
        let log = |name: &str| fs::File::create(self.home.join(name));
        let resolver = Command::new("pebble-challtestsrv")
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .args(["-defaultIPv4", "127.0.0.1", "-dns01", &at(RESOLVER_PORT)])
            .args(["-management", &at(RESOLVER_CONTROL_PORT)])
            .stdin(Stdio::null())
            .stdout(log("resolver.log")?)
            .stderr(log("resolver.err")?)
            .spawn()
            .context("pebble-challtestsrv")?;
        let mut pebble = Pebble { children: vec![resolver] };
        let directory = Command::new("pebble")
            .arg("-config")
            .arg(&file)
            .args(["-dnsserver", &at(RESOLVER_PORT), "-strict"])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdin(Stdio::null())
            .stdout(log("pebble.log")?)
            .stderr(log("pebble.err")?)
            .spawn()
            .context("pebble")?;
        pebble.children.push(directory);
        until("pebble", START_SECS_MAX, || Ok(TcpStream::connect((self.address, DIRECTORY_PORT)).is_ok()))?;
        Ok(pebble)
    }

    /// Writes down the root that what it issues is trusted by.
    pub(super) fn issuing_root(&self) -> Result<PathBuf> {
        let root = self.home.join("issuing.pem");
        run_ok(
            Command::new("curl")
                .args(["--silent", "--fail", "--cacert"])
                .arg(self.home.join("root.pem"))
                .arg("--output")
                .arg(&root)
                .arg(format!("https://{}:{CONTROL_PORT}/roots/0", self.address)),
        )?;
        Ok(root)
    }

    /// How often it issued a certificate.
    pub(super) fn issued(&self) -> Result<usize> {
        Ok(fs::read_to_string(self.home.join("pebble.log"))?.matches("Issued certificate").count())
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
