//! Who may ask for what, and how much: the policies of the configuration, and an account for each user.
//!
//! [`Callers`] is asked by `server` before anything of a request is read, and told when it has ended. The first policy that names a user or one of its groups is the user's; the account
//! goes by user, whichever process asks. Quotas hold for the calls that take media: health checks, reflection and the status cost too little to be counted. What a quota refuses before anything is read comes neither
//! to the door nor into the audit log. The number of accounts is bounded. Left out: who may use the daemon at all ([`Access`](super::listener::Access)), and turns among
//! those who may (`pipeline::admission`).

mod body;
mod ledger;
mod room;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use body::{Measured, RETRY_WHEN_FULL, Read};
pub use ledger::CallerCounts;
use ledger::{End, Ledger, Quotas};
pub use room::Share;
use room::{Holder, Room, share_of};

use super::listener::{BindError, OPERATOR_CONNECTIONS, PeerIdentity, group_ids, user_ids};
use crate::config::{CallerPolicy, Config, Rpc};
use crate::error::{Error, Quota};
use crate::inference::Priority;
use crate::ops::metrics as names;

/// Users who have an account at once, at some 300 bytes each. Of those who have nothing at work, no pause to keep and no rate to make up for, who was not seen for longest is forgotten for a new one.
const MAX_ACCOUNTS: usize = 1024;

/// Answers from this size on are a part of what callers may have on its way.
const LONG_ANSWER_BYTES: usize = 64 * 1024;

/// The number of the one account of all who are not allowed to use the daemon, and of those for whom there is no room: the highest, which the kernel gives to nobody.
const STRANGERS: u32 = u32::MAX;

/// Users whom metrics tell apart; further ones are `other`, since a series is never forgotten.
const MAX_LABELS: usize = 128;

/// The policies, and the accounts of the users.
#[derive(Debug)]
pub struct Callers {
    policies: RwLock<Policies>,
    accounts: Mutex<Accounts>,
    /// Bytes of messages that are not whole, of frames that nobody has looked at, and of long answers that are not read.
    arriving: Arc<Room>,
    /// Sessions of active liveness.
    sessions: Arc<Room>,
}

/// In the order of the configuration; the last one applies to everybody.
type Policies = Vec<Arc<Policy>>;

/// A policy with its names looked up.
#[derive(Debug, Default, PartialEq)]
struct Policy {
    name: String,
    users: HashSet<u32>,
    groups: HashSet<u32>,
    rpcs: BTreeSet<Rpc>,
    priority: Priority,
    max_bytes: u64,
    max_connections: usize,
    quotas: Quotas,
}

#[derive(Debug, Default)]
struct Accounts {
    of: BTreeMap<u32, Account>,
    labelled: BTreeSet<u32>,
    /// What accounts had counted that are forgotten, by label: a counter goes on where it was.
    forgotten: BTreeMap<String, CallerCounts>,
}

#[derive(Debug)]
struct Account {
    ledger: Ledger,
    connections: usize,
    /// That of the newest request or connection.
    policy: Arc<Policy>,
    last_seen: Instant,
}

/// What is known of a user's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerStatus {
    pub uid: u32,
    pub policy: String,
    pub priority: Priority,
    pub connections: usize,
    pub in_flight: usize,
    pub counts: CallerCounts,
    pub paused_for: Duration,
}

