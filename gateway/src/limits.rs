//! Every bound of the gateway: its name, its unit, its reason.

// ---- accounts and admin ----

/// Bytes of one request line on the admin socket: a key file fits many times over.
pub const ADMIN_REQUEST_BYTES_MAX: u64 = 256 * 1024;
/// Lines that one `audit tail` gives: what a terminal can show and memory can hold.
pub const AUDIT_TAIL_LINES_MAX: u32 = 100_000;
/// Records of one page of a search in the audit log: each is about 600 bytes of JSON, both ends hold a page in memory.
pub const AUDIT_PAGE_RECORDS_MAX: usize = 10_000;
/// Bytes of a record's line of JSON that is compared with the record: the largest record, each byte of which may take six.
pub const AUDIT_LINE_BYTES_MAX: u64 = 256 * 1024;
/// Paths that one dossier of a credential lists: each about 300 bytes of JSON, held in memory at both ends. More are counted.
pub const DOSSIER_FILES_MAX: usize = 200_000;
/// Seconds after which new checkpoints are taken to the witness.
pub const WITNESS_LOOK_SECS: u64 = 1;
/// Seconds between two tries to reach a witness that did not answer: at first, and at most.
pub const WITNESS_RETRY_SECS: (u64, u64) = (1, 60);
/// Seconds that one step of a connection of our own to somebody else may take.
pub const OUTBOUND_SECS_MAX: u64 = 10;
/// Bytes of the first line of an HTTP answer that we asked for.
pub const STATUS_LINE_BYTES_MAX: u64 = 1024;
/// Findings of a check that are told one by one: more are counted.
pub const FINDINGS_SHOWN_MAX: usize = 1000;
/// Seconds a connection may take to log in, unless configured.
pub const LOGIN_GRACE_SECS: u64 = 30;
/// Connections of one listener, unless configured.
pub const CONNECTIONS_MAX: usize = 1024;
/// Seconds that connections have to say good-bye once their sessions were ended.
pub const FAREWELL_SECS_MAX: u64 = 10;

// ---- lines ----

/// Seconds in which a balancer must have sent its header: it sends it first of all.
pub const PROXY_SECS_MAX: u64 = 5;
/// Bytes of a header of version 1, as the protocol has it.
pub const PROXY_LINE_BYTES_MAX: usize = 107;
/// Bytes behind the length of a header of version 2: addresses of any kind, and what balancers add.
pub const PROXY_BYTES_MAX: usize = 2048;
/// Time of waiting for a peer in which it must move [`LEAST_BYTES`]: long enough for a mobile network that was gone for a minute.
pub const LEAST_WINDOW: std::time::Duration = std::time::Duration::from_secs(120);
/// Bytes that a peer must move in such a window: 100 a second, a tenth of the slowest modem that anybody remembers.
pub const LEAST_BYTES: u64 = 12_000;
/// How long a line that was still may be quicker than its pace.
pub const PACE_BURST: std::time::Duration = std::time::Duration::from_millis(200);
/// Sessions of a user, unless configured: mounts and programs of a busy machine.
pub const USER_SESSIONS_MAX: usize = 512;
/// Sessions of a customer, unless configured: no customer has all of a listener's connections.
pub const CUSTOMER_SESSIONS_MAX: usize = 768;
/// Bytes of a file that are read or written so quickly (or have so little to wait for) that it is done in place.
pub const BRIEF_BYTES_MAX: u64 = 64 * 1024;
/// Threads for blocking storage calls: more would only wait for the same disk.
pub const BLOCKING_THREADS_MAX: usize = 32;

/// Hundredths of a pack that are still referred to, below which it is emptied: moving half of it frees the other half.
pub const RECLAIM_LIVE_PERCENT: u64 = 50;
/// Milliseconds that reclaim rests after each step, so that clients come first.
pub const RECLAIM_REST_MILLIS: u64 = 20;

/// Seconds after which the session of WebDAV requests that stopped coming ends.
pub const REQUEST_SESSION_IDLE_SECS: i64 = 300;
/// Bytes of an offered user name that are kept for a record: the longest valid name twice, and a slash.
pub const OFFERED_NAME_BYTES_MAX: usize = 130;

