//! Who is told of trouble, and how those who are told behave.

use super::*;

impl Lot {
    /// In half of the worlds somebody is told, in some two are.
    pub(super) fn alerts(&mut self, plan: &mut Plan, names: &[&str]) {
        for _ in 0..self.of(&[0, 0, 1, 2]) {
            let mut text = "[[alert]]\nexec = 'page'\n".to_owned();
            let on = self.of(&[
                "",
                "on = ['unhealthy', 'restarted', 'uncured', 'exhausted', 'failed', 'recovered']\n",
                "on = ['unhealthy', 'recovered']\n",
                "on = ['restarted', 'failed']\n",
            ]);
            text.push_str(on);
            if self.chance(300) {
                let _ = writeln!(text, "services = ['{}', 'w*']", self.of(names));
            }
            let repeat = self.ms(&[0, 1_000, 20_000, 300_000]).as_millis();
            let _ = writeln!(text, "repeat_after_ms = {repeat}");
            let _ = writeln!(text, "timeout_ms = {}", self.of(&[5, 100, 3_000]));
            plan.alerts.push_str(&text);
        }
        if plan.alerts.is_empty() {
            return;
        }
        let each = self.of(&[0, 2, 6]);
        if each > 0 {
            plan.weights.0.insert(Fault::Receiver, each as u32);
        }
        let minutes = (plan.length / plan.pace).as_secs().div_ceil(60);
        for _ in 0..each * minutes {
            let command = self.of(&[
                "receiver takes",
                "receiver refuses",
                "receiver hangs",
                "alert-test",
            ]);
            plan.deeds.push(Deed {
                at: self.time(plan.length),
                fault: Fault::Receiver,
                when: self.when(),
                what: What::Command(command.to_owned()),
                service: None,
            });
        }
    }
}
