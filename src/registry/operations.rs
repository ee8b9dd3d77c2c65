//! What operators do beside publishing.

use super::catalog::{Alias, Catalog, State};
use super::handle::{Registry, Writer, millis};
use super::history::Record;
use super::ledger::{Pin, Quarantine};
use super::publication::{Ack, Review};
use super::violation::{Code, Nack, Path};
use super::{Digest, ModelVersion};
use std::time::{Duration, SystemTime};

impl Registry {
    /// The first quarantine of a content; each further one is twice as long.
    pub const QUARANTINE: Duration = Duration::from_secs(10 * 60);
    /// The longest quarantine; and after so long without another, the count begins anew.
    pub const LONGEST_QUARANTINE: Duration = Duration::from_secs(24 * 3600);
    /// So many rollbacks by themselves within an hour, then rollouts freeze.
    pub const ROLLBACKS_PER_HOUR: usize = 3;

    /// Gives `alias` to `version` alone, which becomes live.
    ///
    /// # Errors
    ///
    /// [`Nack`] where one of them does not exist, rollouts are frozen, or the result would be refused as a publication.
    pub fn promote(&self, alias: &str, version: &str, now: SystemTime) -> Result<Ack, Nack> {
        self.roll_out(alias, version, Alias::WHOLE, now)
    }

    /// Gives `version` a share of `alias`, in basis points; the others keep their proportions. With a share of 0 the
    /// canary is withdrawn.
    ///
    /// # Errors
    ///
    /// As [`promote`](Self::promote).
    pub fn set_canary(&self, alias: &str, version: &str, share: u32, now: SystemTime) -> Result<Ack, Nack> {
        self.roll_out(alias, version, share, now)
    }

    fn roll_out(&self, alias: &str, version: &str, share: u32, now: SystemTime) -> Result<Ack, Nack> {
        let mut writer = self.writer.lock();
        if writer.ledger.frozen && share > 0 {
            return Err(Nack::one(Code::Frozen, Path::root(), "rollouts are frozen until Registry::thaw"));
        }
        let cause = match share {
            Alias::WHOLE => format!("promote {version} of {alias}"),
            0 => format!("withdraw {version} from {alias}"),
            _ => format!("canary {version} of {alias}: {share} of 10000"),
        };
        self.edit(&mut writer, &cause, false, now, |catalog| share_out(catalog, alias, version, share))
    }

    /// Serves the content of an earlier generation again, as a new generation. Without a number, what was served before
    /// the present content came for the first time: a rollback that is asked for twice goes further back, and never to
    /// what the first one took away.
    ///
    /// # Errors
    ///
    /// [`Nack`] where it is not in the [history](Self::history), or its versions are quarantined. Change guards do not
    /// hold up the way back.
    pub fn rollback(&self, generation: Option<u64>, now: SystemTime) -> Result<Ack, Nack> {
        let mut writer = self.writer.lock();
        let digest = writer.current().map(Record::digest);
        let came = writer.history.iter().position(|record| Some(record.digest()) == digest).unwrap_or(0);
        let target = match generation {
            Some(generation) => writer.history.iter().rev().skip(1).find(|record| record.generation() == generation),
            None => writer.history[..came].last(),
        };
        let Some(target) = target else {
            return Err(Nack::one(Code::NotFound, Path::root(), "no such generation is remembered"));
        };
        let (old, cause) = (target.snapshot().catalog().clone(), format!("rollback to {}", target.generation()));
        self.edit(&mut writer, &cause, true, now, |catalog| {
            *catalog = old;
            Ok(())
        })
    }

    /// Announces the end of `version`: it is served until `sunset`, and `replacement` is what to use instead.
    ///
    /// # Errors
    ///
    /// [`Nack`] where one of them does not exist, or the version is not served.
    pub fn deprecate(
        &self,
        version: &str,
        sunset: SystemTime,
        replacement: Option<&str>,
        now: SystemTime,
    ) -> Result<Ack, Nack> {
        self.edit(&mut self.writer.lock(), &format!("deprecate {version}"), false, now, |catalog| {
            let found = find(catalog, version)?;
            found.state = State::Deprecated;
            found.sunset_ms = Some(millis(sunset));
            found.replacement = replacement.map(str::to_owned);
            Ok(())
        })
    }

