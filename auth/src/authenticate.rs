//! Logging in: one machine for every protocol. It is told what was verified, and says what that is enough for.
//!
//! ```text
//!            key of a machine -----------------------------------------------> accepted
//!            key of a person, nothing else asked ----------------------------> accepted
//!            token, certificate, key of a smart card ------------------------> accepted
//! nobody --- key of a person --> key proven --> asked for a code ------------> accepted
//!        |                                  `-> asked for a password --------> accepted
//!        `-- asked for a secret --> asked for a code, whatever it was -------> accepted
//! ```
//!
//! Everything is wiped whenever another user name or another service is named, and when it took too long: what was proven for
//! one name never counts for another. A password is not looked at before the code came as well: nobody learns by that alone
//! whether it is right, and who goes away before costs nothing. Which factors are enough is the customer's [`Policy`]; names that
//! nobody has are asked the same as others.

use crate::factor::Factor;
use crate::id::CredentialId;
use crate::limits::LOGIN_SECS_MAX;
use crate::policy::{Combination, Policy};

const SECOND: i64 = 1_000_000_000;

/// Over what somebody logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// SSH, for the service that is named in its requests.
    Ssh,
    /// HTTP: each request is a login of its own.
    Http,
}

/// What is known of the user who is named, or of nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What its customer takes.
    pub policy: Policy,
    /// What the user has beside keys and tokens.
    pub enrolled: Enrolled,
}

/// Second factors that a user has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enrolled {
    /// None.
    #[default]
    Nothing,
    /// Something that shows or receives codes.
    Codes,
    /// A password.
    Password,
    /// Both.
    Both,
}

impl Enrolled {
    /// And something for codes.
    #[must_use]
    pub fn with_codes(self) -> Self {
        if self.has_password() { Self::Both } else { Self::Codes }
    }

    /// And a password.
    #[must_use]
    pub fn with_password(self) -> Self {
        if self.has_codes() { Self::Both } else { Self::Password }
    }

    fn has_codes(self) -> bool {
        matches!(self, Self::Codes | Self::Both)
    }

    fn has_password(self) -> bool {
        matches!(self, Self::Password | Self::Both)
    }
}

impl Rules {
    /// For names that nobody has.
    pub const OF_NOBODY: Self = Self { policy: Policy::STRONG, enrolled: Enrolled::Nothing };

    /// What is asked of a person who proved a key. Who has a second factor is asked for it even where a key is enough.
    fn after_key(self) -> Option<Question> {
        if self.policy.takes(Combination::KeyAndCode) && self.enrolled.has_codes() {
            Some(Question::CodeAfterKey)
        } else if self.policy.takes(Combination::KeyAndPassword) && self.enrolled.has_password() {
            Some(Question::PasswordAfterKey)
        } else {
            None
        }
    }
}

/// A verified key's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// An unattended machine's.
    Machine(CredentialId),
    /// A person's.
    Person(CredentialId),
    /// A person's, on a smart card.
    SmartCard(CredentialId),
}

/// What is asked at a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A password or an app token: nothing was proven yet.
    Secret,
    /// A code, after a password.
    CodeAfterPassword,
    /// A code, after a key.
    CodeAfterKey,
    /// A password, after a key.
    PasswordAfterKey,
}

/// Something that was verified.
pub type Proven = (CredentialId, Factor);

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All is proven: by these, in order.
    Accepted(Vec<Proven>),
    /// Good so far: the rest at a prompt.
    More,
    /// A prompt.
    Ask(Question),
    /// No.
    Refused(Reason),
}

/// Why not; for the audit log. From outside all look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Wrong, unknown, revoked, expired, from the wrong place.
    #[error("the credential is not accepted")]
    Wrong,
    /// Right, and the customer's policy does not take it alone.
    #[error("the customer's policy does not take this alone, and the user has nothing to go with it")]
    NotEnough,
    /// An answer to nothing that was asked.
    #[error("an answer came that nothing had asked for")]
    NotAsked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Nobody,
    KeyProven(CredentialId),
    Asked { question: Question, key: Option<CredentialId> },
}