/// Bytes a second that the scrub reads at most: a disk of today hardly notices.
pub const SCRUB_RATE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes a second that it reads at least: a small store is read in minutes, then it rests.
pub const SCRUB_RATE_BYTES_MIN: u64 = 64 * 1024;
/// Seconds that it rests at a time between two passes, or after an error: so long it takes to notice a changed amount.
pub const SCRUB_REST_SECS: u64 = 60;

/// Authorities whose certificates a customer takes: each is tried at a login.
pub const AUTHORITIES_MAX: usize = 32;
/// Revocations of one authority: 100 bytes each in memory. With certificates of a day, more mean that the authority is lost.
pub const REVOCATIONS_MAX: usize = 100_000;
/// Seconds that an authority may be allowed to make certificates valid for: a year, as for tokens.
pub const AUTHORITY_LIFE_SECS_MAX: u64 = 366 * 86_400;

// ---- backup ----

/// Bytes of a backup copied at a time.
pub const BACKUP_PIECE_BYTES: usize = 1024 * 1024;
/// Packs after the newest export's base from which on a backup writes another: restoring reads the journal of all of them.
pub const BACKUP_JOURNAL_PACKS_MAX: u64 = 8;
/// Bytes tried one by one where a disk does not read: a block of a pack.
pub const RECOVER_BLOCK_BYTES: usize = 4096;
/// How often packs are listed anew when one is given up meanwhile; after the first time they are held.
pub const BACKUP_LISTINGS_MAX: u32 = 8;
/// Bytes of a manifest: 100 for each file, of which there are four for a gigabyte.
pub const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

// ---- export ----

/// Bytes of a file read at once by an export: a disk's and a cipher's stride.
pub const EXPORT_PIECE_BYTES: u64 = 1024 * 1024;
/// Pieces that an export reads ahead of what it writes: bounds its memory, and hides the slower of the two.
pub const EXPORT_AHEAD_PIECES: usize = 8;
/// Bytes after which an export makes durable what it has written: what an interrupted one writes again.
pub const EXPORT_STEP_BYTES: u64 = 64 * 1024 * 1024;
/// Files after which it does so.
pub const EXPORT_STEP_LINES: usize = 1024;
/// Names of a directory asked for at a time by an export: each level of the tree on the way down holds as many.
pub const EXPORT_LISTING_PIECE: usize = 128;
/// Seconds that the moment of an interrupted export is kept, so that it can be continued.
pub const EXPORT_KEPT_SECS: i64 = 30 * 86_400;
/// Files that an export or its verification names in its answer; all of them are counted.
pub const EXPORT_NAMED_MAX: usize = 1000;
/// Bytes of a path that the record of an export's read keeps, the last ones: a record has 32 KiB.
pub const EXPORT_RECORD_PATH_BYTES_MAX: usize = 16 * 1024;

// ---- vfs ----

/// Symbolic links followed in one path: what POSIX hosts allow, and the end of circles.
pub const LINK_DEPTH_MAX: usize = 40;
/// Files within their append-only grace time that are remembered: about 100 bytes each.
pub const FRESH_FILES_MAX: usize = 100_000;
/// Seconds in which an append-only credential may finish what it made: one night's job.
pub const FRESH_GRACE_SECS: i64 = 24 * 3600;
/// Bytes that the disk is asked for ahead of a reader that goes on where it stopped: what it takes to read in large pieces,
/// and all that is lost when the reader stops.
pub const READ_AHEAD_BYTES: u64 = 2 * 1024 * 1024;
/// Bytes copied at a time between two vaults.
pub const COPY_PIECE_BYTES: usize = 1024 * 1024;

/// Files being hashed at once: others who want to wait their turn, so that transfers have the rest of the machine.
pub const HASHING_MAX: usize = 2;
/// Bytes of a file read and hashed at a time.
pub const HASH_PIECE_BYTES: usize = 1024 * 1024;
/// Pieces of one turn: some 10 ms, so that a small file does not wait long behind a huge one.
pub const HASH_TURN_PIECES: usize = 4;

/// Whole hours that a listing of `/.snapshots` shows: a day's.
pub const SNAPSHOT_HOURS: i64 = 24;
/// Midnights that a listing of `/.snapshots` shows at most: ten years and a leap day or two; older ones are still found by
/// their names.
pub const SNAPSHOT_DAYS_MAX: i64 = 3653;