    /// Publishes the current content with a change.
    fn edit(
        &self,
        writer: &mut Writer,
        cause: &str,
        force: bool,
        now: SystemTime,
        change: impl FnOnce(&mut Catalog) -> Result<(), Nack>,
    ) -> Result<Ack, Nack> {
        if writer.current().is_none() {
            return Err(Nack::one(Code::NothingPublished, Path::root(), "nothing has been published yet"));
        }
        let mut catalog = writer.catalog();
        change(&mut catalog)?;
        let candidate = self.judge(writer, catalog, force, now)?;
        Ok(self.accept(writer, candidate, cause, None, now))
    }

    /// Holds `alias` at `version` until then. A version is not held while it is in quarantine or has no placement.
    ///
    /// # Errors
    ///
    /// [`Nack`] where one of them does not exist or the version runs nowhere.
    pub fn pin(&self, alias: &str, version: &str, until: SystemTime, now: SystemTime) -> Result<Ack, Nack> {
        let mut writer = self.writer.lock();
        let snapshot = writer.snapshot();
        let catalog = snapshot.catalog();
        if !catalog.aliases.contains_key(alias) {
            return Err(no_alias(alias));
        }
        let state = catalog.find(version).ok_or_else(|| no_version(version))?.state;
        if !state.is_served() || !catalog.placements.values().any(|at| at.version == version && at.weight > 0) {
            let path = version_path(version);
            return Err(Nack::one(Code::NotServable, path, format!("{state}, or without a placement")));
        }
        if until <= now {
            return Err(Nack::one(Code::OutOfRange, Path::of(["aliases", alias]), "a pin that is over"));
        }
        writer.ledger.pins.insert(alias.to_owned(), Pin { version: version.to_owned(), until_ms: millis(until) });
        Ok(self.note(&mut writer, &format!("pin {alias} to {version}")))
    }

    /// Ends a pin.
    ///
    /// # Errors
    ///
    /// [`Nack`] where there is none.
    pub fn unpin(&self, alias: &str) -> Result<Ack, Nack> {
        let mut writer = self.writer.lock();
        if writer.ledger.pins.remove(alias).is_none() {
            return Err(Nack::one(Code::NotFound, Path::of(["aliases", alias]), "is not pinned"));
        }
        Ok(self.note(&mut writer, &format!("unpin {alias}")))
    }

    /// Takes the content of `version` out of traffic, whatever its name will be, for
    /// [ten minutes](Self::QUARANTINE) the first time.
    ///
    /// # Errors
    ///
    /// [`Nack`] where it does not exist, or an alias would have nothing left.
    pub fn quarantine(&self, version: &str, now: SystemTime) -> Result<Ack, Nack> {
        let mut writer = self.writer.lock();
        let digest = content(writer.snapshot().catalog(), version)?;
        self.lock_up(&mut writer, digest, now)?;
        Ok(self.note(&mut writer, &format!("quarantine {version}")))
    }

    /// Notes the quarantine, unless it would empty an alias.
    fn lock_up(&self, writer: &mut Writer, digest: Digest, now: SystemTime) -> Result<(), Nack> {
        let before = writer.ledger.quarantines.get(&digest).copied();
        // One that is in force is neither lengthened nor counted again.
        if writer.ledger.is_quarantined(&digest) {
            return Ok(());
        }
        let strikes = before.map_or(0, |before| before.strikes);
        let longest = Self::LONGEST_QUARANTINE;
        let length = Self::QUARANTINE.saturating_mul(1 << strikes.min(20)).min(longest);
        let until_ms = millis(now).saturating_add(length.as_millis() as u64);
        let strikes = strikes.saturating_add(1);
        writer.ledger.quarantines.insert(digest, Quarantine { until_ms, strikes, released: false });
        let emptied = writer.view().emptied().next().map(str::to_owned);
        let Some(alias) = emptied else { return Ok(()) };
        match before {
            Some(before) => writer.ledger.quarantines.insert(digest, before),
            None => writer.ledger.quarantines.remove(&digest),
        };
        let path = Path::of(["aliases", &alias]);
        Err(Nack::one(Code::QuarantineEmpties, path, "would have no version left"))
    }

