//! How the fake kernel's processes answer: checks, and what they say of themselves.

use super::*;

impl Kernel {
    pub(super) fn check(
        &mut self,
        now: Time,
        service: &str,
        probe: &str,
        check: CheckId,
    ) -> Answers {
        let quick = Duration::from_millis(1);
        let script = self.scripts.entry(service.to_owned()).or_default();
        let mood = script
            .moods
            .get(probe)
            .or_else(|| script.moods.get(""))
            .cloned();
        let ours = Mood::Trouble(Trouble::NoDescriptor);
        let mood = if now < self.trouble_until {
            Some(ours)
        } else {
            mood
        };
        if let Some(Mood::Trouble(trouble)) = mood {
            let outcome = Outcome::Inconclusive(trouble);
            return told(quick, finished(check, outcome, quick));
        }
        let outcome = match self.attitude(now, service, check.run.number, probe) {
            Some(Mood::Answer) => Outcome::Pass,
            Some(Mood::Fail(reason)) => Outcome::Fail(reason),
            Some(Mood::Trouble(trouble)) => Outcome::Inconclusive(trouble),
            Some(Mood::Mute) => {
                self.mute.push(check);
                return Vec::new();
            }
            None => Outcome::Fail(Reason::Refused),
        };
        told(quick, finished(check, outcome, quick))
    }

    /// What a process says of itself now, and when it does so again. One that is mute says nothing.
    pub fn says(
        &mut self,
        now: Time,
        service: &str,
        number: u32,
        pid: Pid,
    ) -> Option<(Box<[Notice]>, Option<Duration>)> {
        // What leans on another that is unwell is well itself.
        let mute = !matches!(
            self.attitude(now, service, number, ""),
            Some(Mood::Answer | Mood::Fail(Reason::Status(503)))
        );
        let process = self.processes.get_mut(&(service.to_owned(), number))?;
        if process.exit.is_some() || process.pid != pid {
            return None;
        }
        let mut says = Vec::new();
        if !mute {
            says.extend((!process.said).then_some(Notice::Ready));
            says.extend(process.watchdog.map(|_| Notice::Watchdog));
            process.said = true;
        }
        let pace = process.watchdog.map(|period| period / 2);
        let again = match (pace, process.said) {
            (None, true) => None,
            (pace, _) => Some(pace.unwrap_or(Duration::from_millis(200))),
        };
        Some((says.into(), again))
    }

    /// How a run's process would answer now; None: nobody listens.
    fn attitude(&self, now: Time, service: &str, number: u32, probe: &str) -> Option<Mood> {
        let script = self.scripts.get(service)?;
        let process = self.processes.get(&(service.to_owned(), number))?;
        let age = now.since(process.born);
        if process.exit.is_some() || age < script.ready_after {
            return None;
        }
        if now < process.stuck_until {
            return Some(Mood::Mute);
        }
        if process.mood.is_some() {
            return process.mood.clone();
        }
        let hung = script.hangs_after.is_some_and(|after| age >= after);
        let flapped = script.flaps.is_some_and(|(up, down)| {
            let cycle = micros(up + down).max(1);
            micros(age) % cycle >= micros(up)
        });
        if process.bad && (hung || flapped) {
            return Some(Mood::Mute);
        }
        let answers = |other: &String| {
            if self.sockets(other).watched {
                // Whoever leans on it connects to it, and that starts it.
                return true;
            }
            let number = self.youngest_number(other);
            let attitude = number.and_then(|number| self.attitude(now, other, number, ""));
            attitude == Some(Mood::Answer)
        };
        if !script.leans_on.iter().all(answers) {
            return Some(Mood::Fail(Reason::Status(503)));
        }
        let moods = &script.moods;
        let mood = moods.get(probe).or_else(|| moods.get("")).cloned();
        Some(mood.unwrap_or(Mood::Answer))
    }
}
