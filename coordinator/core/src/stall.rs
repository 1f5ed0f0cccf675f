//! When it is reported that a run lacks workers, and when another job is looked for that could go first.

use crate::leases::Millis;

/// How long something must be missing before it is told: workers come and go.
const TELL_AFTER: Millis = 10_000;
/// How often it is told again.
const TELL_AGAIN_AFTER: Millis = 600_000;
/// How long a job waits for workers of its compute class before one goes first that can be computed. A
/// worker that is restarted is back before that.
const SET_ASIDE_AFTER: Millis = 60_000;
/// How often another job is looked for from then on.
const SEEK_EVERY: Millis = 1_000;

/// What a run lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Nobody is here.
    Worker,
    /// There are workers, and none of the class that the job is pinned to.
    Class,
    /// Everything is in but what the job's audit asks a second worker for.
    Second,
}

/// Who is here for a run that is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Workers that are connected.
    pub connected: usize,
    /// One of them may compute for the run.
    pub has_eligible: bool,
    /// A pass is open: there is something to compute.
    pub pass_is_open: bool,
    /// Everything of the pass is in but second answers, without which nothing counts
    /// ([`crate::leases::LeaseScheduler::is_unconfirmed`]).
    pub is_unconfirmed: bool,
}

impl Presence {
    /// What the run lacks to go on.
    pub fn lack(self) -> Option<Lack> {
        if self.connected == 0 {
            Some(Lack::Worker)
        } else if !self.pass_is_open {
            None
        } else if !self.has_eligible {
            Some(Lack::Class)
        } else {
            self.is_unconfirmed.then_some(Lack::Second)
        }
    }
}

/// Since when the run has lacked something.
#[derive(Debug, Default)]
pub struct Stall(Option<Lacking>);

#[derive(Debug)]
struct Lacking {
    lack: Lack,
    since: Millis,
    told: Option<Millis>,
    /// When it was looked at last.
    looked: Millis,
    /// When another job was looked for that might go first.
    sought: Option<Millis>,
}

impl Stall {
    /// Takes note of what is lacked now. Says whether that is to be told.
    pub fn look(&mut self, lack: Option<Lack>, now: Millis) -> bool {
        let Some(lack) = lack else {
            self.0 = None;
            return false;
        };
        match &mut self.0 {
            Some(before) if before.lack == lack => {
                before.looked = now;
                let due = before
                    .told
                    .map_or(before.since + TELL_AFTER, |told| told + TELL_AGAIN_AFTER);
                if due > now {
                    return false;
                }
                before.told = Some(now);
                true
            }
            changed => {
                let since = now;
                *changed = Some(Lacking {
                    lack,
                    since,
                    told: None,
                    looked: now,
                    sought: None,
                });
                false
            }
        }
    }

    /// Whether it is time to look for a job that those who are here may compute. The queue may be long, so
    /// that it is not looked through with each word of a worker.
    pub fn seeks(&mut self, now: Millis) -> bool {
        let lacking = self.0.as_mut();
        let Some(lacking) =
            lacking.filter(|it| it.lack == Lack::Class && it.since + SET_ASIDE_AFTER <= now)
        else {
            return false;
        };
        let recently = |at: Millis| at + SEEK_EVERY > now;
        if lacking.sought.is_some_and(recently) {
            return false;
        }
        lacking.sought = Some(now);
        true
    }

    /// When there is something to look for, if nothing else happens.
    pub fn due(&self) -> Option<Millis> {
        let lacking = self.0.as_ref()?;
        let tell = lacking
            .told
            .map_or(lacking.since + TELL_AFTER, |told| told + TELL_AGAIN_AFTER);
        let seek = lacking.since + SET_ASIDE_AFTER;
        if lacking.lack == Lack::Class && lacking.looked < seek {
            Some(tell.min(seek))
        } else {
            Some(tell)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_lacks_a_worker_or_one_of_its_class_or_a_second_one() {
        for (connected, has_eligible, pass_is_open, is_unconfirmed, lack) in [
            (0, false, false, false, Some(Lack::Worker)),
            (0, false, true, true, Some(Lack::Worker)),
            // Between two passes nobody is needed.
            (2, false, false, false, None),
            (2, false, true, false, Some(Lack::Class)),
            (2, false, true, true, Some(Lack::Class)),
            (1, true, true, false, None),
            (1, true, true, true, Some(Lack::Second)),
        ] {
            let presence = Presence {
                connected,
                has_eligible,
                pass_is_open,
                is_unconfirmed,
            };
            assert_eq!(presence.lack(), lack, "{presence:?}");
        }
    }

    #[test]
    fn a_lack_is_told_after_a_while_and_then_rarely() {
        let start: Millis = 5_000;
        let mut stall = Stall::default();
        let mut told = Vec::new();
        for second in 0..2_000 {
            let now = start + 1000 * second;
            if stall.look(Some(Lack::Worker), now) {
                told.push(second);
            }
            assert!(stall.due().is_some_and(|due| due > now), "{second}");
        }
        assert_eq!(told, [10, 610, 1210, 1810]);
        let class = Some(Lack::Class);
        let mut due = vec![start];
        let mut stall = Stall::default();
        while due.len() < 5 {
            stall.look(class, due[due.len() - 1]);
            due.extend(stall.due());
        }
        let after = due.iter().map(|due| (*due - start) / 1000);
        assert_eq!(after.collect::<Vec<_>>(), [0, 10, 60, 610, 1210]);
    }

    #[test]
    fn what_passes_soon_is_not_told_and_another_lack_begins_anew() {
        let start: Millis = 5_000;
        let at = |second: Millis| start + 1000 * second;
        let mut stall = Stall::default();
        assert!(!stall.look(Some(Lack::Worker), at(0)));
        assert!(!stall.look(None, at(9)));
        assert_eq!(stall.due(), None);
        assert!(!stall.look(Some(Lack::Worker), at(10)));
        assert!(!stall.look(Some(Lack::Class), at(15)));
        assert!(!stall.look(Some(Lack::Class), at(24)));
        assert!(stall.look(Some(Lack::Class), at(25)));
        assert!(!stall.seeks(at(74)));
        assert!(stall.seeks(at(75)) && !stall.seeks(at(75)));
        assert!(stall.seeks(at(76)));
        stall.look(Some(Lack::Worker), at(77));
        assert!(!stall.seeks(at(200)));
    }
}