    /// Ends the quarantine of a version. How often it was quarantined is not forgotten.
    ///
    /// # Errors
    ///
    /// [`Nack`] where it does not exist, or is in none.
    pub fn release(&self, version: &str) -> Result<Ack, Nack> {
        let mut writer = self.writer.lock();
        let digest = content(writer.snapshot().catalog(), version)?;
        match writer.ledger.quarantines.get_mut(&digest).filter(|quarantine| !quarantine.released) {
            Some(quarantine) => quarantine.released = true,
            None => return Err(Nack::one(Code::NotFound, version_path(version), "is not quarantined")),
        }
        Ok(self.note(&mut writer, &format!("release {version}")))
    }

    /// Withdraws a version that proved bad from `alias`, and quarantines its content: what a
    /// [`Judge`](super::Judge) asks for. With the third within an hour, rollouts freeze. Where another alias has nothing
    /// else, as one for previews has not, the version is withdrawn and not quarantined.
    ///
    /// # Errors
    ///
    /// [`Nack`] where one of them does not exist, the alias would have nothing left, or too many went before: then
    /// something else is wrong, and somebody has to look.
    pub fn roll_back_version(&self, alias: &str, version: &str, why: &str, now: SystemTime) -> Result<Ack, Nack> {
        let mut writer = self.writer.lock();
        let at = millis(now);
        let recent = |then: &u64| at.saturating_sub(*then) < 3_600_000;
        writer.ledger.rollbacks.retain(recent);
        if writer.ledger.rollbacks.len() >= Self::ROLLBACKS_PER_HOUR {
            return Err(Nack::one(Code::Frozen, Path::of(["aliases", alias]), "too many rollbacks within an hour"));
        }
        let mut catalog = writer.catalog();
        let digest = content(&catalog, version)?;
        if !find_alias(&mut catalog, alias)?.targets.iter().any(|(target, _)| target == version) {
            return Err(Nack::one(Code::NotFound, Path::of(["aliases", alias, "targets"]), "has no such version"));
        }
        share_out(&mut catalog, alias, version, 0)?;
        let kept = writer.ledger.clone();
        // An alias that has nothing else must not keep the version in the one that is hurt.
        let locked = self.lock_up(&mut writer, digest, now).is_ok();
        let candidate = match self.judge(&writer, catalog, true, now) {
            Ok(candidate) => candidate,
            Err(nack) => {
                writer.ledger = kept;
                return Err(nack);
            }
        };
        writer.ledger.rollbacks.push(at);
        writer.ledger.frozen |= writer.ledger.rollbacks.len() >= Self::ROLLBACKS_PER_HOUR;
        let spared = if locked { "" } else { ", not quarantined for another alias has nothing else" };
        let cause = format!("roll back {version} of {alias}{spared}: {why}");
        Ok(self.accept(&mut writer, candidate, &cause, None, now))
    }

    /// Lets rollouts go on. The rollbacks of the last hour are forgotten.
    pub fn thaw(&self) -> Ack {
        let mut writer = self.writer.lock();
        writer.ledger.frozen = false;
        writer.ledger.rollbacks.clear();
        self.note(&mut writer, "thaw")
    }

    /// A placement that was cold is warm: it gets its weight.
    pub fn warmed(&self, placement: &str) {
        let mut writer = self.writer.lock();
        if writer.cold.remove(placement) {
            self.commit(&mut writer, &format!("{placement} is warm"));
        }
    }

