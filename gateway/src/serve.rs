//! The life of a server: open the store, listen, serve, drain, shut down.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use coffre_storage::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::admin::listener;
use crate::admin::service::{Life, Service};
use crate::config::Config;
use crate::limits::{BLOCKING_THREADS_MAX, FAREWELL_SECS_MAX};
use crate::maintenance::Maintenance;
use crate::reload::{self, Reload};
use crate::scrub::Scrubbing;
use crate::ssh::{self, SshOptions};
use crate::tls::acme::Acme;
use crate::tls::certificate::Certificates;
use crate::tls::watch::CertificateWatch;
use crate::vfs::Vfs;
use crate::webdav::settings::{Live, Settings};
use crate::webdav::{self, WebdavOptions};
use crate::witness::Witnessing;
use crate::{setup, tls, wiring};

/// How often sessions of what has expired are ended.
const SWEEP: Duration = Duration::from_millis(500);

/// Called once everything listens, with the addresses; what it returns is printed.
type Ready<'a> = dyn FnOnce(&Store, &Accounts, Option<SocketAddr>, Option<SocketAddr>) -> anyhow::Result<Option<String>>
    + 'a;

/// Serves a configuration until SIGTERM or SIGINT.
///
/// # Errors
/// What stops a server from starting; a store that could not shut down cleanly.
pub fn run(config: &Config) -> anyhow::Result<()> {
    run_with(config, Box::new(|_, _, _, _| Ok(None)))
}

/// Makes the demo if it is missing, then serves it.
///
/// # Errors
/// As [`run`].
pub fn quickstart(data: &Path, sftp: SocketAddr, webdav: SocketAddr, json: bool) -> anyhow::Result<()> {
    if !data.join(crate::config::FILE_NAME).exists() {
        setup::init(data, sftp, webdav)?;
    }
    let mut config = Config::load(&data.join(crate::config::FILE_NAME))?;
    if let Some(section) = &mut config.sftp {
        section.listen = sftp;
    }
    if let Some(section) = &mut config.webdav {
        section.listen = webdav;
    }
    let upkeep = config.upkeep;
    run_with(
        &config,
        Box::new(|store, accounts, sftp, webdav| {
            let demo = setup::demo(data, store, accounts, upkeep)?;
            let (sftp, webdav) =
                (sftp.context("[sftp] is not configured")?, webdav.context("[webdav] is not configured")?);
            setup::announcement(data, &demo, sftp, webdav, json).map(Some)
        }),
    )
}

