//! How much room a place has: the tightest of the customer's limits, the vault's, and the disk.

use coffre_storage::quota::QuotaState;

use super::{FileRoom, SpaceState};

/// One limit's view: what counts against it, and what it leaves.
#[derive(Clone, Copy)]
struct Room {
    used: u64,
    free: u64,
    total: u64,
}

impl Room {
    fn of(max: Option<u64>, used: u64, free: Option<u64>) -> Option<Self> {
        // More may be used than is allowed, where the limit was lowered.
        Some(Self { used, free: free?, total: max?.max(used) })
    }
}

fn tightest(rooms: impl IntoIterator<Item = Option<Room>>) -> Option<Room> {
    rooms.into_iter().flatten().min_by_key(|room| room.free)
}

/// The room of a place in a vault, or (without one) of the customer.
pub(super) fn state(customer: &QuotaState, vault: Option<&QuotaState>, disk_free_bytes: u64) -> SpaceState {
    let used = vault.unwrap_or(customer).used.bytes;
    let disk = Room { used, free: disk_free_bytes, total: used.saturating_add(disk_free_bytes) };
    let bytes =
        |state: &QuotaState| Room::of(state.allowance.bytes_max, state.used.bytes, state.bytes_free());
    let stored =
        |state: &QuotaState| Room::of(state.allowance.stored_max, state.used.stored, state.stored_free());
    let files =
        |state: &QuotaState| Room::of(state.allowance.files_max, state.used.files, state.files_free());
    let room = tightest([Some(bytes(customer)), vault.map(bytes), vault.map(stored)].into_iter().flatten());
    // The disk is what limits only where it has less than every limit leaves.
    let room = room.filter(|room| room.free <= disk.free).unwrap_or(disk);
    let files = tightest([Some(files(customer)), vault.map(files)].into_iter().flatten());
    SpaceState {
        total_bytes: room.total,
        free_bytes: room.free,
        used_bytes: room.used,
        files: files.map(|room| FileRoom { total: room.total, free: room.free }),
    }
}

#[cfg(test)]
mod tests {
    use coffre_storage::allowance::{Allowance, Amounts};

    use super::*;

    fn quota(used: Amounts, allowance: Allowance) -> QuotaState {
        QuotaState { used, reserved: Amounts::default(), allowance }
    }

    #[test]
    fn the_tightest_of_customer_vault_and_disk_is_told() {
        let customer = quota(
            Amounts { bytes: 700, files: 70, stored: 0 },
            Allowance { bytes_max: Some(1000), files_max: Some(100), stored_max: None },
        );
        let mut vault = quota(Amounts { bytes: 500, files: 50, stored: 600 }, Allowance::default());
        let told = |vault: &QuotaState, disk| {
            let space = state(&customer, Some(vault), disk);
            (space.total_bytes, space.free_bytes, space.used_bytes, space.files.map(|files| files.free))
        };
        assert_eq!(told(&vault, 5000), (1000, 300, 700, Some(30)));
        assert_eq!(told(&vault, 200), (700, 200, 500, Some(30)));
        vault.allowance.bytes_max = Some(600);
        vault.allowance.files_max = Some(55);
        assert_eq!(told(&vault, 5000), (600, 100, 500, Some(5)));
        vault.allowance.stored_max = Some(650);
        assert_eq!(told(&vault, 5000), (650, 50, 600, Some(5)));
        vault.allowance.stored_max = Some(10);
        assert_eq!(told(&vault, 5000), (600, 0, 600, Some(5)));
        let free = quota(Amounts { bytes: 10, ..Amounts::default() }, Allowance::default());
        assert_eq!(
            state(&free, None, 90),
            SpaceState { total_bytes: 100, free_bytes: 90, used_bytes: 10, files: None }
        );
    }
}
