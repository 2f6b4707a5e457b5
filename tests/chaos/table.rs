//! How long readers waited, fault by fault: the figures of a run, and what of them is a promise. Pure.
//! It must not know how faults are done.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use chatnode::ai::provider::demo;
use chatnode::log::{Channel, Entry};
use chatnode::model::GenerationId;
use chatnode::protocol::ServerFrame;

use super::check::Violation;
use super::faults::{Fault, Span, Touched};
use super::history::{Accepted, History, Millis, Story, What};
use super::load::RATE;

/// What a machine that is busy with other things may add to a takeover.
const MACHINE: Duration = Duration::from_secs(2);
/// A pause that needs no reason.
const BREATH: Millis = 300;
/// Beside the lease itself.
const TAKEOVER: Duration = Duration::from_secs(2);

/// One reader of one answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measure {
    pub(crate) generation: Option<GenerationId>,
    pub(crate) reader: String,
    /// Since when it was connected through which gateway.
    pub(crate) opened: Vec<(Millis, usize)>,
    /// Since when who wrote.
    pub(crate) owners: Vec<(Millis, String)>,
    /// When text came, and how late its first token was.
    pub(crate) arrivals: Vec<(Millis, Option<Millis>)>,
    /// What people should not see: errors, texts that change.
    pub(crate) blemishes: Vec<(Millis, &'static str)>,
}

/// What the readers of a story waited for. `epoch` is the moment the run began, as the store counts milliseconds.
pub(crate) fn measure(story: &Story, epoch: u64) -> Vec<Measure> {
    let mut all = Vec::new();
    for accepted in story.answers().values() {
        for history in &story.histories {
            all.push(of_reader(story, accepted, history, epoch));
        }
    }
    all
}

fn of_reader(story: &Story, accepted: &Accepted, history: &History, epoch: u64) -> Measure {
    let log = story.logs.get(&accepted.generation).map(Vec::as_slice).unwrap_or_default();
    let owns: Vec<(u64, &str, u64)> = log
        .iter()
        .filter_map(|(position, entry)| match entry {
            Entry::Own(own) => Some((position.epoch, own.worker.as_str(), own.offset)),
            _ => None,
        })
        .collect();
    let owners = owns.iter().map(|(at, worker, _)| (at.saturating_sub(epoch), (*worker).to_owned())).collect();
    let (generation, reader) = (Some(accepted.generation.clone()), history.reader.clone());
    let mut found = Measure { generation, reader, owners, ..Measure::default() };
    let starts = starts(accepted);
    // For each owner: arrivals with the place of their first token in the owner's clockwork.
    let mut clocks: BTreeMap<usize, Vec<(usize, i64)>> = BTreeMap::new();
    let mut over = false;
    for seen in &history.seen {
        match &seen.what {
            // Who comes back to a conversation is told its ends again.
            _ if over => break,
            What::Opened(gateway) => found.opened.push((seen.at, *gateway)),
            What::Heard(frame) => match &**frame {
                ServerFrame::Delta { generation, offset, channel: Channel::Text, .. } if *generation == accepted.generation => {
                    let owner = owns.iter().filter(|(_, _, from)| from <= offset).count();
                    let token = starts.partition_point(|start| *start < *offset);
                    let due = i64::try_from(token * 1_000 / RATE).expect("small");
                    let at = i64::try_from(seen.at).expect("small");
                    clocks.entry(owner).or_default().push((found.arrivals.len(), at - due));
                    found.arrivals.push((seen.at, None));
                }
                ServerFrame::Snapshot { generation, .. } if *generation == accepted.generation => {
                    if !found.arrivals.is_empty() && !story.removed.contains(generation) {
                        found.blemishes.push((seen.at, "snapshot"));
                    }
                    found.arrivals.push((seen.at, None));
                }
                ServerFrame::Finished(end) if end.generation == accepted.generation => {
                    found.arrivals.push((seen.at, None));
                    over = true;
                }
                // An answer that moves before its first word is thought anew: no model can go on with another one's thoughts.
                ServerFrame::Rewind { channel: Channel::Text, .. } => found.blemishes.push((seen.at, "rewind")),
                ServerFrame::Error(_) => found.blemishes.push((seen.at, "error")),
                _ => {}
            },
            _ => {}
        }
    }
    for clock in clocks.values() {
        // The quickest delivery tells when the owner began.
        let began = clock.iter().map(|(_, at)| *at).min().unwrap_or_default();
        for (index, at) in clock {
            found.arrivals[*index].1 = u64::try_from(at - began).ok();
        }
    }
    found
}