impl Callers {
    /// Looks the names of all policies up.
    ///
    /// # Errors
    /// [`BindError::Unknown`] if this host has no such user or group.
    pub fn resolve(config: &Config) -> Result<Arc<Self>, BindError> {
        let policies =
            config.callers.iter().chain([&CallerPolicy::default()]).map(Policy::resolve).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            policies: RwLock::new(policies),
            accounts: Mutex::default(),
            arriving: Room::new(config.limits.max_arriving_bytes),
            sessions: Room::new(config.live.max_sessions as u64),
        }))
    }

    /// From now on the policies of `other` hold, for the next request of each caller. The accounts stay; whose policy is not the same any more is pardoned.
    pub fn replace(&self, other: &Self) {
        let policies = other.policies.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (uid, account) in &mut self.lock().of {
            // All who are not allowed share an account, whatever policies there are for them.
            if *uid != STRANGERS && !policies.contains(&account.policy) {
                account.ledger.pardon();
            }
        }
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    /// Begins a call to `rpc`; `None` stands for all that is no RPC of ours. Who `may_call` not, which the access check will tell it, has no account of its own: all of them share one.
    ///
    /// # Errors
    /// [`Error::QuotaSpent`].
    pub fn begin(self: &Arc<Self>, peer: &PeerIdentity, may_call: bool, rpc: Option<Rpc>) -> Result<Permit, Error> {
        let (policy, begun) = (self.policy(peer), Instant::now());
        let counted = rpc.is_some_and(Rpc::takes_media);
        // The operator sees what goes on whatever a policy for everybody says.
        let is_open = |rpc| policy.rpcs.contains(&rpc) || (rpc == Rpc::GetStatus && peer.is_operator());
        let allows = rpc.is_none_or(is_open);
        let mut uid = if may_call { peer.uid } else { STRANGERS };
        if counted {
            let mut accounts = self.lock();
            uid = accounts.room_for(uid, begun);
            // What is not allowed at all is no matter of a rate: pauses alone hold it up.
            let quotas = if allows { policy.quotas } else { policy.quotas.pauses() };
            let begins = accounts.account(uid, &policy, begun).ledger.begin(&quotas, begun);
            begins.map_err(|refusal| refusal.into_error(&policy.name, &policy.quotas))?;
        }
        let holder = Holder { uid, is_operator: peer.is_operator() };
        let caller = counted.then(|| Caller {
            callers: Arc::clone(self),
            policy: Arc::clone(&policy),
            holder,
            hang_up: peer.hang_up.clone(),
        });
        Ok(Permit {
            callers: Arc::clone(self),
            holder,
            policy,
            read: Arc::default(),
            conduct: Arc::new(Conduct { caller, ..Conduct::default() }),
            allows,
            counted,
            begun,
        })
    }

    /// Notes a connection; `None` if the user has as many open as may be, of `max_connections` in all. The operator may have some more.
    pub fn connect(self: &Arc<Self>, peer: &PeerIdentity, max_connections: usize) -> Option<ConnectionPermit> {
        let policy = self.policy(peer);
        let (share, more) = match peer.is_operator() {
            true => (max_connections, OPERATOR_CONNECTIONS),
            false => (share_of(max_connections as u64) as usize, 0),
        };
        let most = more + if policy.max_connections > 0 { policy.max_connections } else { share };
        let (mut accounts, now) = (self.lock(), Instant::now());
        let uid = accounts.room_for(peer.uid, now);
        let account = accounts.account(uid, &policy, now);
        if account.connections >= most {
            account.ledger.refuse(Quota::Connections);
            return None;
        }
        account.connections += 1;
        Some(ConnectionPermit { callers: Arc::clone(self), uid })
    }

    /// The accounts that there are; that of `uid` alone if one is given.
    pub fn status(&self, uid: Option<u32>) -> Vec<CallerStatus> {
        let now = Instant::now();
        let status = |(uid, account): (&u32, &Account)| CallerStatus {
            uid: *uid,
            policy: account.policy.name.clone(),
            priority: account.policy.priority,
            connections: account.connections,
            in_flight: account.ledger.in_flight(),
            counts: account.ledger.counts(),
            paused_for: account.ledger.paused_for(now),
        };
        self.lock().of.iter().filter(|(of, _)| uid.is_none_or(|uid| uid == **of)).map(status).collect()
    }

    /// Sets the metrics of all users, who are told apart as far as there may be labels.
    pub fn observe(&self) {
        let mut of: BTreeMap<String, CallerStatus> = BTreeMap::new();
        // Before the accounts, so that one that is forgotten in between is not counted twice.
        let mut counted = self.lock().forgotten.clone();
        for status in self.status(None) {
            let label = self.lock().label(status.uid);
            counted.entry(label.clone()).or_default().add(&status.counts);
            of.entry(label).and_modify(|sum| sum.add(&status)).or_insert(status);
        }
        // Who was forgotten has nothing open.
        for uid in self.lock().labelled.iter().map(u32::to_string).filter(|uid| !of.contains_key(uid)) {
            for gauge in [names::CALLER_RUNNING, names::CALLER_CONNECTIONS, names::CALLER_PAUSE_SECONDS] {
                gauge!(gauge, "uid" => uid.clone()).set(0.0);
            }
        }
        for (uid, status) in of {
            gauge!(names::CALLER_RUNNING, "uid" => uid.clone()).set(status.in_flight as f64);
            gauge!(names::CALLER_CONNECTIONS, "uid" => uid.clone()).set(status.connections as f64);
            gauge!(names::CALLER_PAUSE_SECONDS, "uid" => uid.clone()).set(status.paused_for.as_secs_f64());
        }
        for (uid, counts) in counted {
            counter!(names::CALLER_REQUESTS, "uid" => uid.clone()).absolute(counts.begun);
            counter!(names::CALLER_MALFORMED, "uid" => uid.clone()).absolute(counts.malformed);
            counter!(names::CALLER_BYTES, "uid" => uid.clone()).absolute(counts.bytes);
            for quota in Quota::ALL {
                let refused = counts.refused[quota as usize];
                counter!(names::CALLER_REFUSED, "uid" => uid.clone(), "quota" => quota.name()).absolute(refused);
            }
        }
    }

    fn policy(&self, peer: &PeerIdentity) -> Arc<Policy> {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        // The last one is for everybody.
        let found = policies.iter().find(|policy| policy.is_for(peer)).or(policies.last());
        found.cloned().unwrap_or_else(|| Arc::new(Policy::default()))
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        // Numbers alone are kept under it, and each change leaves them whole.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallerStatus {
    /// What is open; counts are summed apart.
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.in_flight += other.in_flight;
        self.paused_for = self.paused_for.max(other.paused_for);
    }
}

