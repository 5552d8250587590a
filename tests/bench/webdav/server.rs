//! The servers that are measured: started on a free loopback port with a directory of their own, stopped when dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffre_tests::measure::programs::{Life, await_port, free_port, rclone_serve};
use coffre_tests::measure::{Programs, Served, Side};
use coffre_tests::{Gateway, run_ok};
use tempfile::TempDir;

/// The peers' user, and its password.
const BENCH: &str = "bench";
/// Modules of Apache that a WebDAV server over TLS with passwords needs; those that are built in have no file.
const MODULES: [&str; 11] = [
    "mpm_event",
    "unixd",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "auth_basic",
    "dav",
    "dav_fs",
    "socache_shmcb",
    "ssl",
];
/// Where Debian keeps them.
const MODULE_DIRECTORY: &str = "/usr/lib/apache2/modules";

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which one.
    pub(crate) side: Side,
    port: u16,
    user: String,
    password: String,
    certificate: PathBuf,
    life: Life,
    // Last: it is removed when everything has stopped.
    _home: TempDir,
}

/// Starts the sides of a measurement, each with nothing in it.
pub(crate) fn start_all(work: &Path, sides: &[Side]) -> Result<Vec<Server>> {
    // Apache's workers are not root, and reach what they serve.
    fs::set_permissions(work, fs::Permissions::from_mode(0o755))?;
    sides.iter().map(|side| Server::start(work, *side).with_context(|| format!("starting {side}"))).collect()
}

impl Server {
    fn start(work: &Path, side: Side) -> Result<Self> {
        let home = TempDir::with_prefix_in("server.", work)?;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
        match side {
            Side::Coffre => Self::coffre(home),
            Side::Plain => {
                let directory = home.path().join("plain");
                fs::create_dir(&directory)?;
                Self::apache(side, home, &directory, Programs::default())
            }
            Side::Gocryptfs => {
                let (programs, directory) = Programs::gocryptfs(home.path(), &["-allow_other"])?;
                Self::apache(side, home, &directory, programs)
            }
            Side::Rclone => Self::rclone(home),
        }
    }

    fn coffre(home: TempDir) -> Result<Self> {
        let gateway = Gateway::start_on(&home.path().join("data"), &home.path().join("server.log"))?;
        let port = gateway.webdav.trim_end_matches('/').rsplit(':').next().context("a port")?.parse()?;
        Ok(Self {
            side: Side::Coffre,
            port,
            user: gateway.user.clone(),
            password: gateway.token.clone(),
            certificate: gateway.ca_file.clone(),
            life: Life::Gateway(Box::new(gateway)),
            _home: home,
        })
    }