/// At which byte each token begins.
fn starts(accepted: &Accepted) -> Vec<u64> {
    let tokens = demo::tokens(&accepted.generation, &accepted.question.content);
    let mut at = 0;
    let mut starts = Vec::with_capacity(tokens.len());
    for token in tokens {
        starts.push(at);
        at += token.len() as u64;
    }
    starts
}

impl Measure {
    fn is_touched(&self, span: &Span) -> bool {
        let reads = self.arrivals.first().is_some_and(|(at, _)| *at < span.from)
            && self.arrivals.last().is_some_and(|(at, _)| *at > span.from);
        let last = |gateway: &usize| self.opened.iter().rfind(|(at, _)| *at <= span.from).is_some_and(|(_, on)| on == gateway);
        reads
            && match &span.touched {
                Touched::All => true,
                Touched::Gateway(gateway) => last(gateway),
                Touched::Worker(name) => self.owners.iter().rfind(|(at, _)| *at <= span.from).is_some_and(|(_, on)| on == name),
                Touched::Answer(generation) => self.generation.as_ref() == Some(generation),
            }
    }

    /// The longest time without a word that has to do with the fault.
    fn gap(&self, span: &Span) -> Option<Millis> {
        self.silence(span).map(|(before, after)| after - before)
    }

    /// The longest time without a word after a moment.
    pub(crate) fn longest(&self, after: Millis) -> Option<Millis> {
        let pairs = self.arrivals.windows(2).filter(|pair| pair[1].0 > after);
        pairs.map(|pair| pair[1].0 - pair[0].0).max()
    }

    fn silence(&self, span: &Span) -> Option<(Millis, Millis)> {
        let pairs = self.arrivals.windows(2).map(|pair| (pair[0].0, pair[1].0));
        // One that began long before has another reason.
        let within = span.from.saturating_sub(BREATH)..span.until.saturating_sub(BREATH).max(span.from + 1);
        pairs.filter(|(before, after)| *after > span.from && within.contains(before)).max_by_key(|(before, after)| after - before)
    }

    /// From the mending to the next word.
    fn back(&self, span: &Span) -> Option<Millis> {
        self.arrivals.iter().find(|(at, _)| *at >= span.healed).map(|(at, _)| at - span.healed)
    }
}

/// Figures of all faults of one kind.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) count: usize,
    pub(crate) gaps: Vec<Millis>,
    pub(crate) backs: Vec<Millis>,
    pub(crate) late: Vec<Millis>,
    pub(crate) blemishes: usize,
    /// The longest wait, and whose it was.
    pub(crate) worst: Option<(Millis, String)>,
}

impl Row {
    fn blame(&mut self, measure: &Measure, span: &Span) {
        let Some((before, after)) = measure.silence(span) else { return };
        if self.worst.as_ref().is_none_or(|(gap, _)| *gap < after - before) {
            let who = measure.generation.as_ref().map(ToString::to_string).unwrap_or_default();
            let what = format!("{before} to {after}, fault at {} to {}, {} of {who}", span.from, span.healed, measure.reader);
            self.worst = Some((after - before, what));
        }
    }
}

pub(crate) fn rows(measures: &[Measure], spans: &[Span]) -> BTreeMap<Fault, Row> {
    let mut rows: BTreeMap<Fault, Row> = BTreeMap::new();
    for span in spans {
        let row = rows.entry(span.fault).or_default();
        row.count += 1;
        for measure in measures {
            row.blemishes += measure.blemishes.iter().filter(|(at, _)| (span.from..span.until).contains(at)).count();
            if measure.is_touched(span) {
                row.gaps.extend(measure.gap(span));
                row.blame(measure, span);
                row.backs.extend(measure.back(span));
                let within = measure.arrivals.iter().filter(|(at, _)| (span.from..span.healed).contains(at));
                row.late.extend(within.filter_map(|(_, late)| *late));
            }
        }
    }
    for row in rows.values_mut() {
        row.gaps.sort_unstable();
        row.backs.sort_unstable();
        row.late.sort_unstable();
    }
    rows
}