impl Policy {
    fn resolve(policy: &CallerPolicy) -> Result<Arc<Self>, BindError> {
        Ok(Arc::new(Self {
            name: policy.name.clone(),
            users: user_ids(&policy.users, "callers.users")?,
            groups: group_ids(&policy.groups, "callers.groups")?,
            rpcs: policy.rpcs.iter().copied().collect(),
            priority: policy.priority,
            max_bytes: policy.max_bytes,
            max_connections: policy.max_connections,
            quotas: Quotas {
                max_concurrent: policy.max_concurrent,
                requests_per_minute: policy.requests_per_minute,
                burst: policy.burst,
                malformed_burst: policy.malformed_burst,
            },
        }))
    }

    fn is_for(&self, peer: &PeerIdentity) -> bool {
        let names_nobody = self.users.is_empty() && self.groups.is_empty();
        names_nobody
            || self.users.contains(&peer.uid)
            || self.groups.contains(&peer.gid)
            || peer.groups.iter().any(|group| self.groups.contains(group))
    }
}

impl Accounts {
    /// The number of the account that a user's call goes to.
    fn room_for(&mut self, uid: u32, now: Instant) -> u32 {
        if self.of.contains_key(&uid) || self.of.len() < MAX_ACCOUNTS {
            return uid;
        }
        let idle = self.of.iter().filter(|(_, account)| account.is_idle(now));
        match idle.min_by_key(|(_, account)| account.last_seen).map(|(uid, _)| *uid) {
            Some(forgotten) => {
                if let Some(account) = self.of.remove(&forgotten) {
                    let label = self.label(forgotten);
                    self.forgotten.entry(label).or_default().add(&account.ledger.counts());
                }
                uid
            }
            None => STRANGERS,
        }
    }