    /// An Apache with the modules that it needs and no other, its limits lifted.
    fn apache(side: Side, home: TempDir, directory: &Path, mut programs: Programs) -> Result<Self> {
        let port = free_port()?;
        let (certificate, key) = identity(home.path())?;
        let at = |name: &str| home.path().join(name).display().to_string();
        // The cheapest hash: a login costs the peer as little as it costs us.
        let hash = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, BENCH.as_bytes()));
        fs::write(at("htpasswd"), format!("{BENCH}:{{SHA}}{hash}\n"))?;
        let (served, state) = (directory.join("dav"), home.path().join("state"));
        for writable in [&served, &state] {
            fs::create_dir(writable)?;
            fs::set_permissions(writable, fs::Permissions::from_mode(0o777))?;
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        let loaded = MODULES.iter().filter_map(|module| {
            let file = Path::new(MODULE_DIRECTORY).join(format!("mod_{module}.so"));
            file.exists().then(|| format!("LoadModule {module}_module {}\n", file.display()))
        });
        let (served, state) = (served.display(), state.display());
        let rest = format!(
            "ServerName 127.0.0.1\nListen 127.0.0.1:{port}\nUser www-data\nGroup www-data\n\
             PidFile {}\nErrorLog {}\nDavLockDB {state}/locks\nDocumentRoot {served}\n\
             SSLEngine on\nSSLCertificateFile {}\nSSLCertificateKeyFile {}\nSSLSessionCache none\n\
             KeepAlive on\nMaxKeepAliveRequests 0\nLimitRequestBody 0\n\
             <Directory {served}>\nDav on\nAuthType Basic\nAuthName bench\nAuthBasicProvider file\n\
             AuthUserFile {}\nRequire valid-user\n</Directory>\n",
            at("pid"),
            at("error.log"),
            certificate.display(),
            key.display(),
            at("htpasswd"),
        );
        let configuration = at("apache.conf");
        fs::write(&configuration, loaded.chain([rest]).collect::<String>())?;
        let mut program = Command::new("/usr/sbin/apache2");
        program.args(["-f", &configuration, "-DFOREGROUND", "-k", "start"]);
        programs.start(&mut program, &home.path().join("apache.log"))?;
        let peer = Self::peer(side, port, certificate, programs, home);
        await_port(port)?;
        Ok(peer)
    }

    fn rclone(home: TempDir) -> Result<Self> {
        let port = free_port()?;
        let (certificate, key) = identity(home.path())?;
        let mut program = rclone_serve("webdav", home.path(), port)?;
        program.args(["--user", BENCH, "--pass", BENCH]);
        program.arg("--cert").arg(&certificate).arg("--key").arg(&key);
        let mut programs = Programs::default();
        programs.start(&mut program, &home.path().join("rclone.log"))?;
        let server = Self::peer(Side::Rclone, port, certificate, programs, home);
        await_port(port)?;
        Ok(server)
    }

    fn peer(side: Side, port: u16, certificate: PathBuf, programs: Programs, home: TempDir) -> Self {
        Self {
            side,
            port,
            user: BENCH.to_owned(),
            password: BENCH.to_owned(),
            certificate,
            life: Life::Programs(programs),
            _home: home,
        }
    }

    /// Where a path is; it begins without a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.port)
    }

    /// The value of `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }

    /// A curl that fails where the server refuses.
    pub(crate) fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(["--disable", "--silent", "--show-error", "--fail", "--http1.1", "--tlsv1.3"]);
        command.arg("--user").arg(format!("{}:{}", self.user, self.password));
        command.arg("--cacert").arg(&self.certificate);
        command
    }

    /// A curl that reads what to do from its standard input, eight at a time.
    pub(crate) fn curl_parallel(&self) -> Command {
        let mut command = self.curl();
        command.args(["--parallel", "--parallel-max", "8", "--config", "-"]);
        command
    }

    /// Makes a directory.
    pub(crate) fn make_directory(&self, name: &str) -> Result<()> {
        let url = self.url(&format!("{name}/"));
        run_ok(self.curl().args(["--output", "/dev/null", "--request", "MKCOL", &url]))?;
        Ok(())
    }

    /// An rclone whose remote is `bench:`.
    pub(crate) fn rclone_client(&self) -> Result<Command> {
        let obscured = run_ok(Command::new("rclone").args(["obscure", &self.password]))?.text();
        let mut command = Command::new("rclone");
        command
            .args(["--config", "/dev/null", "--disable-http2", "--ca-cert"])
            .arg(&self.certificate)
            .env("RCLONE_CONFIG_BENCH_TYPE", "webdav")
            .env("RCLONE_CONFIG_BENCH_URL", self.url(""))
            .env("RCLONE_CONFIG_BENCH_VENDOR", "other")
            .env("RCLONE_CONFIG_BENCH_USER", &self.user)
            .env("RCLONE_CONFIG_BENCH_PASS", obscured.trim());
        Ok(command)
    }
}

/// A certificate for loopback and its key, of the same kind as Coffre's own.
fn identity(home: &Path) -> Result<(PathBuf, PathBuf)> {
    let made = coffre::tls::self_signed()?;
    let (certificate, key) = (home.join("tls.crt"), home.join("tls.key"));
    fs::write(&certificate, made.certificate_pem)?;
    fs::write(&key, made.key_pem.as_bytes())?;
    Ok((certificate, key))
}

impl Served for Server {
    fn side(&self) -> Side {
        self.side
    }

    fn processes(&self) -> Vec<u32> {
        self.life.processes()
    }
}