// ---- ssh and sftp ----

/// Connections that have not logged in: a login takes milliseconds, so this many at once is an attack or a thundering herd.
pub const UNAUTHENTICATED_MAX: usize = 300;
/// From here on some new connections are dropped at random, more the more there are, so that a flood does not lock out
/// everybody.
pub const UNAUTHENTICATED_SOFT: usize = 100;
/// Failed attempts of one connection.
pub const AUTH_ATTEMPTS_MAX: usize = 10;
/// Session channels of one connection.
pub const CHANNELS_MAX: usize = 10;
/// Channels that a connection left behind, closed by the server first, after which it ends between two commands: russh keeps
/// 4 KiB of each as long as the connection lives.
pub const CHANNELS_LEFT_SOFT: usize = 1000;
/// And after which it ends whatever it does.
pub const CHANNELS_LEFT_MAX: usize = 4000;
/// Those of all connections (64 MiB), beyond which a connection that left [`CHANNELS_LEFT_FAIR`] ends between two commands;
/// beyond twice as many at once.
pub const CHANNELS_LEFT_ALL: usize = 16_384;
/// What a connection may leave whatever others did.
pub const CHANNELS_LEFT_FAIR: usize = 100;
/// Bytes a client may send ahead on a channel: 16 MiB fill a line of 20 ms at 6 Gbit/s.
pub const WINDOW_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Bytes a client may send ahead before it has shown that its requests are taken: half of it starts the first grant.
pub const WINDOW_BYTES_START: u32 = 2 * 1024 * 1024;
/// Bytes a client may always send ahead.
pub const WINDOW_BYTES_MIN: u32 = 1024 * 1024;
/// Bytes of windows that all connections share when there are many.
pub const WINDOW_BYTES_ALL: u32 = 32 * 1024 * 1024;
/// Bytes waiting on a channel above which nothing more is granted: four of the largest writes.
pub const INBOX_BYTES_MARK: usize = 1024 * 1024;
/// Bytes waiting on all channels above which nothing more is granted to those that have some.
pub const INBOX_BYTES_ALL: usize = 32 * 1024 * 1024;
/// How long a session that trickles rests at each packet: a full inbox then grows by 64 KB a second at most.
pub const TRICKLE_REST: std::time::Duration = std::time::Duration::from_millis(1);
/// Bytes of an SSH packet.
pub const SSH_PACKET_BYTES_MAX: u32 = 65_535;
/// Bytes read from a socket at once.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Signs of life that a client may leave unanswered: with the next one it is gone.
pub const KEEPALIVES_MAX: usize = 3;
/// Bytes one way after which new keys are exchanged: RFC 4253 section 9.
pub const REKEY_BYTES: usize = 1 << 30;
/// Seconds after which they are: the same.
pub const REKEY_SECS: u64 = 3600;
/// Bytes of an SFTP packet: 256 KiB, and room for its header.
pub const SFTP_FRAME_BYTES_MAX: u32 = 256 * 1024 + 1024;
/// Bytes of one READ or WRITE that we announce: what OpenSSH announces too.
pub const SFTP_DATA_BYTES_MAX: u32 = 255 * 1024;
/// Handles of a channel.
pub const SFTP_HANDLES_MAX: usize = 256;
/// Requests of a channel whose answers have not left: what OpenSSH keeps under way.
pub const SFTP_IN_FLIGHT_MAX: usize = 64;
/// Bytes of these requests and of their answers, above which none is taken: four of the largest reads, and 16 clients stay
/// below 256 MiB.
pub const SFTP_IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// Names in one reply of a listing.
pub const SFTP_NAMES_MAX: usize = 100;
/// Bytes of one reply of a listing: each of its names twice, with attributes, owner and group of 64 bytes each.
pub const SFTP_LISTING_BYTES_MAX: usize = (SFTP_NAMES_MAX + 2) * 768;
/// Bytes of a reply with one path in it, which is there twice.
pub const SFTP_NAME_REPLY_BYTES_MAX: usize = 2 * 4096 + 64;
/// Owners, and groups, that one request may ask the names of: the reply stays below 144 KiB.
pub const SFTP_IDS_MAX: usize = 1024;
/// Replies are joined up to this size: one SSH packet.
pub const SFTP_REPLY_BATCH_BYTES: usize = 32 * 1024;
/// Bytes of a block that has a digest of its own, at least: the draft's bound.
pub const CHECK_BLOCK_BYTES_MIN: u64 = 256;
/// Extended attributes in a request, all ignored.
pub const SFTP_ATTRIBUTE_EXTENSIONS_MAX: u32 = 64;