/// One login under way.
#[derive(Clone, Debug)]
pub struct Login {
    service: Service,
    name: String,
    since: i64,
    state: State,
}

impl Login {
    /// Begins: nothing is proven.
    pub fn new(service: Service) -> Self {
        Self { service, name: String::new(), since: i64::MIN, state: State::Nobody }
    }

    /// A request names a user at `now`, nanoseconds since 1970. Another name, another service or too much time wipes everything;
    /// a question that is open is dropped in any case.
    pub fn name(&mut self, service: Service, name: &str, now: i64) {
        let until = self.since.saturating_add(LOGIN_SECS_MAX.saturating_mul(SECOND));
        if self.service != service || self.name != name || now >= until || now < self.since {
            *self = Self { service, name: name.to_owned(), since: now, state: State::Nobody };
        }
        self.drop_question();
    }

    /// The open question of this user, if its time is not over.
    pub fn question(&self, name: &str, now: i64) -> Option<Question> {
        let until = self.since.saturating_add(LOGIN_SECS_MAX.saturating_mul(SECOND));
        match &self.state {
            State::Asked { question, .. } if self.name == name && (self.since..until).contains(&now) => {
                Some(*question)
            }
            State::Asked { .. } | State::Nobody | State::KeyProven(_) => None,
        }
    }

    /// The key that was proven.
    pub fn key_proven(&self) -> Option<&CredentialId> {
        match &self.state {
            State::Asked { key, .. } => key.as_ref(),
            State::KeyProven(key) => Some(key),
            State::Nobody => None,
        }
    }

    fn drop_question(&mut self) {
        if let State::Asked { key, .. } = &self.state {
            self.state = key.clone().map_or(State::Nobody, State::KeyProven);
        }
    }

    fn refused(&mut self, reason: Reason) -> Step {
        self.drop_question();
        Step::Refused(reason)
    }

    fn accepted(&mut self, proven: Vec<Proven>) -> Step {
        self.state = State::Nobody;
        Step::Accepted(proven)
    }

    /// A key whose signature was verified, if the user has it.
    pub fn key(&mut self, key: Option<Key>, rules: Rules) -> Step {
        self.drop_question();
        match key {
            Some(Key::Machine(id)) if rules.policy.takes(Combination::MachineKey) => {
                self.accepted(vec![(id, Factor::SshKey)])
            }
            Some(Key::SmartCard(id)) if rules.policy.takes(Combination::SmartCard) => {
                self.accepted(vec![(id, Factor::SmartCard)])
            }
            Some(Key::Person(id)) if rules.after_key().is_some() => {
                self.state = State::KeyProven(id);
                Step::More
            }
            Some(Key::Person(id)) if rules.policy.takes(Combination::Key) => {
                self.accepted(vec![(id, Factor::SshKey)])
            }
            Some(Key::Machine(_) | Key::Person(_) | Key::SmartCard(_)) => self.refused(Reason::NotEnough),
            None => self.refused(Reason::Wrong),
        }
    }

    /// An app token, if the user has it.
    pub fn token(&mut self, token: Option<CredentialId>, rules: Rules) -> Step {
        match token {
            Some(id) if rules.policy.takes(Combination::Token) => self.accepted(vec![(id, Factor::AppToken)]),
            Some(_) => self.refused(Reason::NotEnough),
            None => self.refused(Reason::Wrong),
        }
    }

    /// A certificate that was found good, by what took it: an authority, or its own registration.
    pub fn certificate(&mut self, by: CredentialId, factor: Factor, rules: Rules) -> Step {
        match Combination::of(&[factor], false) {
            Some(combination) if rules.policy.takes(combination) => self.accepted(vec![(by, factor)]),
            Some(_) | None => self.refused(Reason::NotEnough),
        }
    }

