//! One SSH connection: login, then session channels that carry SFTP or run one of the few commands. Nothing else is served.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use coffre_auth::authenticate::Question;
use russh::keys::{Algorithm, Certificate};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session as Ssh, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Disconnect, MethodKind, MethodSet};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::admission::{Admission, Admitted};
use super::left::Left;
use crate::accounts::dialogue::{Dialogue, Reply};
use crate::exec::{self, Pipe};
use crate::limits::{
    CHANNELS_MAX, INBOX_BYTES_ALL, INBOX_BYTES_MARK, TRICKLE_REST, WINDOW_BYTES_ALL, WINDOW_BYTES_MAX,
    WINDOW_BYTES_MIN,
};
use crate::line::inlet::Inlet;
use crate::line::stream::Rein;
use crate::session::{SharedSession, Traffic};
use crate::sftp::channel::{self, Inbox};
use crate::sftp::dispatch::Dispatcher;
use crate::sftp::wire::LinkOrder;
use crate::vfs::Vfs;

/// Why a connection ends that left many channels behind.
pub(super) const COMMANDS_OVER: &str = "the connection ran as many commands as one may: connect again";
/// A window that is granted while too much waits: small enough that nothing grows, and a client still knows we live.
const WINDOW_WHILE_FULL: u32 = 64;

/// What a connection shares with the task that watches it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) session: OnceLock<SharedSession>,
    pub(super) authenticated: CancellationToken,
    /// Somebody is at a prompt, who needs more time than a program.
    pub(super) is_answering: CancellationToken,
    pub(super) traffic: Arc<Traffic>,
    pub(super) admitted: Mutex<Admitted>,
    pub(super) rein: Arc<Rein>,
    /// Held by each channel that is being served.
    pub(super) busy: Arc<()>,
    /// Held by each channel that has a command, a request or an open file.
    pub(super) under_way: Arc<()>,
    /// A command has ended on a connection that left many channels behind, and nothing else is under way.
    pub(super) is_over: Notify,
}

impl Shared {
    /// Whether a channel is being served.
    pub(super) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.busy) > 1
    }

    /// Whether no command runs, no request and nothing is open.
    fn is_quiet(&self) -> bool {
        Arc::strong_count(&self.under_way) == 1
    }
}

/// russh's callbacks. They never wait for storage.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) dialogue: Dialogue,
    pub(super) vfs: Vfs,
    pub(super) admission: Arc<Admission>,
    pub(super) shared: Arc<Shared>,
    pub(super) drain: CancellationToken,
    pub(super) channels: HashMap<ChannelId, ChannelState>,
    /// Channels that this side closed first.
    pub(super) left: Left,
}

/// What a channel is.
#[derive(Debug)]
pub(super) enum ChannelState {
    /// Open, nothing asked of it.
    Bare(ChannelWriteHalf<Msg>),
    /// Carries SFTP.
    Sftp(Arc<Inbox>, JoinHandle<()>),
    /// Runs a command.
    Exec(Arc<Pipe>, JoinHandle<()>),
}

/// The share of the window budget that each connection has.
pub(super) fn window_bytes(connections: usize) -> u32 {
    let connections = u32::try_from(connections.max(1)).unwrap_or(u32::MAX);
    (WINDOW_BYTES_ALL / connections).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
}

/// Ways to log in, for who has proven nothing yet.
pub(super) const METHODS: [MethodKind; 3] =
    [MethodKind::PublicKey, MethodKind::KeyboardInteractive, MethodKind::Password];

fn rejected() -> Auth {
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(&METHODS[..])), partial_success: false }
}

/// After a key: the rest is asked at a prompt. `is_new` says that the key was proven just now.
fn asked_for_more(is_new: bool) -> Auth {
    let methods = MethodSet::from(&[MethodKind::KeyboardInteractive][..]);
    Auth::Reject { proceed_with_methods: Some(methods), partial_success: is_new }
}

/// A prompt, in words that programs which answer for people look for.
fn prompt(question: Question) -> Auth {
    let text = match question {
        Question::Secret | Question::PasswordAfterKey => "Password: ",
        Question::CodeAfterKey | Question::CodeAfterPassword => "One-time code: ",
    };
    Auth::Partial { name: "".into(), instructions: "".into(), prompts: vec![(text.into(), false)].into() }
}

impl Connection {
    /// What a login's step came to.
    fn replied(&mut self, reply: Reply) -> Auth {
        match reply {
            // russh ends authentication with the first success: there is no second.
            Reply::Session(session) if self.shared.session.set(Arc::clone(&session)).is_ok() => {
                self.shared.admitted.lock().unwrap_or_else(PoisonError::into_inner).authenticated();
                self.shared.rein.set(session.pace.clone());
                self.shared.authenticated.cancel();
                Auth::Accept
            }
            Reply::Session(session) => {
                session.ended.cancel();
                rejected()
            }
            Reply::More => {
                self.shared.is_answering.cancel();
                asked_for_more(true)
            }
            Reply::Ask(question) => {
                self.shared.is_answering.cancel();
                prompt(question)
            }
            Reply::Refused if self.dialogue.is_key_proven() => asked_for_more(false),
            Reply::Refused => rejected(),
        }
    }

