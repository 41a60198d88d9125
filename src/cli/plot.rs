//! A forecast as a picture: SVG 1.1 with four lanes over one axis of time.
//!
//! What users saw, the service's state, what the gate decided, and the budget. Colours follow the
//! viewer's light or dark scheme. Whole numbers only: places are tenths of a pixel.

use crate::control::forecast::Forecast;
use crate::control::render::{clean, duration, elapsed, forecast_in_short};
use crate::time::{millis, rfc3339_ms, spoken};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

const WIDTH: u64 = 1000;
/// Where time begins and ends, in pixels.
const LEFT: u64 = 96;
const RIGHT: u64 = 976;
/// What is narrower (in tenths) is drawn together with its neighbours.
const NARROW: u64 = 8;

/// No variables: not every program that shows SVG knows them. The colours of bars and marks suit
/// both schemes.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.h{font-size:15px;font-weight:600}\
.f{fill:#59636e}.e{text-anchor:end}.m{text-anchor:middle}.back{fill:#fff}\
.grid{stroke:#d1d9e0}.cap{stroke:#8b949e;stroke-dasharray:4 3}\
.budget{fill:none;stroke:#4a8fd6;stroke-width:2}\
.good,.running,.allowed{fill:#46a15f}.bad,.denied{fill:#dc3c46}.unhealthy{fill:#e8833a}\
.starting{fill:#4a8fd6}.stopping,.backoff,.deferred{fill:#d9a520}.blocked{fill:#9a80d0}\
.inactive,.exited,.cancelled,.absorbed{fill:#98a1ab}.failed{fill:#9c2630}\
.changing{fill:url(#mix)}.flapping{fill:url(#flap)}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.f{fill:#9198a1}.back{fill:#0d1117}\
.grid{stroke:#30363d}}";

/// The state lane's words, in the order of the legend.
const STATES: [&str; 10] = [
    "running",
    "unhealthy",
    "starting",
    "stopping",
    "backoff",
    "blocked",
    "inactive",
    "exited",
    "failed",
    "changing",
];

/// The picture.
pub fn svg(forecast: &Forecast) -> String {
    let mut plot = Plot {
        forecast,
        length: forecast.length_ms.max(1),
        origin: origin(forecast),
        out: String::new(),
    };
    plot.draw();
    plot.out
}

fn origin(forecast: &Forecast) -> Option<u64> {
    let at = humantime::parse_rfc3339(forecast.origin.as_deref()?).ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(millis)
}

/// Outages that are too near to each other to be seen apart.
struct Outages {
    from: u64,
    to: u64,
    times: u64,
    down: u64,
}

struct Plot<'a> {
    forecast: &'a Forecast,
    length: u64,
    origin: Option<u64>,
    out: String,
}

/// Tenths of a pixel as SVG writes them.
fn px(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn escaped(text: &str) -> String {
    let text = clean(text);
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

impl Plot<'_> {
    fn put(&mut self, words: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.out.write_fmt(words);
        self.out.push('\n');
    }

    /// Where a time is, in tenths of a pixel.
    fn x(&self, ms: u64) -> u64 {
        let along = u128::from(ms.min(self.length)) * u128::from((RIGHT - LEFT) * 10);
        LEFT * 10 + (along / u128::from(self.length)) as u64
    }

    fn when(&self, ms: u64) -> String {
        match self.origin {
            Some(origin) => rfc3339_ms(origin.saturating_add(ms)),
            None => elapsed(ms),
        }
    }

    fn draw(&mut self) {
        const USERS: u64 = 78;
        const STATE: u64 = 124;
        const GATE: u64 = 170;
        const BUDGET: u64 = 216;
        const AXIS: u64 = 290;
        let height = AXIS + 82;
        let name = escaped(&self.forecast.service);
        let short = escaped(&forecast_in_short(self.forecast));
        self.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
             <title>{name}: {short}</title>\n<style>{STYLE}</style>\n\
             <defs><pattern id=\"mix\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\">\
             <rect width=\"4\" height=\"4\" class=\"running\"/>\
             <rect width=\"2\" height=\"4\" class=\"stopping\"/></pattern>\
             <pattern id=\"flap\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\">\
             <rect width=\"4\" height=\"4\" class=\"good\"/>\
             <rect width=\"2\" height=\"4\" class=\"bad\"/></pattern></defs>\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" class=\"back\"/>\n\
             <text x=\"16\" y=\"26\" class=\"h\">{name}: {short}</text>"
        ));
        let line = escaped(&self.subtitle());
        self.put(format_args!(
            "<text x=\"16\" y=\"46\" class=\"f\">{line}</text>"
        ));
        self.axis(USERS - 8, AXIS);
        self.users(USERS);
        self.states(STATE);
        self.decisions(GATE);
        self.budget(BUDGET, AXIS - BUDGET - 14);
        self.legend(AXIS + 50);
        self.out.push_str("</svg>\n");
    }

    /// `24 h; down 2 m 10 s (99.8491 % up); with max_attempts=3`
    fn subtitle(&self) -> String {
        let summary = &self.forecast.summary;
        let mut line = duration(self.length);
        if let Some(ppm) = summary.up_ppm {
            let down = duration(summary.down_ms);
            line += &format!("; down {down}, {}.{:04} % up", ppm / 10_000, ppm % 10_000);
        }
        if !self.forecast.set.is_empty() {
            line += &format!("; with {}", self.forecast.set.join(", "));
        }
        let says = self.forecast.scenario.join("; ");
        if !says.is_empty() {
            line += &format!("; {says}");
        }
        // As many letters as fit, whatever the font.
        match line.char_indices().nth(130) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }

    fn label(&mut self, y: u64, words: &str) {
        let (x, y) = (LEFT - 10, y + 20);
        self.put(format_args!(
            "<text x=\"{x}\" y=\"{y}\" class=\"e\">{words}</text>"
        ));
    }

    fn axis(&mut self, top: u64, bottom: u64) {
        let step = step(self.length);
        // With a clock, ticks stand on its round times.
        let first = match self.origin {
            Some(origin) => (step - origin % step) % step,
            None => 0,
        };
        let mut at = first;
        while at <= self.length {
            let x = px(self.x(at));
            let label = self.tick(at, step);
            self.put(format_args!(
                "<line x1=\"{x}\" x2=\"{x}\" y1=\"{top}\" y2=\"{bottom}\" class=\"grid\"/>\
                 <text x=\"{x}\" y=\"{}\" class=\"m f\">{label}</text>",
                bottom + 16
            ));
            at += step;
        }
    }

    fn tick(&self, at: u64, step: u64) -> String {
        let Some(origin) = self.origin else {
            return match at {
                0 => "0".to_owned(),
                at => spoken(Duration::from_millis(at))
                    .replace(" 00 m", "")
                    .replace(" 00 s", "")
                    .replace(" 00 h", ""),
            };
        };
        let time = rfc3339_ms(origin + at);
        let range = match step {
            0..=999 => 11..23,
            1000..=59_999 => 11..19,
            60_000..=43_200_000 if self.length <= 86_400_000 => 11..16,
            60_000..=43_200_000 => 5..16,
            _ => 5..10,
        };
        time.get(range).unwrap_or_default().replace('T', " ")
    }

    fn bar(&mut self, from: u64, to: u64, y: u64, class: &str, title: &str) {
        let (x, width) = (px(from), px((to - from).max(NARROW)));
        self.put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"30\" class=\"{class}\">\
             <title>{title}</title></rect>"
        ));
    }

    fn users(&mut self, y: u64) {
        self.label(y, "users");
        let forecast = self.forecast;
        if forecast.summary.up_ppm.is_none() {
            let words = "a oneshot: nobody asks it";
            self.put(format_args!(
                "<text x=\"{LEFT}\" y=\"{}\" class=\"f\">{words}</text>",
                y + 20
            ));
            return;
        }
        let (left, right) = (LEFT * 10, RIGHT * 10);
        self.bar(left, right, y, "good", "answered");
        let mut open: Option<Outages> = None;
        for stretch in &forecast.lanes.down {
            let length = stretch.to_ms - stretch.from_ms;
            match &mut open {
                Some(open) if self.x(stretch.from_ms) < self.x(open.to) + NARROW => {
                    (open.to, open.times) = (stretch.to_ms, open.times + 1);
                    open.down += length;
                }
                _ => {
                    self.outage(open.take(), y);
                    open = Some(Outages {
                        from: stretch.from_ms,
                        to: stretch.to_ms,
                        times: 1,
                        down: length,
                    });
                }
            }
        }
        // What was not told any more went on like this, as far as is known.
        if let Some(open) = open.as_mut().filter(|_| forecast.lanes.thinned) {
            open.to = self.length;
            open.times += 1;
        }
        self.outage(open, y);
    }

    fn outage(&mut self, open: Option<Outages>, y: u64) {
        let Some(Outages {
            from,
            to,
            times,
            down,
        }) = open
        else {
            return;
        };
        let (begin, end) = (self.when(from), self.when(to));
        let title = match times {
            1 => format!("no answer for {}, from {begin}", duration(down)),
            times => format!("{times} times no answer, from {begin} to {end}"),
        };
        let class = match down * 10 >= (to - from) * 9 {
            true => "bad",
            false => "flapping",
        };
        self.bar(self.x(from), self.x(to), y, class, &title);
    }

    fn states(&mut self, y: u64) {
        self.label(y, "state");
        let forecast = self.forecast;
        let states = &forecast.lanes.states;
        let mut changing: Option<(u64, u64, u64)> = None;
        for (n, now) in states.iter().enumerate() {
            let end_ms = states.get(n + 1).map_or(self.length, |next| next.at_ms);
            let (from, to) = (self.x(now.at_ms), self.x(end_ms));
            let untold = forecast.lanes.thinned && n + 1 == states.len();
            if to - from < NARROW || untold {
                let (_, end, times) = changing.get_or_insert((from, to, 0));
                (*end, *times) = (to, *times + 1);
                continue;
            }
            self.flush(&mut changing, y);
            let class = match (now.unhealthy, now.state.as_str()) {
                (true, "running") => "unhealthy",
                (_, state) => STATES
                    .into_iter()
                    .find(|known| *known == state)
                    .unwrap_or("inactive"),
            };
            let title = format!("{class} from {}", self.when(now.at_ms));
            self.bar(from, to, y, class, &title);
        }
        self.flush(&mut changing, y);
    }

    /// Several states within a pixel.
    fn flush(&mut self, changing: &mut Option<(u64, u64, u64)>, y: u64) {
        if let Some((from, to, times)) = changing.take() {
            self.bar(from, to, y, "changing", &format!("{times} changes"));
        }
    }

    fn decisions(&mut self, y: u64) {
        self.label(y, "restarts");
        let forecast = self.forecast;
        let mut last = (u64::MAX, "");
        for decision in &forecast.lanes.decisions {
            let x = self.x(decision.at_ms);
            let verdict = decision.verdict.as_str();
            if last.1 == verdict && x < last.0 + 2 * NARROW {
                continue;
            }
            last = (x, verdict);
            let title = format!(
                "{} {}: {}",
                self.when(decision.at_ms),
                escaped(verdict),
                escaped(&decision.reason)
            );
            self.mark(x, y + 15, verdict, &title);
        }
    }

    /// Up is yes, a bar wait, a cross no.
    fn mark(&mut self, x: u64, y: u64, verdict: &str, title: &str) {
        let path = match verdict {
            "allowed" => "M0-8L7 6H-7Z",
            "deferred" => "M-5-7H-1V7H-5ZM1-7H5V7H1Z",
            "denied" => "M-7-4L-4-7L0-3L4-7L7-4L3 0L7 4L4 7L0 3L-4 7L-7 4L-3 0Z",
            _ => "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
        };
        let (x, verdict) = (px(x), escaped(verdict));
        self.put(format_args!(
            "<path d=\"{path}\" transform=\"translate({x} {y})\" class=\"{verdict}\">\
             <title>{title}</title></path>"
        ));
    }

    fn budget(&mut self, y: u64, height: u64) {
        self.label(y + height - 20, "attempts");
        let forecast = self.forecast;
        let steps = &forecast.lanes.attempts;
        let used = steps.iter().map(|step| step.used).max().unwrap_or(0);
        let cap = forecast.summary.max_attempts;
        let most = u64::from(cap.unwrap_or(used).max(used).max(1));
        let level = |used: u32| px((y + height) * 10 - u64::from(used) * height * 10 / most);
        if let Some(cap) = cap {
            let at = level(cap);
            self.put(format_args!(
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at}\" y2=\"{at}\" class=\"cap\"/>\
                 <text x=\"{}\" y=\"{}\" class=\"e f\">of {cap}</text>",
                LEFT - 10,
                y + 5
            ));
        }
        let mut path = format!("M{LEFT} {}", level(0));
        // Steps nearer to each other than can be seen are one.
        let mut drawn = 0;
        for (n, step) in steps.iter().enumerate() {
            let x = self.x(step.at_ms);
            if x > drawn + 2 || n + 1 == steps.len() {
                drawn = x;
                let _ = write!(path, "H{}V{}", px(x), level(step.used));
            }
        }
        self.put(format_args!(
            "<path d=\"{path}H{RIGHT}\" class=\"budget\"/>"
        ));
    }

    fn legend(&mut self, y: u64) {
        let forecast = self.forecast;
        let mut x = LEFT;
        let there = |state: &str| match state {
            "unhealthy" => forecast.lanes.states.iter().any(|s| s.unhealthy),
            "changing" => self.out.contains("class=\"changing\""),
            state => forecast.lanes.states.iter().any(|s| s.state == state),
        };
        let states: Vec<&str> = STATES.into_iter().filter(|state| there(state)).collect();
        for state in states {
            self.put(format_args!(
                "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" class=\"{state}\"/>\
                 <text x=\"{}\" y=\"{y}\">{state}</text>",
                y - 10,
                x + 17
            ));
            x += 34 + 7 * state.len() as u64;
        }
        let mut x = LEFT;
        for (verdict, words) in [
            ("allowed", "restart allowed"),
            ("deferred", "deferred"),
            ("denied", "denied"),
            ("cancelled", "no longer needed"),
        ] {
            if !forecast
                .lanes
                .decisions
                .iter()
                .any(|d| d.verdict == verdict)
            {
                continue;
            }
            self.mark((x + 6) * 10, y + 18, verdict, verdict);
            let (at, below) = (x + 17, y + 22);
            self.put(format_args!(
                "<text x=\"{at}\" y=\"{below}\">{words}</text>"
            ));
            x += 34 + 7 * words.len() as u64;
        }
        if forecast.lanes.thinned {
            let words = "there were more changes than are drawn";
            let below = y + 22;
            self.put(format_args!(
                "<text x=\"{RIGHT}\" y=\"{below}\" class=\"e f\">{words}</text>"
            ));
        }
    }
}

/// A round time of which not more than nine fit.
fn step(length: u64) -> u64 {
    const ROUND: [u64; 26] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
        120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 10_800_000,
        21_600_000, 43_200_000,
    ];
    const DAY: u64 = 86_400_000;
    let fits = |step: &u64| length / step <= 9;
    let short = ROUND.into_iter().find(fits);
    short.unwrap_or_else(|| {
        let days = [1, 2, 5, 7, 14, 30, 60].map(|days| days * DAY);
        days.into_iter().find(fits).unwrap_or(60 * DAY)
    })
}