    /// The client wants to be asked.
    pub fn interactive(&mut self, rules: Rules) -> Step {
        self.drop_question();
        let (question, key) = match &self.state {
            State::KeyProven(key) => match rules.after_key() {
                Some(question) => (question, Some(key.clone())),
                // It was taken away meanwhile.
                None => return self.refused(Reason::NotEnough),
            },
            State::Nobody | State::Asked { .. } => (Question::Secret, None),
        };
        self.state = State::Asked { question, key };
        Step::Ask(question)
    }

    /// A secret was given that is no token: a password, right or wrong.
    pub fn secret(&mut self) -> Step {
        match &self.state {
            State::Asked { question: Question::Secret, .. } => {
                let question = Question::CodeAfterPassword;
                self.state = State::Asked { question, key: None };
                Step::Ask(question)
            }
            State::Asked { .. } | State::Nobody | State::KeyProven(_) => self.refused(Reason::NotAsked),
        }
    }

    /// What a password after a key turned out to be: which credential, if right.
    pub fn password(&mut self, right: Option<CredentialId>, rules: Rules) -> Step {
        match (self.state.clone(), right) {
            (State::Asked { question: Question::PasswordAfterKey, key: Some(key) }, Some(password)) => {
                if rules.policy.takes(Combination::KeyAndPassword) {
                    self.accepted(vec![(key, Factor::SshKey), (password, Factor::Password)])
                } else {
                    self.refused(Reason::NotEnough)
                }
            }
            (State::Asked { question: Question::PasswordAfterKey, .. }, _) => self.refused(Reason::Wrong),
            (State::Asked { .. } | State::Nobody | State::KeyProven(_), _) => self.refused(Reason::NotAsked),
        }
    }