    fn account(&mut self, uid: u32, policy: &Arc<Policy>, now: Instant) -> &mut Account {
        let new = || Account { ledger: Ledger::default(), connections: 0, policy: Arc::clone(policy), last_seen: now };
        let account = self.of.entry(uid).or_insert_with(new);
        account.last_seen = now;
        // A user's processes may differ in their groups, and so in their policies; what the user owes stays.
        if !Arc::ptr_eq(&account.policy, policy) {
            account.policy = Arc::clone(policy);
        }
        account
    }

    fn label(&mut self, uid: u32) -> String {
        if self.labelled.len() < MAX_LABELS && uid != STRANGERS {
            self.labelled.insert(uid);
        }
        if self.labelled.contains(&uid) { uid.to_string() } else { "other".to_owned() }
    }
}

impl Account {
    fn is_idle(&self, now: Instant) -> bool {
        self.connections == 0 && self.ledger.owes_nothing(now)
    }
}

/// A connection that counts; dropping it ends it.
#[derive(Debug)]
pub struct ConnectionPermit {
    callers: Arc<Callers>,
    uid: u32,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(account) = self.callers.lock().of.get_mut(&self.uid) {
            account.connections -= 1;
        }
    }
}

/// A call that has begun. It ends with [`end`](Self::end).
#[derive(Debug)]
pub struct Permit {
    callers: Arc<Callers>,
    holder: Holder,
    policy: Arc<Policy>,
    read: Arc<Read>,
    conduct: Arc<Conduct>,
    allows: bool,
    counted: bool,
    begun: Instant,
}

/// What a handler and the access check need to know of a [`Permit`]; it is in the extensions of the request.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The user's policy names the RPC.
    pub allows: bool,
    pub priority: Priority,
    pub conduct: Arc<Conduct>,
}

/// What a call shows of its caller before it ends, and what it holds of what all share.
#[derive(Debug, Default)]
pub struct Conduct {
    has_asked: AtomicBool,
    has_sent_malformed: AtomicBool,
    /// Input that has ended a decoder, and was counted then, whether or not the call comes to its end; that end, or its frame's, is not counted again.
    harms: AtomicU32,
    /// `None` for a call that nobody counts.
    caller: Option<Caller>,
}

/// Whom a call's conduct is told of.
#[derive(Debug)]
struct Caller {
    callers: Arc<Callers>,
    policy: Arc<Policy>,
    holder: Holder,
    hang_up: CancellationToken,
}

impl Conduct {
    /// It asked for work, and a place was found for it.
    pub fn asked(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// It sent something that cannot be read and does not end it, such as one frame of many. It counts at once, as a request would.
    pub fn malformed(&self) {
        self.has_sent_malformed.store(true, Ordering::Relaxed);
        if !self.is_counted() {
            self.count_malformed();
        }
    }

    /// What it sent has ended a decoder. It counts at once: who leaves before the call has ended has cost the process all the same.
    pub fn harmed(&self) {
        self.harms.fetch_add(1, Ordering::Relaxed);
        self.count_malformed();
    }

    /// Whether malformed input that is told now was counted as harm.
    fn is_counted(&self) -> bool {
        self.harms.try_update(Ordering::Relaxed, Ordering::Relaxed, |harms| harms.checked_sub(1)).is_ok()
    }

    fn count_malformed(&self) {
        self.with_ledger(|ledger, policy| ledger.malformed(&policy.quotas, Instant::now()));
    }

    /// To be asked before a further frame is looked at.
    ///
    /// # Errors
    /// [`Error::QuotaSpent`] while its user has to pause, if this call has sent something malformed: those of other people, whom the user serves as well, go on.
    pub fn check(&self) -> Result<(), Error> {
        if !self.has_sent_malformed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let refused = self.with_ledger(|ledger, policy| {
            let refusal = ledger.paused(&policy.quotas, Instant::now())?;
            ledger.refuse(refusal.quota);
            Some(refusal.into_error(&policy.name, &policy.quotas))
        });
        refused.flatten().map_or(Ok(()), Err)
    }

    /// Holds bytes of a frame that waits to be looked at.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is no room for them.
    pub fn hold_frame(&self, bytes: u64) -> Result<Option<Share>, Error> {
        self.hold(|callers| &callers.arriving, bytes)
    }

    /// Holds a session of active liveness.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if the user has its share of them.
    pub fn hold_session(&self) -> Result<Option<Share>, Error> {
        self.hold(|callers| &callers.sessions, 1)
    }

    /// Holds the bytes of an answer with a picture in it until its caller, who may read slowly or not at all, has read them. Others have some kilobytes, and are not held.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is no room for them.
    pub fn hold_answer(&self, data: Bytes) -> Result<Bytes, Error> {
        if data.len() < LONG_ANSWER_BYTES {
            return Ok(data);
        }
        let share = self.hold(|callers| &callers.arriving, data.len() as u64)?;
        Ok(match share.zip(self.caller.as_ref()) {
            Some((share, caller)) => share.until_read(data, caller.hang_up.clone()),
            None => data,
        })
    }

    fn hold(&self, room: impl FnOnce(&Callers) -> &Arc<Room>, amount: u64) -> Result<Option<Share>, Error> {
        let Some(Caller { callers, holder, .. }) = &self.caller else { return Ok(None) };
        let share = room(callers).take(*holder, amount);
        share.map(Some).ok_or(Error::Overloaded { retry_after: RETRY_WHEN_FULL })
    }

    fn with_ledger<T>(&self, act: impl FnOnce(&mut Ledger, &Policy) -> T) -> Option<T> {
        let Caller { callers, policy, holder, .. } = self.caller.as_ref()?;
        callers.lock().of.get_mut(&holder.uid).map(|account| act(&mut account.ledger, policy))
    }
}

impl Permit {
    pub fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    pub fn terms(&self) -> Terms {
        Terms { allows: self.allows, priority: self.policy.priority, conduct: Arc::clone(&self.conduct) }
    }