// ---- exec ----

/// Bytes of a command line: some of the longest paths, escaped.
pub const EXEC_COMMAND_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a command line that its record keeps: a record has 32 KiB.
pub const EXEC_RECORD_BYTES_MAX: usize = 16 * 1024;
/// Words of a command line: clients name one file, people some.
pub const EXEC_WORDS_MAX: usize = 1024;
/// Bytes that a command reads or writes at once: one piece is read ahead of what is sent.
pub const EXEC_PIECE_BYTES: usize = 256 * 1024;
/// Bytes of a line of the scp protocol: the longest name, and numbers.
pub const SCP_LINE_BYTES_MAX: usize = 1024;

// ---- tls ----

/// TLS sessions that may be resumed: some for each connection of a listener, 2 KB each.
pub const TLS_SESSIONS_MAX: usize = 4096;
/// Seconds between two looks at the files of a certificate.
pub const CERTIFICATE_LOOK_SECS: u64 = 2;
/// Seconds before the end of a certificate at which its operator is told: two weeks, time to find out why it was not renewed.
pub const CERTIFICATE_WARNING_SECS: i64 = 14 * 86_400;

/// Names of one certificate that is ordered: what the largest public directory takes.
pub const ACME_DOMAINS_MAX: usize = 100;
/// Seconds for one order: a directory looks at each name from several places, and makes clients wait.
pub const ACME_ATTEMPT_SECS_MAX: u64 = 300;
/// Seconds to wait for a directory's next step.
pub const ACME_POLL_SECS_MAX: u64 = 120;
/// Seconds after the first failure of an order. Four times as many after each further one: five attempts in the first hour,
/// which is what the largest public directory allows.
pub const ACME_RETRY_SECS: i64 = 15;
/// Seconds between two orders at most, however many failed.
pub const ACME_RETRY_SECS_MAX: i64 = 6 * 3600;
/// Seconds between two looks at the clock while nothing is due.
pub const ACME_LOOK_SECS: u64 = 3600;

// ---- webdav ----