    /// What a code turned out to be, and the password that came before it, if one did: which credentials, if right. The code is
    /// used up before this is told.
    pub fn code(&mut self, password: Option<CredentialId>, right: Option<Proven>, rules: Rules) -> Step {
        let State::Asked { question, key } = self.state.clone() else {
            return self.refused(Reason::NotAsked);
        };
        let (first, combination) = match question {
            Question::CodeAfterKey => (key.map(|key| (key, Factor::SshKey)), Combination::KeyAndCode),
            Question::CodeAfterPassword => {
                (password.map(|password| (password, Factor::Password)), Combination::PasswordAndCode)
            }
            Question::Secret | Question::PasswordAfterKey => return self.refused(Reason::NotAsked),
        };
        match (first, right) {
            (Some(first), Some(code)) if rules.policy.takes(combination) => self.accepted(vec![first, code]),
            (Some(_), Some(_)) => self.refused(Reason::NotEnough),
            _ => self.refused(Reason::Wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> CredentialId {
        CredentialId(name.to_owned())
    }

    fn rules(enrolled: Enrolled) -> Rules {
        Rules { policy: Policy::STRONG, enrolled }
    }

    fn named(name: &str) -> Login {
        let mut login = Login::new(Service::Ssh);
        login.name(Service::Ssh, name, 0);
        login
    }

    #[test]
    fn each_combination_is_accepted_in_its_order() {
        let both = rules(Enrolled::Both);
        let key = Some(Key::Person(id("key")));
        let mut login = named("a");
        assert_eq!(login.key(key.clone(), both), Step::More);
        assert_eq!(login.interactive(both), Step::Ask(Question::CodeAfterKey));
        let accepted = login.code(None, Some((id("totp"), Factor::Totp)), both);
        assert_eq!(accepted, Step::Accepted(vec![(id("key"), Factor::SshKey), (id("totp"), Factor::Totp)]));
        let password = rules(Enrolled::Password);
        assert_eq!(login.key(key, password), Step::More);
        assert_eq!(login.interactive(password), Step::Ask(Question::PasswordAfterKey));
        assert!(matches!(login.password(Some(id("password")), password), Step::Accepted(_)));

        let mut login = named("a");
        assert_eq!(login.interactive(both), Step::Ask(Question::Secret));
        assert_eq!(login.secret(), Step::Ask(Question::CodeAfterPassword));
        let (password, code) = (Some(id("password")), Some((id("totp"), Factor::Totp)));
        assert!(matches!(login.code(password, code, both), Step::Accepted(_)));

        assert!(matches!(named("a").token(Some(id("token")), both), Step::Accepted(_)));
        assert!(matches!(named("a").key(Some(Key::Machine(id("m"))), both), Step::Accepted(_)));
    }

    #[test]
    fn one_factor_alone_is_refused_unless_policy_takes_it() {
        let nothing = rules(Enrolled::Nothing);
        let person = || Some(Key::Person(id("key")));
        assert_eq!(named("a").key(person(), nothing), Step::Refused(Reason::NotEnough));
        let before = Rules { policy: Policy::OF_BEFORE, ..nothing };
        assert!(matches!(named("a").key(person(), before), Step::Accepted(_)));
        let codes = Rules { policy: Policy::OF_BEFORE, enrolled: Enrolled::Codes };
        assert_eq!(named("a").key(person(), codes), Step::More, "who has a second factor is asked for it");
        let no_tokens = Rules { policy: [Combination::KeyAndCode].into_iter().collect(), ..nothing };
        assert_eq!(named("a").token(Some(id("t")), no_tokens), Step::Refused(Reason::NotEnough));
        assert_eq!(named("a").key(Some(Key::Machine(id("m"))), no_tokens), Step::Refused(Reason::NotEnough));
    }

    #[test]
    fn a_wrong_password_is_asked_for_its_code_all_the_same_and_refused_after_it() {
        for rules in [rules(Enrolled::Both), Rules::OF_NOBODY] {
            let mut login = named("a");
            assert_eq!(login.interactive(rules), Step::Ask(Question::Secret));
            assert_eq!(login.secret(), Step::Ask(Question::CodeAfterPassword));
            let right = Some((id("totp"), Factor::Totp));
            assert_eq!(login.code(None, right, rules), Step::Refused(Reason::Wrong));
        }
    }

    #[test]
    fn what_was_proven_is_wiped_by_another_name_another_service_and_by_time() {
        let both = rules(Enrolled::Both);
        let proven = || {
            let mut login = named("a");
            assert_eq!(login.key(Some(Key::Person(id("key"))), both), Step::More);
            login
        };
        let mut kept = proven();
        kept.name(Service::Ssh, "a", LOGIN_SECS_MAX * SECOND - 1);
        assert_eq!(kept.interactive(both), Step::Ask(Question::CodeAfterKey));
        for (service, name, now) in
            [(Service::Ssh, "b", 1), (Service::Http, "a", 1), (Service::Ssh, "a", LOGIN_SECS_MAX * SECOND)]
        {
            let mut login = proven();
            login.name(service, name, now);
            assert_eq!(login.interactive(both), Step::Ask(Question::Secret), "{name} at {now}");
        }
        let mut asked = proven();
        asked.interactive(both);
        assert_eq!(asked.question("a", 1), Some(Question::CodeAfterKey));
        assert_eq!(asked.question("b", 1), None);
        assert_eq!(asked.question("a", LOGIN_SECS_MAX * SECOND), None);
        asked.name(Service::Ssh, "a", 1);
        assert_eq!(asked.code(None, Some((id("t"), Factor::Totp)), both), Step::Refused(Reason::NotAsked));
    }

    /// A message of a client, with what its verification said.
    #[derive(Clone, Copy, Debug)]
    enum Message {
        Name(u8),
        Service(bool),
        Key { good: bool, machine: bool },
        SmartCard { good: bool },
        Certificate { tls: bool },
        Token { good: bool },
        Interactive,
        Secret,
        Password { good: bool },
        Code { good: bool, password: bool },
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (0..2_u8).prop_map(Message::Name),
            any::<bool>().prop_map(Message::Service),
            any::<(bool, bool)>().prop_map(|(good, machine)| Message::Key { good, machine }),
            any::<bool>().prop_map(|good| Message::Token { good }),
            any::<bool>().prop_map(|good| Message::SmartCard { good }),
            any::<bool>().prop_map(|tls| Message::Certificate { tls }),
            Just(Message::Interactive),
            any::<bool>().prop_map(|good| Message::Password { good }),
            Just(Message::Secret),
            any::<(bool, bool)>().prop_map(|(good, password)| Message::Code { good, password }),
        ]
    }

    fn enrolled() -> impl Strategy<Value = Enrolled> {
        prop_oneof![
            Just(Enrolled::Nothing),
            Just(Enrolled::Codes),
            Just(Enrolled::Password),
            Just(Enrolled::Codes.with_password()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// What was good since the name was last changed is noted beside the machine, which may accept nothing else.
        #[test]
        fn no_sequence_of_messages_is_accepted_without_the_factors_that_policy_asks(
            messages in proptest::collection::vec((message(), 0..512_u16, enrolled()), 1..40)
        ) {
            let (mut login, mut name, mut service) = (Login::new(Service::Ssh), 0_u8, Service::Ssh);
            login.name(service, "0", 0);
            let mut good: Vec<CredentialId> = Vec::new();
            for (message, bits, enrolled) in messages {
                let taken = |at: usize| bits & (1 << at) != 0;
                let policy: Policy = Combination::ALL
                    .into_iter()
                    .enumerate()
                    .filter_map(|(at, one)| taken(at).then_some(one))
                    .collect();
                let rules = Rules { policy, enrolled };
                let fact = |what: &str| id(&format!("{what}{name}"));
                let mut seen = |what: &str, is_good: bool| {
                    let fact = fact(what);
                    is_good.then(|| { good.push(fact.clone()); fact })
                };
                let step = match message {
                    Message::Name(other) => {
                        if other != name { good.clear(); }
                        name = other;
                        login.name(service, &other.to_string(), 0);
                        continue;
                    }
                    Message::Service(http) => {
                        let other = if http { Service::Http } else { Service::Ssh };
                        if other != service { good.clear(); }
                        service = other;
                        login.name(service, &name.to_string(), 0);
                        continue;
                    }
                    Message::Key { good, machine } => {
                        let key = seen(if machine { "machine" } else { "key" }, good);
                        login.key(key.map(|id| if machine { Key::Machine(id) } else { Key::Person(id) }), rules)
                    }
                    Message::SmartCard { good } => {
                        login.key(seen("card", good).map(Key::SmartCard), rules)
                    }
                    Message::Certificate { tls } => {
                        let factor = if tls { Factor::TlsCertificate } else { Factor::SshCertificate };
                        let by = seen(factor.name(), true).unwrap_or_else(|| id("nobody"));
                        login.certificate(by, factor, rules)
                    }
                    Message::Token { good } => login.token(seen("token", good), rules),
                    Message::Interactive => login.interactive(rules),
                    Message::Password { good } => login.password(seen("password", good), rules),
                    Message::Secret => login.secret(),
                    Message::Code { good, password } => {
                        let password = seen("password", password);
                        login.code(password, seen("code", good).map(|id| (id, Factor::Totp)), rules)
                    }
                };
                let Step::Accepted(proven) = step else { continue };
                prop_assert!(proven.iter().all(|(id, _)| good.contains(id)), "{proven:?} of {good:?}");
                let own = |what: &str| proven.iter().any(|(id, _)| *id == fact(what));
                let combination = match proven.len() {
                    1 if own("machine") => Combination::MachineKey,
                    1 if own("token") => Combination::Token,
                    1 if own("key") => Combination::Key,
                    1 if own("card") => Combination::SmartCard,
                    1 if own("ssh-certificate") => Combination::SshCertificate,
                    1 if own("tls-certificate") => Combination::TlsCertificate,
                    2 if own("key") && own("code") => Combination::KeyAndCode,
                    2 if own("key") && own("password") => Combination::KeyAndPassword,
                    2 if own("password") && own("code") => Combination::PasswordAndCode,
                    _ => return Err(TestCaseError::fail(format!("{proven:?}"))),
                };
                prop_assert!(policy.takes(combination), "{combination:?} is not taken by {policy}");
            }
        }
    }
}
