//! The memory of a process that holds keys: no core of it is written, and only root looks into it (prctl(2),
//! `PR_SET_DUMPABLE`). Every command begins with this, since some of them take passphrases.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on a crash leaves no core, and other processes of the same user neither trace this one nor read its memory.
///
/// # Errors
/// The system's.
pub fn forbid_dumps() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_holds_keys_leaves_no_core() {
        forbid_dumps().unwrap();
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
