//! Who a gateway is to its clients: host keys, certificate, configuration; found somewhere, or new.

use std::fs;
use std::path::{Component, Path};

use anyhow::Context;
use coffre_storage::keys::GatewayKey;
use toml::{Table, Value};
use zeroize::Zeroizing;

use crate::backup::secrets;
use crate::config::Config;
use crate::{setup, wiring};

/// A configuration and the files that it names.
#[derive(Debug)]
pub(super) struct Identity {
    text: String,
    host_keys: Vec<Zeroizing<Vec<u8>>>,
    certificate: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

/// The tables of a configuration text.
fn parse(text: &str) -> anyhow::Result<Table> {
    text.parse().context("the configuration is not readable")
}

fn host_key_count(table: &Table) -> usize {
    let files = table.get("sftp").and_then(|sftp| sftp.get("host_key_files"));
    files.and_then(Value::as_array).map_or(0, Vec::len)
}

impl Identity {
    /// From the files of a backup's configuration.
    pub(super) fn from_backup(directory: &Path, key: &GatewayKey) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let opened = |name: &str| {
            let sealed = read(name)?;
            secrets::open(key, name, &sealed).with_context(|| format!("{name} in the backup does not open"))
        };
        let text = String::from_utf8(read(secrets::CONFIGURATION)?)?;
        let table = parse(&text)?;
        let host_keys = (0..host_key_count(&table)).map(|number| opened(&secrets::host_key(number)));
        let host_keys = host_keys.collect::<anyhow::Result<_>>()?;
        let certificate = match table.get("webdav") {
            Some(_) => Some((read(secrets::CERTIFICATE)?, opened(secrets::TLS_KEY)?)),
            None => None,
        };
        Ok(Self { text, host_keys, certificate })
    }

    /// From a data directory whose store may be damaged.
    pub(super) fn from_data_directory(directory: &Path) -> anyhow::Result<Self> {
        let config = Config::load(&directory.join(crate::config::FILE_NAME))?;
        let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        let host_keys = config.sftp.iter().flat_map(|sftp| &sftp.host_key_files);
        let host_keys =
            host_keys.map(|path| read(path).map(Zeroizing::new)).collect::<anyhow::Result<_>>()?;
        let certificate = match &config.webdav {
            Some(webdav) => Some((read(&webdav.certificate_file)?, read(&webdav.key_file)?.into())),
            None => None,
        };
        Ok(Self { text: fs::read_to_string(&config.file)?, host_keys, certificate })
    }

    /// New host keys and a new certificate: clients have to be told.
    pub(super) fn fresh() -> anyhow::Result<Self> {
        let local = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let identity = crate::tls::self_signed()?;
        let key_pem = Zeroizing::new(identity.key_pem.as_bytes().to_vec());
        Ok(Self {
            text: setup::configuration(local(2022), local(8443)),
            host_keys: setup::fresh_host_keys()?
                .into_iter()
                .map(|key| key.as_bytes().to_vec().into())
                .collect(),
            certificate: Some((identity.certificate_pem.into_bytes(), key_pem)),
        })
    }