    /// Takes a channel of which nothing was asked yet, to make something of it.
    fn take_bare(&mut self, id: ChannelId) -> Option<ChannelWriteHalf<Msg>> {
        match self.channels.remove(&id)? {
            ChannelState::Bare(channel) => Some(channel),
            busy @ (ChannelState::Sftp(..) | ChannelState::Exec(..)) => {
                self.channels.insert(id, busy);
                None
            }
        }
    }

    fn spawn(&self, serving: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let busy = Arc::clone(&self.shared.busy);
        tokio::spawn(async move {
            serving.await;
            drop(busy);
        })
    }

    /// A second request on a channel that has its purpose: the channel ends.
    fn end_channel(&mut self, id: ChannelId, ssh: &mut Ssh) -> Result<(), russh::Error> {
        if let Some(state) = self.channels.remove(&id) {
            state.cut();
        }
        self.left.add(1);
        ssh.channel_failure(id)?;
        ssh.close(id)
    }

    /// What no subsystem serves: a reason on standard error, exit status 1.
    fn refuse(&mut self, id: ChannelId, ssh: &mut Ssh) -> Result<(), russh::Error> {
        if self.take_bare(id).is_some() {
            self.left.add(1);
            ssh.channel_success(id)?;
            ssh.extended_data(id, 1, &b"There is no shell here: use sftp, scp or rclone.\r\n"[..])?;
            ssh.exit_status_request(id, 1)?;
            ssh.eof(id)?;
            ssh.close(id)
        } else {
            ssh.channel_failure(id)
        }
    }
}

