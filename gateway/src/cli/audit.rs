//! The words of `coffre audit`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::admin::Request;
use crate::admin::audit::{Details, Given, Place, Query};
use crate::limits::AUDIT_PAGE_RECORDS_MAX;
use crate::units::parse_moment;

/// The audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// The newest records.
    Tail {
        /// How many.
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
        lines: u32,
    },
    /// Search records: those that are everything that is asked for, oldest first.
    Search(SearchArguments),
    /// Prove to a stranger that a record is in the signed log, or that nothing was rewritten since a checkpoint.
    Prove {
        /// The record's number.
        #[arg(required_unless_present = "since", conflicts_with = "since")]
        number: Option<u64>,
        /// In the log of this customer instead of the whole one.
        #[arg(long, value_name = "CUSTOMER", conflicts_with = "since")]
        customer: Option<String>,
        /// A signed checkpoint that was kept elsewhere: prove that the newest one goes on from it.
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
        /// Write the proof to this new file instead of showing it.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Write a customer's part of the log for its auditor: a new directory that verifies by itself.
    Export {
        /// Whose.
        #[arg(long, value_name = "CUSTOMER")]
        customer: String,
        /// Leave names sealed.
        #[arg(long)]
        sealed: bool,
        /// The new directory.
        directory: PathBuf,
    },
    /// What a credential touched: accounts, files, bytes, times, for a notice about a breach.
    Dossier {
        /// Which, as shown by `credential list` or a record.
        #[arg(long, value_name = "ID")]
        credential: String,
        /// From this time on (RFC 3339, or a date); without it from the first record on.
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        from: Option<i64>,
        /// Until before this time; without it until now.
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        to: Option<i64>,
    },
    /// Verify records and signed checkpoints, of the store or of a copy.
    Verify {
        /// A store directory or a copy of one, what `audit export` wrote, or a proof, read offline; without it the log of the
        /// data directory.
        directory: Option<PathBuf>,
        /// A signed checkpoint that was kept elsewhere: the log must hold exactly what it was signed over.
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// The key that verifies (`checkpoint.pub`), kept elsewhere, instead of the one beside a copy.
        #[arg(long, value_name = "FILE", requires = "directory")]
        verifier: Option<PathBuf>,
    },
}

/// What is searched.
#[derive(Debug, Args)]
pub struct SearchArguments {
    /// Of this user: `CUSTOMER/USER`, or an identifier; or of `operator`, `system`, `unknown`.
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// By this credential, as shown by `credential list`.
    #[arg(long, value_name = "ID")]
    pub credential: Option<String>,
    /// On this path, as its user sees it, or below it. Paths of locked vaults are not found.
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// From this time on (RFC 3339, or a date).
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub from: Option<i64>,
    /// Until before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub to: Option<i64>,
    /// This action, such as `file-read`; several times: one of them.
    #[arg(long = "action", value_name = "ACTION")]
    pub actions: Vec<String>,
    /// `done`, `refused` or `failed`.
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// `sftp`, `webdav` or `local`.
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// Of this customer.
    #[arg(long, value_name = "CUSTOMER")]
    pub customer: Option<String>,
    /// In this session.
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// The newest first.
    #[arg(long)]
    pub newest: bool,
    /// So many at most.
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 1000)]
    pub lines: u64,
}

impl SearchArguments {
    /// The query, its first page, and how many records are wanted in all.
    pub fn into_parts(self) -> (Query, Place, u64) {
        let Self { newest, lines, .. } = self;
        let query = Query {
            user: self.user,
            credential: self.credential,
            path: self.path,
            from: self.from,
            to: self.to,
            actions: self.actions,
            outcome: self.outcome,
            protocol: self.protocol,
            customer: self.customer,
            session: self.session,
        };
        let records_max = lines.min(AUDIT_PAGE_RECORDS_MAX as u64);
        (query, Place { newest_first: newest, records_max, ..Place::default() }, lines)
    }
}

impl AuditCommand {
    /// Where a proof goes.
    pub fn proof_file(&self) -> Option<&Path> {
        if let Self::Prove { to, .. } = self { to.as_deref() } else { None }
    }

    /// The request to the admin service; nothing for what needs none, or several.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn into_request(self) -> anyhow::Result<Option<Request>> {
        Ok(match self {
            Self::Tail { lines } => Some(Request::AuditTail { lines }),
            Self::Prove { since: Some(file), .. } => {
                let old = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                Some(Request::AuditProveSince { old })
            }
            Self::Prove { number: Some(number), customer, .. } => {
                Some(Request::AuditProve { number, customer })
            }
            Self::Export { customer, sealed, directory } => {
                let details = if sealed { Details::Sealed } else { Details::Opened };
                let directory = std::path::absolute(directory)?;
                Some(Request::AuditExportCustomer { customer, directory, details })
            }
            Self::Dossier { credential, from, to } => Some(Request::AuditDossier { credential, from, to }),
            Self::Verify { directory: None, checkpoints, verifier: _ } => {
                let kept = Given { checkpoints, verifier: None }.notes()?;
                Some(Request::AuditVerify { kept })
            }
            Self::Prove { number: None, since: None, .. }
            | Self::Verify { directory: Some(_), .. }
            | Self::Search(_) => None,
        })
    }
}
