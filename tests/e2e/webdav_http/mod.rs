//! HTTP and TLS below WebDAV: both versions, their bounds, what every answer carries, certificates.

mod bounds;
mod certificate;
mod floods;
mod testssl;
mod versions;

use anyhow::Result;
use coffre_tests::Gateway;
use serde_json::Value;

/// Audit records of one action.
fn records(gateway: &Gateway, action: &str) -> Result<Vec<Value>> {
    let told = gateway.coffre(&["--json", "audit", "tail", "-n", "1000"])?.text();
    let all = told.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|record| record["action"] == action).collect())
}

/// With a line in the section `[webdav]`.
fn with_setting(line: &str) -> Result<Gateway> {
    Gateway::start_configured(|text| text.replace("[webdav]\n", &format!("[webdav]\n{line}\n")))
}