    /// What time brings: pins and quarantines end, a store that failed is written again, and what nobody confirmed
    /// expires. Call it every second or so.
    pub fn tick(&self, now: SystemTime) {
        let mut writer = self.writer.lock();
        let at = millis(now);
        self.confirmed.tell(at);
        let (pins, mut over) = (writer.ledger.pins.len(), false);
        writer.ledger.pins.retain(|_, pin| pin.until_ms > at);
        over |= writer.ledger.pins.len() < pins;
        for quarantine in writer.ledger.quarantines.values_mut() {
            if !quarantine.released && quarantine.until_ms <= at {
                quarantine.released = true;
                over = true;
            }
        }
        let memory = Self::LONGEST_QUARANTINE.as_millis() as u64;
        writer
            .ledger
            .quarantines
            .retain(|_, quarantine| !quarantine.released || quarantine.until_ms.saturating_add(memory) > at);
        if over {
            self.commit(&mut writer, "a pin or a quarantine is over");
        } else if matches!(writer.durability, super::Durability::Uncertain(_)) {
            writer.persist();
        }
        self.refuse(&writer);
    }

    /// Publishes a change of the ledger.
    fn note(&self, writer: &mut Writer, cause: &str) -> Ack {
        self.commit(writer, cause);
        self.ack(writer, Review::default())
    }
}

fn version_path(full: &str) -> Path {
    let (model, version) = full.rsplit_once('@').unwrap_or((full, ""));
    Path::of(["models", model, "versions", version])
}

fn no_version(full: &str) -> Nack {
    Nack::one(Code::NotFound, version_path(full), "no such version")
}

fn no_alias(name: &str) -> Nack {
    Nack::one(Code::NotFound, Path::of(["aliases", name]), "no such alias")
}

fn find<'c>(catalog: &'c mut Catalog, full: &str) -> Result<&'c mut ModelVersion, Nack> {
    catalog.find_mut(full).ok_or_else(|| no_version(full))
}

fn find_alias<'c>(catalog: &'c mut Catalog, name: &str) -> Result<&'c mut Alias, Nack> {
    catalog.aliases.get_mut(name).ok_or_else(|| no_alias(name))
}

/// The identity of what is served under a name, for quarantines.
fn content(catalog: &Catalog, full: &str) -> Result<Digest, Nack> {
    Ok(catalog.find(full).ok_or_else(|| no_version(full))?.digest(full))
}

/// Gives `version` a share of `alias` and the others the rest, in their proportions. The canary stands first, so a
/// session that had it keeps it while the share grows.
fn share_out(catalog: &mut Catalog, alias: &str, version: &str, share: u32) -> Result<(), Nack> {
    let state = find(catalog, version)?.state;
    let path = Path::of(["aliases", alias, "targets"]);
    let found = find_alias(catalog, alias)?;
    if share > Alias::WHOLE {
        return Err(Nack::one(Code::SplitSum, path, format!("a share of {share} basis points of 10000")));
    }
    let mut others = std::mem::take(&mut found.targets);
    others.retain(|(target, held)| target != version && *held > 0);
    let held: u64 = others.iter().map(|(_, held)| u64::from(*held)).sum();
    let rest = Alias::WHOLE - share;
    if rest > 0 && held == 0 {
        return Err(Nack::one(Code::SplitSum, path, "nobody is there to take the rest"));
    }
    let mut given = 0;
    for (_, share) in &mut others {
        *share = (u64::from(*share) * u64::from(rest) / held.max(1)) as u32;
        given += *share;
    }
    // What rounding left over.
    if let Some((_, share)) = others.last_mut() {
        *share += rest - given;
    }
    others.retain(|(_, share)| *share > 0);
    if share > 0 {
        others.insert(0, (version.to_owned(), share));
    }
    found.targets = others;
    let used = catalog.aliases.values().any(|alias| alias.targets.iter().any(|(target, _)| target == version));
    let next = match (share, state) {
        (Alias::WHOLE, _) => State::Live,
        (0, State::Canary) if !used => State::Validated,
        (1.., State::Validated) => State::Canary,
        _ => state,
    };
    find(catalog, version)?.state = next;
    Ok(())
}