/// What the times of the faults prove or disprove: I9 and I18.
pub(crate) fn check(measures: &[Measure], spans: &[Span], lease: Duration) -> Vec<Violation> {
    let mut found = Vec::new();
    let most = u64::try_from((lease + TAKEOVER + MACHINE).as_millis()).expect("small");
    for span in spans {
        let mut blame = |invariant, what: String| {
            found.push(Violation { invariant, reader: format!("{:?}", span.fault), at: span.from, what });
        };
        for measure in measures.iter().filter(|measure| measure.is_touched(span)) {
            let gap = measure.gap(span).unwrap_or_default();
            if span.fault == Fault::WorkerKilled && gap > most {
                blame("I9", format!("{:?}: {gap} ms without a word", measure.generation));
            }
        }
        let gentle = matches!(span.fault, Fault::RollingRestart | Fault::GatewayDrained | Fault::WorkerDrained);
        for measure in measures.iter().filter(|_| gentle) {
            for (at, what) in measure.blemishes.iter().filter(|(at, _)| (span.from..span.until).contains(at)) {
                blame("I18", format!("{:?}: {what} at {at}", measure.generation));
            }
        }
    }
    found
}

/// What issue and design want of a kind of fault, and whether it was so.
fn goal(fault: Fault, row: &Row) -> Option<(String, bool)> {
    let longest = |sorted: &[Millis]| sorted.last().copied().unwrap_or_default();
    let (what, is, most) = match fault {
        Fault::GatewayKilled => ("gap p99", rank(&row.gaps, 99), 1_000),
        Fault::WorkerKilled => ("gap max", longest(&row.gaps), 8_000),
        Fault::WorkerDrained => ("gap p99", rank(&row.gaps, 99), 300),
        Fault::NatsStopped => ("late p99", rank(&row.late, 99), 300),
        Fault::RedisRestarted => ("after p99", rank(&row.backs, 99), 2_000),
        Fault::RollingRestart => ("seen", row.blemishes as u64, 0),
        _ => return None,
    };
    Some((format!("{what} <= {most}"), is <= most))
}

/// The value that `percent` of a hundred are not above. Sorted values only.
pub(crate) fn rank(sorted: &[Millis], percent: usize) -> Millis {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// The table, in milliseconds.
pub(crate) fn show(rows: &BTreeMap<Fault, Row>) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<20}{:>6}{:>9}{:>8}{:>8}{:>8}{:>10}{:>10}{:>10}{:>6}  goal",
        "fault", "count", "readers", "gap p50", "p99", "max", "late p99", "after p50", "after p99", "seen"
    );
    for (fault, row) in rows {
        let goal = goal(*fault, row).map(|(what, met)| format!("{what}: {}", if met { "met" } else { "MISSED" }));
        let _ = writeln!(
            text,
            "{:<20}{:>6}{:>9}{:>8}{:>8}{:>8}{:>10}{:>10}{:>10}{:>6}  {}",
            format!("{fault:?}"),
            row.count,
            row.gaps.len(),
            rank(&row.gaps, 50),
            rank(&row.gaps, 99),
            row.gaps.last().copied().unwrap_or_default(),
            rank(&row.late, 99),
            rank(&row.backs, 50),
            rank(&row.backs, 99),
            row.blemishes,
            goal.unwrap_or_default()
        );
    }
    let _ = writeln!(text, "longest waits:");
    for (fault, row) in rows {
        let worst = row.worst.as_ref().map(|(gap, what)| format!("{gap} ms, {what}"));
        let _ = writeln!(text, "  {:<20}{}", format!("{fault:?}"), worst.unwrap_or_default());
    }
    text
}

/// False when a goal was missed.
pub(crate) fn are_met(rows: &BTreeMap<Fault, Row>) -> bool {
    rows.iter().all(|(fault, row)| goal(*fault, row).is_none_or(|(_, met)| met))
}
