//! How long before the next attempt, and how many there are.
//!
//! Pure arithmetic; saturating throughout, so no attempt number overflows.

use crate::config::{Backoff, RetryPolicy};
use crate::prng::Prng;
use crate::time::micros;
use std::time::Duration;

/// The delay before attempt `attempt`, counted from 1: `fixed` delay; `linear` delay·n;
/// `exponential` delay·2^(n−1); capped at `max_delay`; then ± `jitter` (a fraction of the result).
pub fn delay_for_attempt(policy: &RetryPolicy, attempt: u32, prng: &mut Prng) -> Duration {
    let n = attempt.max(1);
    let delay = micros(policy.delay);
    let grown = match policy.backoff {
        Backoff::Fixed => delay,
        Backoff::Linear => delay.saturating_mul(u64::from(n)),
        Backoff::Exponential => delay.saturating_mul(2u64.saturating_pow(n - 1)),
    };
    let capped = grown.min(micros(policy.max_delay));
    // In millionths: what a float would do here differs between machines, integers do not.
    let fraction = (policy.jitter.clamp(0.0, 1.0) * 1e6) as u64;
    let spread = (u128::from(capped) * u128::from(fraction) / 1_000_000) as u64;
    let jittered = match spread {
        0 => capped,
        _ => {
            (capped - spread).saturating_add(prng.below(spread.saturating_mul(2).saturating_add(1)))
        }
    };
    Duration::from_micros(jittered)
}

/// Whether one more automatic restart is within the budget.
pub fn has_budget(policy: &RetryPolicy, attempts: u32) -> bool {
    policy.max_attempts.is_none_or(|max| attempts < max)
}

/// `3/10`, or `3` where there is no limit.
pub fn budget_words(policy: &RetryPolicy, attempts: u32) -> String {
    match policy.max_attempts {
        Some(max) => format!("{attempts}/{max}"),
        None => format!("{attempts}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnExhausted;

    fn policy(backoff: Backoff, jitter: f64) -> RetryPolicy {
        RetryPolicy {
            max_attempts: Some(3),
            delay: Duration::from_secs(1),
            backoff,
            max_delay: Duration::from_secs(300),
            jitter,
            stability_period: Duration::from_secs(30),
            on_exhausted: OnExhausted::Keep,
            on_exhausted_exec: None,
            escalate: None,
        }
    }

    fn seconds(policy: &RetryPolicy, attempt: u32) -> u64 {
        delay_for_attempt(policy, attempt, &mut Prng::new(1)).as_secs()
    }

    #[test]
    fn grows_as_its_name_says_up_to_the_cap() {
        let fixed = policy(Backoff::Fixed, 0.0);
        let linear = policy(Backoff::Linear, 0.0);
        let exponential = policy(Backoff::Exponential, 0.0);
        assert_eq!([1, 2, 9].map(|n| seconds(&fixed, n)), [1, 1, 1]);
        assert_eq!([1, 2, 9, 400].map(|n| seconds(&linear, n)), [1, 2, 9, 300]);
        assert_eq!(
            [1, 2, 3, 9, 10].map(|n| seconds(&exponential, n)),
            [1, 2, 4, 256, 300]
        );
    }

    #[test]
    fn no_attempt_number_overflows() {
        for backoff in [Backoff::Fixed, Backoff::Linear, Backoff::Exponential] {
            let mut wild = policy(backoff, 1.0);
            wild.delay = Duration::MAX;
            wild.max_delay = Duration::MAX;
            for n in [0, 1, 63, 64, 65, u32::MAX] {
                delay_for_attempt(&wild, n, &mut Prng::new(n.into()));
            }
        }
    }

    #[test]
    fn jitter_stays_within_its_fraction_and_uses_both_sides() {
        let jittered = policy(Backoff::Fixed, 0.1);
        let mut prng = Prng::new(7);
        let (mut below, mut above) = (false, false);
        for _ in 0..1000 {
            let delay = delay_for_attempt(&jittered, 1, &mut prng);
            assert!((900..=1100).contains(&delay.as_millis()), "{delay:?}");
            below |= delay < Duration::from_secs(1);
            above |= delay > Duration::from_secs(1);
        }
        assert!(below && above);
    }

    #[test]
    fn exactly_max_attempts_are_within_the_budget() {
        let mut p = policy(Backoff::Fixed, 0.0);
        assert_eq!(
            [0, 2, 3, 4].map(|n| has_budget(&p, n)),
            [true, true, false, false]
        );
        p.max_attempts = Some(0);
        assert!(!has_budget(&p, 0));
        p.max_attempts = None;
        assert!(has_budget(&p, u32::MAX));
    }
}
