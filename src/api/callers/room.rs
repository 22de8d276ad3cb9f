//! Room that all callers share, and of which no user but the operator has more than three quarters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// What one user who is not the operator may have of something that all share: three quarters, so that nobody alone can take it from everybody else.
pub fn share_of(all: u64) -> u64 {
    all - all / 4
}

/// So much of something, such as bytes of messages.
#[derive(Debug)]
pub struct Room {
    most: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    /// By user; nobody who holds nothing.
    of: BTreeMap<u32, u64>,
}

/// Whose share something counts to.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    pub uid: u32,
    pub is_operator: bool,
}

/// A part of a room, given back when dropped.
#[derive(Debug)]
pub struct Share {
    room: Arc<Room>,
    uid: u32,
    amount: u64,
}

impl Room {
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// Takes a part; `None` if there is no room, or none for this user.
    pub fn take(self: &Arc<Self>, holder: Holder, amount: u64) -> Option<Share> {
        self.grow(holder, amount).then(|| Share { room: Arc::clone(self), uid: holder.uid, amount })
    }

    /// Takes what a user's part has grown by; false if there is no room, or none for this user.
    pub(super) fn grow(&self, Holder { uid, is_operator }: Holder, amount: u64) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.of.get(&uid).copied().unwrap_or(0);
        let share = if is_operator { self.most } else { share_of(self.most) };
        if held.all + amount > self.most || own + amount > share {
            return false;
        }
        held.all += amount;
        held.of.insert(uid, own + amount);
        true
    }

    pub(super) fn shrink(&self, uid: u32, amount: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(amount);
        if let Some(own) = held.of.get_mut(&uid) {
            *own = own.saturating_sub(amount);
            if *own == 0 {
                held.of.remove(&uid);
            }
        }
    }
}

/// How long a long answer may wait to be read.
const PATIENCE: Duration = Duration::from_secs(20);

impl Share {
    /// Bytes that keep their share until nothing refers to them any more. If that takes too long, `hang_up` is cancelled.
    pub fn until_read(self, data: Bytes, hang_up: CancellationToken) -> Bytes {
        let (unread, read) = oneshot::channel();
        tokio::spawn(async move {
            if tokio::time::timeout(PATIENCE, read).await.is_err() {
                hang_up.cancel();
            }
        });
        Bytes::from_owner(Unread { data, _share: self, _unread: unread })
    }
}

/// An answer on its way to its reader.
struct Unread {
    data: Bytes,
    _share: Share,
    _unread: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.shrink(self.uid, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_share_and_the_operator_what_is_left_and_all_comes_back() {
        let room = Room::new(1000);
        let user = |uid| Holder { uid, is_operator: false };
        let operator = Holder { uid: 0, is_operator: true };
        let shares = [room.take(user(1), 750), room.take(user(2), 200), room.take(operator, 50)];
        assert!(shares.iter().all(Option::is_some));
        assert!(room.take(operator, 1).is_none());
        drop(shares);
        assert!(room.take(user(1), 751).is_none() && room.take(operator, 1001).is_none());
        let most = room.take(user(1), 750);
        assert!(most.is_some() && room.take(user(1), 1).is_none() && room.take(user(2), 251).is_none());
        drop(most);
        let held = room.held.lock().unwrap();
        assert!(held.all == 0 && held.of.is_empty(), "{held:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_keeps_its_share_until_it_is_read_and_not_for_ever() {
        let room = Room::new(1000);
        let holder = Holder { uid: 0, is_operator: true };
        let answer = |hang_up: &CancellationToken| {
            room.take(holder, 1000).unwrap().until_read(Bytes::from_static(b"frame"), hang_up.clone())
        };
        let is_free = || room.take(holder, 1000).is_some();
        let hang_up = CancellationToken::new();
        let sent = answer(&hang_up);
        let piece = sent.slice(1..3);
        drop(sent);
        assert!(!is_free());
        drop(piece);
        assert!(is_free());
        tokio::time::sleep(2 * PATIENCE).await;
        assert!(!hang_up.is_cancelled());

        let unread = answer(&hang_up);
        tokio::time::timeout(PATIENCE + Duration::from_secs(1), hang_up.cancelled()).await.unwrap();
        assert_eq!((&unread[..], is_free()), (&b"frame"[..], false));
        drop(unread);
        assert!(is_free());
    }
}