/// Bytes of an XML body: the largest that a real client sent is a tenth of it.
pub const XML_BYTES_MAX: usize = 64 * 1024;
/// Levels of nested XML elements: RFC 4918 needs six, properties some more.
pub const XML_DEPTH_MAX: usize = 32;
/// Events of an XML body: bounds the tree that is built of it.
pub const XML_NODES_MAX: usize = 10_000;
/// Seconds a lock lives when its client does not say.
pub const LOCK_SECS_DEFAULT: u64 = 600;
/// Seconds a lock lives at most without being refreshed.
pub const LOCK_SECS_MAX: u64 = 3600;
/// Lists of one `If` header: each is asked for at its own resource.
pub const IF_LISTS_MAX: usize = 128;
/// Bytes that hyper buffers for a connection.
pub const HTTP_BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Bytes read from a file at once for a download; one more piece is read ahead.
pub const GET_PIECE_BYTES: usize = 512 * 1024;
/// Bytes of an upload that are handed to the vault at once; one piece is sealed while the next comes in.
pub const PUT_PIECE_BYTES: usize = 512 * 1024;
/// Ranges of one GET that are answered one by one: a player or a mount asks for a handful; who asks for more gets the whole.
pub const RANGES_MAX: usize = 32;
/// Bytes between two ranges that are sent along: less than what stands between two parts of an answer.
pub const RANGE_GAP_BYTES_MAX: u64 = 128;
/// Parts of one upload: Nextcloud's own bound, some 100 GiB of rclone's smallest.
pub const PARTS_MAX: usize = 10_000;
/// Uploads in parts that one credential may have under way in a vault.
pub const PARTS_UPLOADS_MAX: usize = 1000;
/// Bytes of the name that a client gives an upload in parts.
pub const PARTS_ID_BYTES_MAX: usize = 128;
/// Bytes of the name of a part: a count, or two offsets.
pub const PART_NAME_BYTES_MAX: usize = 64;
/// Seconds after its last part that an upload waits for the next: over a weekend, and not much longer counted.
pub const PARTS_KEPT_SECS: i64 = 3 * 86_400;
/// Seconds in which a body must move at least one byte.
pub const STALL_SECS_MAX: u64 = 120;
/// Seconds for a TLS handshake, for a request's headers, and without a request.
pub const HANDSHAKE_SECS_MAX: u64 = 30;
/// Entries of a directory that a browser's page sorts: they are in memory for it. Of more, all are shown as they come.
pub const PAGE_SORTED_MAX: usize = 10_000;
/// Bytes of a browser's page after which a piece of it is sent.
pub const PAGE_PIECE_BYTES: usize = 64 * 1024;
/// Connections from one address, unless configured: a quarter of a listener's, an office behind one address.
pub const SOURCE_CONNECTIONS_MAX: usize = 256;
/// Requests of one connection: its client then makes another one, and what was kept for it goes.
pub const CONNECTION_REQUESTS_MAX: u32 = 100_000;
/// Seconds after which a connection takes no further request: its client sees a new certificate within a day.
pub const CONNECTION_SECS_MAX: u64 = 24 * 3600;
/// Bytes of a request's headers: what real ones have, many times over.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a request's target: the longest path, each byte encoded as three.
pub const TARGET_BYTES_MAX: usize = 3 * 4096;
/// Bytes of the headers of an HTTP/2 request, 32 for each of them included (RFC 9113 section 10.5.1).
pub const HTTP_2_HEADER_LIST_BYTES_MAX: u32 = 32 * 1024;
/// Bytes that an HTTP/2 client may send ahead, on a stream and on all together: bounds what one connection can fill.
pub const HTTP_2_WINDOW_BYTES: u32 = 1024 * 1024;
/// Requests of one HTTP/2 connection at a time: what clients have under way, and 40 MiB if nobody reads their answers.
pub const HTTP_2_STREAMS_MAX: u32 = 32;
/// Bytes of answers that wait to be sent on one stream.
pub const HTTP_2_SEND_BYTES_MAX: usize = 128 * 1024;
/// Streams that a client may have reset before they were looked at, and that we have reset: then the connection ends.
pub const HTTP_2_RESETS_MAX: usize = 32;
/// Seconds that browsers come over TLS only, unless configured: half a year.
pub const HSTS_SECS: u64 = 180 * 86_400;
/// Entries asked of a directory at a time.
pub const LISTING_PIECE: usize = 512;
/// The same where their properties come along: 64 KiB each at worst.
pub const LISTING_DESCRIBED_PIECE: usize = 128;
/// Bytes of a PROPFIND's answer after which a piece of it is sent; one more piece is made ahead.
pub const PROPFIND_PIECE_BYTES: usize = 128 * 1024;
/// Passwords checked at once: 19 MiB each, and as many cores as a small machine has.
pub const PASSWORDS_AT_ONCE: usize = 2;
/// Passwords checked and waiting: the last one of them waits about half a second.
pub const PASSWORDS_WAITING: usize = 18;
/// Of one network (/24, /48): others find room beside it.
pub const PASSWORDS_WAITING_OF_NETWORK: usize = 6;
/// Bytes of the longest answer at a prompt: a password, a token, a code.
pub const ANSWER_BYTES_MAX: usize = 1024;
/// From the connection to the end of its login, for somebody at a prompt.
pub const ANSWER_GRACE: std::time::Duration =
    std::time::Duration::from_secs(coffre_auth::limits::LOGIN_SECS_MAX.unsigned_abs());
/// Devices for one-time codes of a user: each one more is one more code that a guess may hit.
pub const TOTP_DEVICES_MAX: usize = 3;
/// Bytes of a file of an escrow: an envelope with some hundred slots.
pub const ESCROW_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of a passphrase: a few lines of text; judging its strength costs more than its length.
pub const PASSPHRASE_BYTES_MAX: usize = 256;
/// Seconds for which a vault is unlocked at most: a week. What is to be open for longer is better managed.
pub const UNLOCK_SECS_MAX: u64 = 7 * 24 * 3600;
/// Milliseconds that sessions have to end when their vault is locked: what a broken connection left is still committed, and
/// all of it is over within a second.
pub const LOCKING_MILLIS: u64 = 400;
