//! What authentication costs a request: the header is decoded, the token verified, the session found. In this process, with
//! nothing else in it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffre::accounts::Accounts;
use coffre::admin::service::{Life, Service};
use coffre::admin::{Request, Scope};
use coffre::config::Config;
use coffre::{setup, webdav, wiring};
use coffre_tests::measure::{Plan, Samples, Side, Table, Target};
use http::{HeaderMap, HeaderValue, header};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

/// Users of the gateway: names are looked up among them.
const USERS: usize = 2000;
/// Of them, those whose tokens are in use.
const HOLDERS: usize = 200;
/// Authentications of one measurement.
const CALLS: usize = 100_000;
/// Where they come from.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Microseconds of CPU, by round.
pub(crate) fn run(plan: &Plan, table: &mut Table) -> Result<()> {
    let home = TempDir::with_prefix_in("auth.", &plan.work)?;
    let data = home.path().join("data");
    let anywhere = SocketAddr::new(SOURCE, 0);
    setup::init(&data, anywhere, anywhere)?;
    let config = Config::load(&data.join(coffre::config::FILE_NAME))?;
    let store = wiring::open_store(&config)?;
    let accounts = Accounts::load(store.clone())?;
    setup::demo(&data, &store, &accounts, config.upkeep)?;
    let service = Service::new(store.clone(), accounts.clone(), config.upkeep, Life::Served);
    let holders = holders(&service)?;
    let what = format!("authentication by app token, {USERS} users, {HOLDERS} tokens in use");
    let mut samples = Samples::new(what, "us of CPU", &[Target::Absolute(50.0)]);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for round in 0..plan.rounds {
        runtime.block_on(async {
            // The first request of each logs in, which is recorded durably; these are the others.
            for headers in &holders {
                authenticate(&accounts, headers).await?;
            }
            let before = cpu_micros();
            for headers in holders.iter().cycle().take(CALLS) {
                authenticate(&accounts, headers).await?;
            }
            #[expect(clippy::cast_precision_loss, reason = "thousands")]
            samples.add(Side::Coffre, (cpu_micros() - before) / CALLS as f64);
            anyhow::Ok(())
        })?;
        samples.tell(round);
    }
    table.add([samples]);
    drop((service, accounts));
    store.shutdown()?;
    Ok(())
}

/// Makes the users; the headers of those who have a token.
fn holders(service: &Service) -> Result<Vec<HeaderMap>> {
    let run = |request| service.execute(request, &mut |_, _| {}).map(|answer| answer.value);
    let mut holders = Vec::new();
    for number in 0..USERS {
        let user = format!("user-{number:05}");
        let full = format!("demo/{user}");
        run(Request::UserAdd { user: full.clone(), mounts: vec!["/=demo".into()] })?;
        if number % (USERS / HOLDERS) == 0 {
            let issued = run(Request::CredentialAddToken { user: full, scope: Scope::default() })?;
            let token = issued["token"].as_str().context("a token")?;
            let value = format!("Basic {}", STANDARD.encode(format!("{user}:{token}")));
            holders.push(HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(value)?)]));
        }
    }
    Ok(holders)
}

async fn authenticate(accounts: &Accounts, headers: &HeaderMap) -> Result<()> {
    let (user, token) = webdav::headers::basic(headers).context("credentials")?;
    accounts.request_session(&user, &token, SOURCE).await?;
    Ok(())
}

/// CPU that this thread has used.
fn cpu_micros() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "an hour of nanoseconds fits")]
    let micros = time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3;
    micros
}
