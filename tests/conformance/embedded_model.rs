//! Random histories of one generation and its workers, compared with a model that fits on a page.
//!
//! Time stands still here: no lease ends but by a restart, so every step has exactly one right answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chatnode::backend::embedded::{Options, open};
use chatnode::backend::{Backends, Cancel, Claim, Error, Phase};
use chatnode::config::DataDir;
use chatnode::drain::Drain;
use chatnode::log::Entry;
use chatnode::model::{GenerationId, Position, Status, UserId};
use proptest::prelude::*;

use super::stage::{ask, generation_of, outcome, own, read_all, text, try_claim};

/// One step. Workers are numbered by their claims, so that old ones come back at any time.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    Claim,
    /// Behind what this worker believes to be the end, this many deltas.
    Append(usize, u8),
    /// The last append again, as when its answer was lost.
    Again(usize),
    /// Behind a place that is wrong.
    Misplace(usize),
    Renew(usize),
    Release(usize),
    Finish(usize),
    Cancel(usize),
    Delete(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..6_usize;
    let step = prop_oneof![
        2 => Just(Step::Ask),
        4 => Just(Step::Claim),
        6 => (who.clone(), 0..4_u8).prop_map(|(worker, count)| Step::Append(worker, count)),
        2 => who.clone().prop_map(Step::Again),
        1 => who.clone().prop_map(Step::Misplace),
        1 => who.clone().prop_map(Step::Renew),
        1 => who.clone().prop_map(Step::Release),
        2 => who.clone().prop_map(Step::Finish),
        1 => who.clone().prop_map(Step::Cancel),
        1 => who.prop_map(Step::Delete),
        2 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What must be true of one generation.
#[derive(Clone, Debug, Default)]
struct Model {
    log: Vec<(Position, Entry)>,
    /// The worker that holds the lease.
    owner: Option<usize>,
    /// The worker whose end it was.
    ended_by: Option<usize>,
    ended: Option<Status>,
    claims: u32,
    /// The last lease was lost, not given back.
    lost: bool,
    cancel: bool,
    deleted: bool,
}

impl Model {
    fn tail(&self) -> Position {
        self.log.last().map_or(Position::START, |(position, _)| *position)
    }

    /// What a write by this worker meets before its place is looked at.
    fn refusal(&self, worker: usize) -> Option<Error> {
        match (self.deleted, self.ended, self.owner == Some(worker)) {
            (true, ..) => Some(Error::Gone),
            (false, Some(_), _) | (false, None, false) => Some(Error::Fenced),
            (false, None, true) => None,
        }
    }
}

struct Worker {
    generation: GenerationId,
    claim: Claim,
    tail: Position,
    length: u64,
    last: Option<(Position, Vec<Entry>)>,
}

struct Play {
    backends: Option<Backends>,
    drain: Drain,
    user: UserId,
    order: Vec<GenerationId>,
    models: BTreeMap<GenerationId, Model>,
    workers: Vec<Worker>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_one_that_the_model_allows(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(play(&steps));
    }
}

async fn play(steps: &[Step]) {
    let dir = tempfile::tempdir().expect("a directory");
    let (backends, drain) = start(dir.path());
    let (order, models, workers) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut play = Play { backends: Some(backends), drain, user: UserId::generate(), order, models, workers };
    for step in steps {
        match step {
            Step::Restart => play.restart(dir.path()).await,
            other => play.step(*other).await,
        }
        play.compare().await;
    }
    play.backends.take();
    play.drain.stop(Duration::from_secs(10)).await;
}

fn start(dir: &Path) -> (Backends, Drain) {
    let drain = Drain::new();
    let options = Options::new(DataDir::Path(dir.to_owned()), Duration::from_secs(3600));
    (open(&options, &drain).expect("open"), drain)
}

impl Play {
    fn backends(&self) -> Backends {
        self.backends.clone().expect("it is open")
    }

    async fn restart(&mut self, dir: &Path) {
        self.backends.take();
        self.drain.stop(Duration::from_secs(10)).await;
        let (backends, drain) = start(dir);
        (self.backends, self.drain) = (Some(backends), drain);
        for model in self.models.values_mut().filter(|model| model.ended.is_none() && model.owner.is_some()) {
            // Its owner may still write, until somebody claims; `owner` stands, but the lease is free.
            model.lost = true;
        }
    }

    async fn step(&mut self, step: Step) {
        let count = self.workers.len();
        let worker = |n: usize| (count > 0).then(|| n % count.max(1));
        match step {
            Step::Ask => self.ask().await,
            Step::Claim => self.claim().await,
            Step::Cancel(n) | Step::Delete(n) if !self.order.is_empty() => {
                let generation = self.order[n % self.order.len()].clone();
                if matches!(step, Step::Cancel(_)) { self.cancel(&generation).await } else { self.delete(&generation).await }
            }
            Step::Append(n, deltas) => {
                if let Some(n) = worker(n) {
                    self.append(n, deltas).await;
                }
            }
            Step::Again(n) => {
                if let Some(n) = worker(n) {
                    self.again(n).await;
                }
            }
            Step::Misplace(n) | Step::Renew(n) | Step::Release(n) | Step::Finish(n) => {
                if let Some(n) = worker(n) {
                    self.act(n, step).await;
                }
            }
            Step::Cancel(_) | Step::Delete(_) | Step::Restart => {}
        }
    }

    async fn ask(&mut self) {
        let asked = ask(&self.backends(), &self.user, "question").await;
        self.order.push(generation_of(&asked));
        self.models.insert(generation_of(&asked), Model::default());
    }

    async fn claim(&mut self) {
        let free = |model: &Model| !model.deleted && model.ended.is_none() && (model.owner.is_none() || model.lost);
        let expected = self.order.iter().find(|generation| free(&self.models[*generation])).cloned();
        let claim = try_claim(&self.backends()).await;
        assert_eq!(claim.as_ref().map(|claim| claim.lease.generation()), expected.as_ref());
        let (Some(claim), Some(generation)) = (claim, expected) else { return };
        let model = self.models.get_mut(&generation).expect("known");
        if model.claims == 0 || model.lost {
            model.claims += 1;
        }
        (model.owner, model.lost) = (Some(self.workers.len()), false);
        assert_eq!((claim.attempt, claim.tail, claim.cancel.is_some()), (model.claims, model.tail(), model.cancel));
        let older = self.workers.iter().filter(|worker| worker.generation == generation);
        assert!(older.map(|worker| worker.claim.lease.epoch()).all(|epoch| epoch < claim.lease.epoch()));
        let length = super::stage::fold(&model.log).text.len() as u64;
        self.workers.push(Worker { generation, tail: claim.tail, claim, length, last: None });
    }

    async fn append(&mut self, n: usize, deltas: u8) {
        let worker = &self.workers[n];
        let mut entries = Vec::new();
        if worker.tail.epoch != worker.claim.lease.epoch() {
            let Entry::Own(own) = own(&worker.claim) else { unreachable!("own() makes an Own") };
            entries.push(Entry::Own(chatnode::log::Own { offset: worker.length, ..own }));
        }
        let mut length = worker.length;
        for _ in 0..deltas {
            entries.push(text(length, "đo "));
            length += 4;
        }
        let previous = worker.tail;
        let result = self.backends().generations.append(&worker.claim.lease, previous, &entries).await;
        let model = self.models.get_mut(&worker.generation).expect("known");
        if let Some(refusal) = model.refusal(n) {
            return assert_eq!(result, Err(refusal));
        }
        assert_eq!(result.map(|renewed| renewed.cancel.is_some()), Ok(model.cancel));
        // Whoever writes again holds its lease again.
        model.lost = false;
        let worker = &mut self.workers[n];
        for entry in &entries {
            worker.tail = worker.tail.next(worker.claim.lease.epoch());
            model.log.push((worker.tail, entry.clone()));
        }
        worker.length = length;
        worker.last = Some((previous, entries));
    }

    async fn again(&mut self, n: usize) {
        let worker = &self.workers[n];
        let Some((previous, entries)) = &worker.last else { return };
        let result = self.backends().generations.append(&worker.claim.lease, *previous, entries).await;
        let model = self.models.get_mut(&worker.generation).expect("known");
        match model.refusal(n) {
            Some(refusal) => assert_eq!(result, Err(refusal)),
            None => {
                assert_eq!(result.map(|renewed| renewed.cancel.is_some()), Ok(model.cancel));
                model.lost = false;
            }
        }
    }

    async fn act(&mut self, n: usize, step: Step) {
        let backends = self.backends();
        let worker = &self.workers[n];
        let (lease, model) = (&worker.claim.lease, self.models.get_mut(&worker.generation).expect("known"));
        let refusal = model.refusal(n);
        match step {
            Step::Misplace(_) => {
                let previous = Position { seq: worker.tail.seq + 5, ..worker.tail };
                let expected = refusal.unwrap_or(Error::OutOfOrder { tail: model.tail() });
                let result = backends.generations.append(lease, previous, &[text(worker.length, "x")]).await;
                assert_eq!(result, Err(expected));
            }
            Step::Renew(_) => {
                let result = backends.generations.renew(lease).await.map(|renewed| renewed.cancel.is_some());
                assert_eq!(result, refusal.map_or(Ok(model.cancel), Err));
                model.lost = model.lost && result.is_err();
            }
            Step::Release(_) => {
                let result = backends.generations.release(lease).await;
                assert_eq!(result, refusal.map_or(Ok(()), Err));
                if result.is_ok() {
                    (model.owner, model.lost) = (None, false);
                }
            }
            _ => {
                let outcome = outcome(Status::Completed, "");
                let message = worker.claim.message.clone();
                let result = backends.generations.finish(lease, worker.tail, &outcome, &message).await;
                let repeat = model.ended_by == Some(n) && !model.deleted;
                assert_eq!(result, refusal.filter(|_| !repeat).map_or(Ok(()), Err));
                if result.is_ok() && !repeat {
                    let end = worker.tail.next(lease.epoch());
                    model.log.push((end, Entry::Fin(outcome)));
                    (model.owner, model.ended_by, model.ended) = (None, Some(n), Some(Status::Completed));
                }
            }
        }
    }

    async fn cancel(&mut self, generation: &GenerationId) {
        let result = self.backends().generations.cancel(generation).await;
        let model = self.models.get_mut(generation).expect("known");
        if model.deleted {
            return assert_eq!(result, Err(Error::NotFound));
        }
        if let Some(status) = model.ended {
            return assert_eq!(result, Ok(Cancel::AlreadyEnded(status)));
        }
        if model.claims > 0 {
            model.cancel = true;
            return assert_eq!(result, Ok(Cancel::Requested));
        }
        assert_eq!(result, Ok(Cancel::Ended));
        model.ended = Some(Status::Cancelled);
        // Its position is the store's own choice; everything else is not.
        let (entries, _) = read_all(&self.backends(), generation).await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].1, Entry::Fin(outcome(Status::Cancelled, "")));
        self.models.get_mut(generation).expect("known").log = entries;
    }

    async fn delete(&mut self, generation: &GenerationId) {
        let result = self.backends().store.delete(&self.user, &generation.conversation()).await;
        let model = self.models.get_mut(generation).expect("known");
        assert_eq!(result, if model.deleted { Err(Error::NotFound) } else { Ok(()) });
        model.deleted = true;
    }

    async fn compare(&self) {
        let backends = self.backends();
        for (generation, model) in &self.models {
            if model.deleted {
                super::stage::assert_gone(backends.generations.read(generation, Position::START, 100).await);
                continue;
            }
            let (entries, phase) = read_all(&backends, generation).await;
            assert_eq!(entries, model.log);
            super::stage::fold(&entries);
            let expected = match (model.ended, model.owner, model.lost, model.claims) {
                (Some(_), ..) => Phase::Ended,
                (None, Some(_), false, _) => Phase::Running,
                (None, _, _, 0) => Phase::Queued { ahead: self.ahead(generation) },
                (None, ..) => Phase::Orphaned,
            };
            assert_eq!(phase, expected);
        }
    }

    fn ahead(&self, generation: &GenerationId) -> u32 {
        let waits = |model: &Model| !model.deleted && model.ended.is_none() && (model.owner.is_none() || model.lost);
        let before = self.order.iter().take_while(|other| *other != generation);
        u32::try_from(before.filter(|other| waits(&self.models[*other])).count()).expect("small")
    }
}
