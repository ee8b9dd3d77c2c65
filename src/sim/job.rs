//! Requests in flight on simulated servers.

use super::audit::CallId;
use crate::backend::quota::QuotaReport;
use crate::backend::{Attempt, BackendError, Usage};
use std::sync::Arc;

/// Names a job by how many were sent before it. Its slot is used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct JobId {
    number: u64,
    slot: u32,
}

/// What a request asks of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its number in the run, from 0.
    pub(super) number: u64,
    pub(super) prompt: u32,
    pub(super) output: u32,
    /// Tokens of the answer that its caller has already; `output` are the others.
    pub(super) from: u32,
    pub(super) blocks: Option<Arc<[u64]>>,
    pub(super) critical: bool,
    /// Bound to the regions of the world's residency.
    pub(super) bound: bool,
}

impl Request {
    /// Tokens in one block of a prefix cache.
    pub const BLOCK: u32 = 512;

    /// What a server counts for it.
    pub(super) fn usage(&self) -> Usage {
        Usage::new(self.prompt.into(), self.output.into())
    }

    /// Tokens of the prompt.
    pub const fn prompt_tokens(&self) -> u32 {
        self.prompt
    }

    /// Tokens of the answer; no router knows them.
    pub const fn output_tokens(&self) -> u32 {
        self.output
    }

    /// What is asked for when the answer broke after so many tokens.
    pub(super) fn rest(&self, tokens: u32) -> Self {
        let (prompt, from) = (self.prompt.saturating_add(tokens), self.from.saturating_add(tokens));
        Self { prompt, from, output: self.output.saturating_sub(tokens), ..self.clone() }
    }
}

/// Where a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// On its way to the server, or its refusal on the way back.
    Travelling,
    /// In the prefill queue.
    Queued,
    /// In the decode batch.
    Decoding,
    /// Its last word is on the way back.
    Done,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) server: usize,
    /// The driver's name for it.
    pub(super) tag: u64,
    pub(super) place: Place,
    /// Prompt tokens that the cache does not have.
    pub(super) prefill: f64,
    /// Tokens after the first; the stream is cut there when `cut`.
    pub(super) decode: f64,
    pub(super) cut: bool,
    /// How many times as long it takes as it should.
    pub(super) times: f64,
    /// The batch's clock when it joined.
    pub(super) joined: f64,
    /// When it reached the server, and how many others it met there.
    pub(super) arrived: u64,
    pub(super) met: usize,
    pub(super) request: Request,
    /// Who is billed for it, and for how many tokens of prompt and answer so far.
    pub(super) call: CallId,
    pub(super) used: (u32, u32),
    /// What its server says of its quotas, until its router hears of it.
    pub(super) headers: Headers,
    /// Tokens that it sent before it broke.
    pub(super) sent: u32,
    /// Nanoseconds to the server.
    pub(super) trip: u64,
    /// Nanoseconds from the end of the prefill to its router: the way back and what the provider adds.
    pub(super) back: u64,
}

impl Job {
    /// One that is on its way. `trip`: one way, in nanoseconds.
    pub(super) fn new(server: usize, tag: u64, request: Request, call: CallId, trip: u64) -> Self {
        Self {
            server,
            tag,
            place: Place::Travelling,
            prefill: 0.0,
            decode: f64::from(request.output.saturating_sub(1)),
            cut: false,
            times: 1.0,
            joined: 0.0,
            arrived: 0,
            met: 0,
            request,
            call,
            used: (0, 0),
            headers: None,
            sent: 0,
            trip,
            back: trip,
        }
    }

    /// Tokens after the first when the batch's clock shows this.
    pub(super) fn decoded(&self, clock: f64) -> f64 {
        ((clock - self.joined) / self.times).max(0.0)
    }

    /// How many tokens it has sent when the batch's clock shows this. Never all: the last comes with the end.
    pub(super) fn sent_by(&self, clock: f64) -> u32 {
        let decoded = self.decoded(clock).min(self.decode) as u32;
        (1 + decoded).min(self.request.output.saturating_sub(1)).max(1)
    }
}

/// What a driver is told of a job, by its tag.
#[derive(Debug)]
pub(super) enum Notice {
    FirstToken(u64, Headers),
    Done(u64),
    /// With the tokens that came before.
    Failed(u64, BackendError, u32, Headers),
}

/// What a server says of its quotas beside an answer; most say nothing.
pub(super) type Headers = Option<Box<QuotaReport>>;

/// Tells a router what came with an answer, if it hears such things.
pub(super) fn hear(headers: &Headers, hears: bool, attempt: &Attempt) {
    headers.iter().filter(|_| hears).for_each(|headers| attempt.quota(headers));
}

/// Jobs by id.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    sent: u64,
    slots: Vec<Option<(u64, Job)>>,
    free: Vec<u32>,
}

impl Jobs {
    pub(super) fn insert(&mut self, job: Job) -> JobId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let number = self.sent;
        self.sent += 1;
        self.slots[slot as usize] = Some((number, job));
        JobId { number, slot }
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Job> {
        self.slots[id.slot as usize].as_ref().filter(|(number, _)| *number == id.number).map(|(_, job)| job)
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.slots[id.slot as usize].as_mut().filter(|(number, _)| *number == id.number).map(|(_, job)| job)
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        let (_, job) = self.slots[id.slot as usize].take_if(|(number, _)| *number == id.number)?;
        self.free.push(id.slot);
        Some(job)
    }

    /// Those that were sent and have not ended.
    pub(super) fn all(&self) -> impl Iterator<Item = &Job> {
        self.slots.iter().flatten().map(|(_, job)| job)
    }

    /// The jobs of one server, in the order in which they were sent: a slot's would depend on who left first at one moment.
    pub(super) fn of_server(&self, server: usize) -> Vec<JobId> {
        let jobs = (0u32..).zip(&self.slots).filter_map(|(slot, job)| Some((slot, job.as_ref()?)));
        let mut ids: Vec<_> = jobs
            .filter(|(_, (_, job))| job.server == server)
            .map(|(slot, (number, _))| JobId { number: *number, slot })
            .collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Job {
        /// One that waits on the first server.
        pub(in crate::sim) fn of(tag: u64, prefill: f64, decode: f64) -> Self {
            Self { place: Place::Queued, prefill, decode, ..Self::new(0, tag, Request::default(), (0, 1), 0) }
        }
    }

    #[test]
    fn a_servers_jobs_come_as_they_were_sent_and_a_slot_that_is_used_again_is_another_jobs() {
        let mut jobs = Jobs::default();
        let send = |jobs: &mut Jobs, tag| jobs.insert(Job::of(tag, 1.0, 1.0));
        let (first, second, third) = (send(&mut jobs, 0), send(&mut jobs, 1), send(&mut jobs, 2));
        // Who leaves first must not matter for the order of those that come.
        assert_eq!(jobs.remove(second).map(|job| job.tag), Some(1));
        assert_eq!(jobs.remove(first).map(|job| job.tag), Some(0));
        let (fourth, fifth) = (send(&mut jobs, 3), send(&mut jobs, 4));
        assert_eq!(jobs.of_server(0), [third, fourth, fifth]);
        assert_eq!(jobs.of_server(1), []);
        assert!(jobs.get(first).is_none() && jobs.get_mut(second).is_none() && jobs.remove(first).is_none());
        assert_eq!(jobs.get(fourth).map(|job| job.tag), Some(3));
        assert_eq!(jobs.all().count(), 3);
    }
}