    /// Writes it into a new data directory, the configuration under a name that does not count yet. Paths that led out of
    /// the old directory lead into the new one; a gateway key that was kept elsewhere stays where `key_file` is.
    pub(super) fn settle(self, data: &Path, key_file: &Path, key: &GatewayKey) -> anyhow::Result<Config> {
        let mut table = parse(&self.text)?;
        let mut changed = table.remove("data").is_some();
        let key_place = table.get("gateway_key_file").and_then(Value::as_str).map(str::to_owned);
        if let Some(place) = key_place.filter(|place| is_inside(place)) {
            make_parent(data, &place)?;
            setup::private_file(&data.join(place), wiring::gateway_key_text(key).as_bytes())?;
        } else {
            let place = std::path::absolute(key_file)?;
            let place = place.to_str().context("the key file's path is no text")?;
            table.insert("gateway_key_file".to_owned(), place.into());
            changed = true;
        }
        if let Some(files) = table.get_mut("sftp").and_then(|sftp| sftp.get_mut("host_key_files")) {
            for (number, (place, bytes)) in
                files.as_array_mut().into_iter().flatten().zip(&self.host_keys).enumerate()
            {
                let place = placed(place, &format!("secrets/host_{number}"), &mut changed);
                make_parent(data, &place)?;
                let path = data.join(place);
                setup::private_file(&path, bytes)?;
                let private = russh::keys::decode_secret_key(std::str::from_utf8(bytes)?, None)?;
                let public = private.public_key().to_openssh()?;
                fs::write(path.with_extension("pub"), format!("{public}\n"))?;
            }
        }
        if let (Some(webdav), Some((certificate, private))) =
            (table.get_mut("webdav").and_then(Value::as_table_mut), &self.certificate)
        {
            for (field, otherwise, bytes) in [
                ("certificate_file", "tls.crt", certificate.as_slice()),
                ("key_file", "secrets/tls.key", private.as_slice()),
            ] {
                let Some(place) = webdav.get_mut(field) else { continue };
                let place = placed(place, otherwise, &mut changed);
                make_parent(data, &place)?;
                setup::private_file(&data.join(place), bytes)?;
            }
        }
        let text = if changed {
            format!("# Coffre's configuration. Relative paths start here.\n{}", toml::to_string(&table)?)
        } else {
            self.text
        };
        let pending = data.join("coffre.toml.new");
        setup::private_file(&pending, text.as_bytes())?;
        Ok(Config::load(&pending)?)
    }
}

/// Whether a path of a configuration lies below the configuration's own directory.
fn is_inside(place: &str) -> bool {
    Path::new(place).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn placed(place: &mut Value, otherwise: &str, changed: &mut bool) -> String {
    if let Some(inside) = place.as_str().filter(|place| is_inside(place)) {
        return inside.to_owned();
    }
    *place = otherwise.into();
    *changed = true;
    otherwise.to_owned()
}

fn make_parent(data: &Path, place: &str) -> anyhow::Result<()> {
    match data.join(place).parent() {
        Some(parent) => setup::private_directory(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_led_elsewhere_lead_into_the_new_directory_and_the_key_stays_outside() {
        let home = tempfile::tempdir().unwrap();
        let key = GatewayKey::generate().unwrap();
        let mut identity = Identity::fresh().unwrap();
        identity.text =
            "data = '/srv/x'\ngateway_key_file = '/etc/coffre/key'\n[sftp]\nlisten = '127.0.0.1:0'\n\
                         host_key_files = ['/etc/ssh/a', 'secrets/b']\n[webdav]\nlisten = '127.0.0.1:0'\n\
                         certificate_file = '../c'\nkey_file = 'secrets/d'\n"
                .to_owned();
        let key_file = home.path().join("key");
        let data = home.path().join("data");
        setup::private_directory(&data).unwrap();
        let config = identity.settle(&data, &key_file, &key).unwrap();
        assert_eq!((&config.data, &config.gateway_key_file), (&data, &key_file));
        let sftp = config.sftp.unwrap();
        assert_eq!(sftp.host_key_files, [data.join("secrets/host_0"), data.join("secrets/b")]);
        assert!(sftp.host_key_files.iter().all(|path| path.with_extension("pub").exists()));
        let webdav = config.webdav.unwrap();
        assert_eq!(webdav.certificate_file, data.join("tls.crt"));
        assert!(webdav.key_file == data.join("secrets/d") && webdav.key_file.exists());
    }

    #[test]
    fn a_configuration_of_init_is_kept_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let key = GatewayKey::generate().unwrap();
        let identity = Identity::fresh().unwrap();
        let text = identity.text.clone();
        let config = identity.settle(home.path(), Path::new("elsewhere"), &key).unwrap();
        assert_eq!(fs::read_to_string(&config.file).unwrap(), text);
        assert!(config.gateway_key_file.starts_with(home.path()) && config.gateway_key_file.exists());
    }
}