fn run_with(config: &Config, ready: Box<Ready<'_>>) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    wiring::compare_with_witness(config)?;
    let store = wiring::open_store(config)?;
    let accounts = Accounts::load(store.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let served = runtime.block_on(serve(config, &store, &accounts, ready));
    // What broken connections left is committed on the pool: let it end before the store does.
    drop(runtime);
    drop(accounts);
    store.shutdown().context("shutting the store down")?;
    served
}

#[expect(clippy::too_many_lines, reason = "the life of a server in its order")]
async fn serve(
    config: &Config,
    store: &Store,
    accounts: &Accounts,
    ready: Box<Ready<'_>>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (drain, vfs) = (CancellationToken::new(), Vfs::new(store.clone()));
    let mut reloading = Reload {
        file: config.file.clone(),
        store: store.clone(),
        accounts: accounts.clone(),
        webdav: None,
        acme: None,
    };
    let mut tasks = JoinSet::new();
    let (mut sftp, mut webdav) = (None, None);
    accounts.set_shares(reload::shares(config));
    let admin = listener::bind(&config.data).context("the admin socket")?;
    if let Some(section) = &config.sftp {
        let host_keys = section
            .host_key_files
            .iter()
            .map(|path| {
                russh::keys::load_secret_key(path, None)
                    .with_context(|| format!("host key {}", path.display()))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let options = SshOptions {
            host_keys,
            login_grace_secs: section.login_grace_secs,
            connections_max: section.connections_max,
            proxy_from: section.proxy_from.clone(),
            keepalive: config.session_bounds.keepalive,
            idle: config.session_bounds.idle,
        };
        let listener = TcpListener::bind(section.listen)
            .await
            .with_context(|| format!("listening on {}", section.listen))?;
        sftp = Some(listener.local_addr()?);
        tasks.spawn(ssh::serve(listener, Arc::new(options), accounts.clone(), vfs.clone(), drain.clone()));
    }
    if let Some(section) = &config.webdav {
        let files = reload::certificate_files(section);
        let certificates = Arc::new(Certificates::new(reload::first_certificate(section)?));
        let settings = Live::new(Settings::of(section));
        let watch = CertificateWatch::start(store.clone(), Arc::clone(&certificates), files)?;
        if let Some((section, taken)) = section.acme.as_ref().zip(watch.taking()) {
            let subscription = reload::subscription(section);
            let acme = Acme::start(store.clone(), Arc::clone(&certificates), subscription, taken)
                .with_context(|| format!("the ACME cache {}", section.cache.display()))?;
            reloading.acme = Some(acme);
        }
        reloading.webdav = Some((settings.clone(), watch));
        let known = accounts.clone();
        let wanted = Arc::new(move || known.takes_client_certificates());
        let options = WebdavOptions {
            tls: tls::server_config(Arc::clone(&certificates), section.acme.is_some(), wanted)?,
            certificates,
            settings,
            connections_max: section.connections_max,
            proxy_from: section.proxy_from.clone(),
        };
        let listener = TcpListener::bind(section.listen)
            .await
            .with_context(|| format!("listening on {}", section.listen))?;
        webdav = Some(listener.local_addr()?);
        tasks.spawn(webdav::serve(listener, Arc::new(options), accounts.clone(), vfs.clone(), drain.clone()));
    }
    let service = Service::new(store.clone(), accounts.clone(), config.upkeep, Life::Served)
        .until(drain.clone())
        .with_backups(config.clone());
    let admin = tokio::spawn(listener::serve(admin, service, drain.clone()));
    let said = tokio::task::block_in_place(|| ready(store, accounts, sftp, webdav))?;
    if let Some(text) = said {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
    }
    tracing::info!(sftp = ?sftp, webdav = ?webdav, "serving");
    let witnessing = Witnessing::start(store.clone(), &config.audit)?;
    let maintenance = Maintenance::start(store.clone(), config.upkeep)?;
    let scrubbing = Scrubbing::start(store.clone(), config.upkeep.scrub_secs)?;

    let mut sweep = tokio::time::interval(SWEEP);
    let failed = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hangup.recv() => tokio::task::block_in_place(|| reloading.run()),
            _ = sweep.tick() => accounts.sweep(),
            Some(ended) = tasks.join_next() => break Some(ended),
        }
    };
    tracing::info!("draining");
    drain.cancel();
    // Transfers under way may end; a second signal ends them.
    let grace = tokio::time::sleep(config.session_bounds.drain);
    tokio::pin!(grace);
    loop {
        tokio::select! {
            ended = tasks.join_next() => if ended.is_none() { break },
            () = &mut grace => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = sweep.tick() => accounts.sweep(),
        }
    }
    accounts.end_all_sessions();
    tokio::task::block_in_place(|| drop((maintenance, scrubbing, reloading)));
    let farewell = tokio::time::timeout(Duration::from_secs(FAREWELL_SECS_MAX), async {
        while tasks.join_next().await.is_some() {}
    });
    if farewell.await.is_err() {
        tracing::warn!("connections did not end in time");
    }
    // What is left has no connection of its own: its last request was its end.
    let left = accounts.clone();
    drop(tokio::task::spawn_blocking(move || left.close_all_sessions()).await);
    // The sessions' ends are signed and witnessed too.
    tokio::task::block_in_place(|| drop(witnessing));
    admin.abort();
    drop(std::fs::remove_file(listener::socket_path(&config.data)));
    match failed {
        Some(ended) => ended.context("a listener")?.context("a listener ended"),
        None => Ok(()),
    }
}
