//! Plays a world as a service would: tasks that call the router and read streams.

use super::audit::Audit;
use super::cluster::Step as Happened;
use super::run::{Ended, Record, Run};
use super::script::{Cue, Script};
use super::setting::{Setting, SimRouter};
use super::source::Arrival;
use super::stack::{Desk, Stack};
use super::{Answer, Clock, Executor, Request, Tokens, World, WorldError};
use crate::backend::FailureKind;
use crate::router::{CallOptions, Interrupted, Piece, Resume, Streamed};
use crate::time::Timer;
use futures::future::{Either, select};
use futures::stream::{StreamExt, TryStreamExt};
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;

impl World {
    /// Plays it through [`Router::call`](crate::Router::call) and streams, on an [`Executor`]. It decides as
    /// [`run`](Self::run) does, more slowly.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_with_futures<S: Into<Stack>>(&self, make: impl Fn(&Desk) -> S) -> Result<Run, WorldError> {
        self.play_with_futures(&|desk| make(desk).into(), None)
    }

    pub(super) fn play_with_futures(
        &self,
        make: &dyn Fn(&Desk) -> Stack,
        audit: Option<&Audit>,
    ) -> Result<Run, WorldError> {
        let executor = Executor::new();
        let setting = Setting::new(self, executor.clock(), make, audit)?;
        let records = Rc::new(RefCell::new(Vec::new()));
        let mut script = Script::new(self);
        while !(script.is_over() && executor.alive() == 0) {
            let cluster = setting.reality.lock().cluster.next();
            let Some(cue) = script.next(cluster, executor.clock().next_wake()) else { break };
            setting.reality.lock().cluster.set(script.now);
            executor.clock().show(script.time());
            match cue {
                Cue::Cluster => {
                    let happened = setting.reality.lock().step();
                    match happened {
                        Happened::Notice(notice) => {
                            let waker = setting.reality.lock().tell(notice);
                            waker.into_iter().for_each(std::task::Waker::wake);
                        }
                        Happened::ClockJump(nanos) => script.jump(&setting, nanos),
                        Happened::Idle | Happened::Busy => {}
                    }
                }
                Cue::Timer => {
                    executor.clock().wake_next();
                }
                Cue::Join => {
                    if let Some(at) = script.take_join() {
                        setting.join(self, at)?;
                    }
                }
                Cue::Report => {
                    setting.scrape(script.time());
                    script.report();
                }
                Cue::Arrival => {
                    if let Some((arrival, options)) = script.take_arrival(&setting) {
                        setting.tell(|audit| audit.came(&arrival, &options.facts, script.time()));
                        let caller = Caller::new(&setting, executor.clock(), &records, &arrival, self.resuming);
                        executor.spawn(caller.call(arrival, options));
                    }
                }
            }
            executor.settle();
        }
        Ok(setting.conclude(self, records.take()))
    }
}

/// Somebody who asks, and reads the answer.
struct Caller {
    router: SimRouter,
    clock: Clock,
    records: Rc<RefCell<Vec<Record>>>,
    record: usize,
    reality: std::sync::Arc<parking_lot::Mutex<super::reality::Reality>>,
    /// When it asked, on the true clock.
    asked: u64,
    audit: Option<Audit>,
    resuming: bool,
}

/// Asks for what is left of an answer.
struct Rest {
    request: Request,
    got: u32,
}

impl Resume<Request, Tokens> for Rest {
    fn delivered(&mut self, tokens: &Tokens) {
        self.got += tokens.count;
    }

    fn resume(&mut self, _: &Interrupted) -> Option<Box<Request>> {
        let rest = self.request.rest(self.got);
        (rest.output > 0).then(|| Box::new(rest))
    }
}

impl Caller {
    fn new(
        setting: &Setting,
        clock: &Clock,
        records: &Rc<RefCell<Vec<Record>>>,
        arrival: &Arrival,
        resuming: bool,
    ) -> Self {
        let record = records.borrow().len();
        records.borrow_mut().push(Record::new(arrival));
        Self {
            router: setting.routers[arrival.router].clone(),
            clock: clock.clone(),
            records: records.clone(),
            record,
            reality: setting.reality.clone(),
            asked: arrival.at,
            audit: setting.audit.clone(),
            resuming,
        }
    }

    async fn call(self, arrival: Arrival, options: CallOptions) {
        let ended = match arrival.leaves {
            None => self.ask(&arrival, options).await,
            Some(after) => {
                let leave = self.clock.sleep_until(self.clock.now() + after);
                match select(leave, pin!(self.ask(&arrival, options))).await {
                    Either::Left(_) => Ended::Left,
                    Either::Right((ended, _)) => ended,
                }
            }
        };
        if let Some(audit) = &self.audit {
            audit.ended(arrival.request.number, ended, self.clock.now());
        }
        let total = self.elapsed();
        let sent = self.reality.lock().take_sent(arrival.request.number);
        let record = &mut self.records.borrow_mut()[self.record];
        (record.ended, record.total) = (ended, total);
        if let Some((attempts, server)) = sent {
            (record.attempts, record.server) = (attempts, Some(server));
        }
    }

    async fn ask(&self, arrival: &Arrival, options: CallOptions) -> Ended {
        match self.router.stream(&arrival.request, options).await {
            Ok(answer) => {
                self.records.borrow_mut()[self.record].first = Some(self.elapsed());
                self.read(&arrival.request, answer).await
            }
            Err(error) => {
                self.reality.lock().note_refusal(arrival.request.number);
                Ended::Refused(error.kind())
            }
        }
    }

    /// Reads an answer to its end, and on: nothing may follow.
    async fn read(&self, request: &Request, answer: Streamed<Request, Answer>) -> Ended {
        let hook = Rest { request: request.clone(), got: 0 };
        let mut pieces =
            if self.resuming { answer.resume(hook).left_stream() } else { answer.map_ok(Piece::Item).right_stream() };
        let (mut ended, mut over) = (Ended::Completed, false);
        while let Some(piece) = pieces.next().await {
            if let (true, Some(audit)) = (over, &self.audit) {
                audit.after_the_error(request.number);
            }
            let record = &mut self.records.borrow_mut()[self.record];
            match piece {
                Ok(Piece::Item(tokens)) => {
                    record.delivered += tokens.count;
                    if let Some(audit) = &self.audit {
                        audit.delivered(request.number, tokens.from, tokens.count);
                    }
                }
                Ok(Piece::Resumed(_)) => record.breaks += 1,
                Err(interrupted) => {
                    record.breaks += u32::from(interrupted.kind() != FailureKind::Timeout);
                    (ended, over) = (Ended::Broken(interrupted.kind()), true);
                }
            }
        }
        ended
    }

    /// Seconds since it asked, on the true clock.
    fn elapsed(&self) -> f64 {
        self.reality.lock().cluster.now() as f64 / 1e9 - self.asked as f64 / 1e9
    }
}