    /// The request's body, counted and bounded.
    pub fn measure(&self, body: tonic::body::Body) -> tonic::body::Body {
        tonic::body::Body::new(Measured::new(body, self))
    }

    /// Ends the call, which was answered with `code`.
    pub fn end(self, code: Code) {
        if !self.counted {
            return;
        }
        let [has_asked, has_sent_malformed] =
            [&self.conduct.has_asked, &self.conduct.has_sent_malformed].map(|flag| flag.load(Ordering::Relaxed));
        let end = match code {
            // Who sends nothing, or bad frames, has done no good.
            Code::Ok if has_sent_malformed || !has_asked => End::Other,
            Code::Ok => End::Good,
            Code::InvalidArgument if self.conduct.is_counted() => End::Other,
            Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented | Code::OutOfRange => End::Malformed,
            _ => End::Other,
        };
        let now = Instant::now();
        let mut accounts = self.callers.lock();
        // Who has something at work is not forgotten.
        let Some(account) = accounts.of.get_mut(&self.holder.uid) else { return };
        account.ledger.end(&self.policy.quotas, end, now.saturating_duration_since(self.begun), now);
        account.ledger.read(self.read.bytes.load(Ordering::Relaxed));
        if self.read.is_too_long.load(Ordering::Relaxed) {
            account.ledger.refuse(Quota::Bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Principal;
    use crate::ops::counts::{Counts, label};

    fn peer(uid: u32, groups: &[u32]) -> PeerIdentity {
        PeerIdentity { uid, gid: 65_534, groups: groups.into(), pid: None, hang_up: CancellationToken::new() }
    }

    fn with_policies(policies: &[CallerPolicy]) -> Arc<Callers> {
        Callers::resolve(&Config { callers: policies.to_vec(), ..Config::default() }).unwrap()
    }

    fn uids(callers: &Callers) -> Vec<u32> {
        callers.status(None).into_iter().map(|status| status.uid).collect()
    }

    #[test]
    fn the_first_policy_that_names_user_or_group_holds_and_the_default_for_all_others() {
        let policy = |name: &str, users: &[u32], groups: &[u32]| CallerPolicy {
            name: name.into(),
            users: users.iter().copied().map(Principal::Id).collect(),
            groups: groups.iter().copied().map(Principal::Id).collect(),
            ..CallerPolicy::default()
        };
        let callers = with_policies(&[policy("group", &[], &[50]), policy("one", &[1, 2], &[])]);
        let of = |peer: PeerIdentity| callers.policy(&peer).name.clone();
        let found = [of(peer(1, &[])), of(peer(1, &[7, 50])), of(peer(50, &[])), of(peer(3, &[1]))];
        assert_eq!(found, ["one", "group", "default", "default"]);
    }

    #[test]
    fn accounts_are_bounded_and_who_has_something_at_work_keeps_its_own() {
        let callers = with_policies(&[]);
        let begin = |uid: u32| callers.begin(&peer(uid, &[]), true, Some(Rpc::Verify)).unwrap();
        let busy: Vec<Permit> = (0..1000).map(begin).collect();
        for uid in 1000..5000 {
            begin(uid).end(Code::Ok);
        }
        let known = uids(&callers);
        assert_eq!(known.len(), MAX_ACCOUNTS);
        assert!(known.starts_with(&(0..1000).collect::<Vec<_>>()) && known.contains(&4999) && !known.contains(&1000));
        // Nobody is idle: whoever comes now shares one account, and gives its places back to that.
        let more: Vec<Permit> = (5000..5100).map(begin).collect();
        let known = callers.status(None);
        assert!(known.len() <= MAX_ACCOUNTS + 1, "{}", known.len());
        let shared = known.last().unwrap();
        assert_eq!((shared.uid, shared.in_flight), (STRANGERS, 100 - (MAX_ACCOUNTS - 1000)));
        busy.into_iter().chain(more).for_each(|permit| permit.end(Code::Ok));
        assert!(callers.status(None).iter().all(|status| status.in_flight == 0));
    }

    #[test]
    fn a_user_who_was_forgotten_and_comes_again_is_counted_on_in_metrics() {
        let (callers, seen) = (with_policies(&[]), Counts::default());
        let call = |uid: u32| callers.begin(&peer(uid, &[]), true, Some(Rpc::Verify)).unwrap().end(Code::Ok);
        let observe = || {
            metrics::with_local_recorder(&seen, || callers.observe());
            let begun = seen.counters(names::CALLER_REQUESTS);
            begun.iter().map(|(key, begun)| (label(key, "uid").to_owned(), *begun)).collect::<BTreeMap<_, _>>()
        };
        (0..5).for_each(|_| call(1));
        assert_eq!(observe()["1"], 5);
        (10..3010).for_each(call);
        assert!(!uids(&callers).contains(&1));
        (0..2).for_each(|_| call(1));
        let begun = observe();
        assert_eq!((begun["1"], begun.values().sum::<u64>(), begun.len()), (7, 3007, MAX_LABELS + 1));
    }

    #[test]
    fn who_may_not_call_has_no_account_of_its_own() {
        let callers = with_policies(&[]);
        for uid in 0..300 {
            let begun = callers.begin(&peer(uid, &[]), false, Some(Rpc::Verify));
            begun.into_iter().for_each(|permit| permit.end(Code::PermissionDenied));
        }
        let [shared] = callers.status(None).try_into().unwrap();
        // All together are held up by the pauses, since none of them sends anything good.
        assert!(shared.uid == STRANGERS && shared.counts.begun < 100 && !shared.paused_for.is_zero(), "{shared:?}");
    }

    /// It was: told to come again for what is never allowed, and the operator could not see the status.
    #[test]
    fn what_a_policy_does_not_name_is_refused_as_such_and_the_operator_sees_the_status() {
        let policy = CallerPolicy {
            name: "a".into(),
            rpcs: vec![Rpc::DetectFaces],
            requests_per_minute: 1,
            burst: 1,
            max_concurrent: 1,
            ..CallerPolicy::default()
        };
        let callers = with_policies(&[policy]);
        let begin = |uid: u32, rpc: Rpc| callers.begin(&peer(uid, &[]), true, Some(rpc));
        let busy = begin(1, Rpc::DetectFaces).unwrap();
        assert!(begin(1, Rpc::DetectFaces).is_err());
        assert!(!begin(1, Rpc::Verify).unwrap().allows);
        busy.end(Code::Ok);
        assert!(!begin(1, Rpc::GetStatus).unwrap().allows && begin(0, Rpc::GetStatus).unwrap().allows);
    }

    #[test]
    fn a_changed_policy_pardons_and_the_same_read_anew_does_not() {
        let rate = |per_minute| {
            let policy =
                CallerPolicy { name: "a".into(), requests_per_minute: per_minute, burst: 1, ..CallerPolicy::default() };
            with_policies(&[policy])
        };
        let callers = rate(1);
        let begins = || callers.begin(&peer(1, &[]), true, Some(Rpc::Verify)).is_ok();
        assert_eq!([begins(), begins()], [true, false]);
        callers.replace(&rate(1));
        assert!(!begins());
        callers.replace(&rate(2));
        assert!(begins());
    }
    #[test]
    fn neither_another_group_nor_a_call_without_work_pardons() {
        let policy = |name: &str, groups: &[u32]| CallerPolicy {
            name: name.into(),
            groups: groups.iter().copied().map(Principal::Id).collect(),
            malformed_burst: 3,
            ..CallerPolicy::default()
        };
        let callers = with_policies(&[policy("kiosk", &[50]), policy("rest", &[])]);
        let call = |groups: &[u32], code, conduct: fn(&Conduct)| {
            let permit = callers.begin(&peer(1, groups), true, Some(Rpc::ScanMrz)).ok()?;
            conduct(&permit.terms().conduct);
            permit.end(code);
            Some(())
        };
        // Empty scans and the user's other process between them: they gather all the same.
        for _ in 0..3 {
            call(&[], Code::InvalidArgument, |_| ()).unwrap();
            call(&[50], Code::Ok, |_| ()).unwrap();
        }
        call(&[], Code::InvalidArgument, |_| ()).unwrap();
        assert!(call(&[50], Code::Ok, |_| ()).is_none() && call(&[], Code::Ok, |_| ()).is_none());

        // Frames count one by one, in a call that ends well.
        let callers = with_policies(&[policy("rest", &[])]);
        let permit = callers.begin(&peer(2, &[]), true, Some(Rpc::VerifyLive)).unwrap();
        permit.terms().conduct.asked();
        (0..4).for_each(|_| permit.terms().conduct.malformed());
        permit.end(Code::Ok);
        assert!(callers.begin(&peer(2, &[]), true, Some(Rpc::VerifyLive)).is_err());
        assert_eq!(callers.status(Some(2))[0].counts.malformed, 4);
    }

    /// It was: who left before the call had ended was never counted.
    #[test]
    fn harm_counts_once_however_the_call_ends() {
        let callers = with_policies(&[]);
        let call = |code: Code, conduct: fn(&Conduct)| {
            let permit = callers.begin(&peer(1, &[]), true, Some(Rpc::VerifyLive)).unwrap();
            conduct(&permit.terms().conduct);
            permit.end(code);
            callers.status(Some(1))[0].counts.malformed
        };
        assert_eq!(call(Code::Cancelled, Conduct::harmed), 1);
        assert_eq!(call(Code::InvalidArgument, Conduct::harmed), 2);
        // A frame that ended a decoder, and another that is only bad.
        let two_frames = |conduct: &Conduct| {
            conduct.harmed();
            conduct.malformed();
            conduct.malformed();
        };
        assert_eq!(call(Code::Ok, two_frames), 4);
        assert_eq!(call(Code::InvalidArgument, |_| ()), 5);
    }

    #[test]
    fn a_user_has_a_share_of_the_connections_and_the_operator_all() {
        let callers = with_policies(&[]);
        let connections = |uid: u32| (0..20).map_while(|_| callers.connect(&peer(uid, &[]), 8)).collect::<Vec<_>>();
        assert_eq!(
            (connections(1).len(), connections(2).len(), connections(0).len()),
            (6, 6, 8 + OPERATOR_CONNECTIONS)
        );
    }
}