/// SHA-1 signatures are not taken, whatever the key.
fn is_sound(algorithm: &Algorithm) -> bool {
    !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
        Ok(rejected())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let reply = self.dialogue.token(user, password).await;
        Ok(self.replied(reply))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let reply = match response {
            None => self.dialogue.interactive(user).await,
            Some(mut answers) => {
                // One prompt has one answer.
                let text = answers.next().filter(|_| answers.next().is_none());
                let text = text.and_then(|text| String::from_utf8(text.to_vec()).ok()).map(Zeroizing::new);
                self.dialogue.answer(user, text).await
            }
        };
        Ok(self.replied(reply))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        // Of a certificate only the key is shown here. Who takes certificates says yes to every key, whoever the user is: what is
        // behind it is seen with the signature, and neither a user nor a key can be found out.
        let good = is_sound(offer.algorithm)
            && (self.dialogue.takes_certificates()
                || self.dialogue.is_key_acceptable(user, offer.public_key));
        if !good {
            self.dialogue.offered_in_vain(user);
        }
        Ok(if good { Auth::Accept } else { rejected() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        // A client that tries all its keys has failed at nothing.
        if !is_sound(key.algorithm) || !self.dialogue.is_key_acceptable(user, key.public_key) {
            self.dialogue.offered_in_vain(user);
            return Ok(rejected());
        }
        let reply = self.dialogue.key(user, key.public_key).await;
        Ok(self.replied(reply))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let reply = self.dialogue.certificate(user, certificate).await;
        Ok(self.replied(reply))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        let live = self.shared.session.get().is_some_and(|session| session.is_live());
        // A channel that this side closed is not told of again.
        let before = self.channels.len();
        self.channels.retain(|_, state| !state.is_over());
        self.left.add(before - self.channels.len());
        if self.left.is_too_many() {
            return Err(russh::Error::Inconsistent);
        }
        if !live || self.drain.is_cancelled() || self.channels.len() >= CHANNELS_MAX {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        // Dropping the read half is what keeps the session's loop from waiting for us.
        let (_, write) = channel.split();
        self.channels.insert(id, ChannelState::Bare(write));
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        let Some(session) = self.shared.session.get().filter(|_| name == "sftp").map(Arc::clone) else {
            return ssh.channel_failure(id);
        };
        let Some(write) = self.take_bare(id) else { return self.end_channel(id, ssh) };
        let namespace = self.vfs.namespace(Arc::clone(&session));
        let Ok(dispatcher) = Dispatcher::new(namespace, LinkOrder::of_client(ssh.remote_sshid())) else {
            return self.end_channel(id, ssh);
        };
        let inbox = Arc::new(Inbox::default());
        let ends = (session.ended.clone(), self.drain.clone());
        let (traffic, under_way) = (Arc::clone(&self.shared.traffic), Arc::downgrade(&self.shared.under_way));
        let serving = channel::serve(dispatcher, Arc::clone(&inbox), write, (traffic, under_way), ends);
        let served = self.spawn(serving);
        self.channels.insert(id, ChannelState::Sftp(inbox, served));
        ssh.channel_success(id)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        let Some(session) = self.shared.session.get().map(Arc::clone) else {
            return ssh.channel_failure(id);
        };
        let Some(channel) = self.take_bare(id) else { return self.end_channel(id, ssh) };
        let input = Arc::new(Pipe::default());
        let running = exec::serve(exec::Order {
            namespace: self.vfs.namespace(Arc::clone(&session)),
            line: command.to_vec().into(),
            input: Arc::clone(&input),
            channel,
            traffic: Arc::clone(&self.shared.traffic),
            ended: session.ended.clone(),
        });
        let (under_way, shared) = (Arc::clone(&self.shared.under_way), Arc::clone(&self.shared));
        let last = self.left.is_many().then(|| ssh.handle());
        let served = self.spawn(async move {
            running.await;
            drop(under_way);
            // Told at once behind the command's end, so that a client that goes on already knows.
            if let Some(handle) = last.filter(|_| shared.is_quiet()) {
                let (reason, language) = (COMMANDS_OVER.to_owned(), "en".to_owned());
                drop(handle.disconnect(Disconnect::ByApplication, reason, language).await);
                shared.is_over.notify_one();
            }
        });
        self.channels.insert(id, ChannelState::Exec(input, served));
        ssh.channel_success(id)
    }

    async fn shell_request(&mut self, id: ChannelId, ssh: &mut Ssh) -> Result<(), Self::Error> {
        self.refuse(id, ssh)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(russh::Pty, u32)],
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        ssh.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        _value: &str,
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        ssh.channel_failure(id)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _ssh: &mut Ssh) -> Result<(), Self::Error> {
        self.shared.traffic.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(state) = self.channels.get(&id) {
            // More than a whole window waiting: the client ignores what it was granted.
            let waiting = state.push(data);
            if waiting > 2 * WINDOW_BYTES_MAX as usize {
                return Err(russh::Error::Inconsistent);
            }
            if waiting > INBOX_BYTES_MARK && data.len() <= WINDOW_WHILE_FULL as usize {
                tokio::time::sleep(TRICKLE_REST).await;
            }
        }
        Ok(())
    }

    fn adjust_window(&mut self, id: ChannelId, _current: u32) -> u32 {
        let Some(waiting) = self.channels.get(&id).and_then(ChannelState::inlet).map(Inlet::waiting) else {
            return WINDOW_BYTES_MIN;
        };
        let crowded = Inlet::waiting_everywhere() > INBOX_BYTES_ALL && waiting > WINDOW_BYTES_MIN as usize;
        if waiting > INBOX_BYTES_MARK || crowded {
            WINDOW_WHILE_FULL
        } else {
            window_bytes(self.admission.connections())
        }
    }

    async fn channel_eof(&mut self, id: ChannelId, _ssh: &mut Ssh) -> Result<(), Self::Error> {
        if let Some(inlet) = self.channels.get(&id).and_then(ChannelState::inlet) {
            inlet.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _ssh: &mut Ssh) -> Result<(), Self::Error> {
        if let Some(state) = self.channels.remove(&id) {
            state.cut();
        }
        Ok(())
    }
}

impl ChannelState {
    /// Takes what the client sent; tells how much waits now.
    fn push(&self, bytes: &[u8]) -> usize {
        match self {
            Self::Sftp(inbox, _) => inbox.push(bytes),
            Self::Exec(pipe, _) => pipe.push(bytes),
            Self::Bare(_) => 0,
        }
    }

    /// What waits, where somebody takes it.
    fn inlet(&self) -> Option<&Inlet> {
        match self {
            Self::Sftp(inbox, _) => Some(inbox.inlet()),
            Self::Exec(pipe, _) => Some(pipe.inlet()),
            Self::Bare(_) => None,
        }
    }

    /// The channel is no more.
    fn cut(&self) {
        match self {
            Self::Exec(pipe, _) => pipe.cut(),
            Self::Sftp(inbox, _) => inbox.inlet().end(),
            Self::Bare(_) => {}
        }
    }

    /// Whether what served it has ended.
    fn is_over(&self) -> bool {
        match self {
            Self::Sftp(_, served) | Self::Exec(_, served) => served.is_finished(),
            Self::Bare(_) => false,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.channels.values().for_each(ChannelState::cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_the_whole_window_and_many_share_it() {
        assert_eq!(window_bytes(1), WINDOW_BYTES_MAX);
        assert_eq!(window_bytes(16), WINDOW_BYTES_ALL / 16);
        assert_eq!(window_bytes(10_000), WINDOW_BYTES_MIN);
    }
}
