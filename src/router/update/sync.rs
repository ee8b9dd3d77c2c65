//! [`Update::sync`]: the backends that a registry places.

use super::{Seat, Update};
use crate::backend::Backend;
use crate::facts::Profile;
use crate::fleet::Placed;
use crate::registry::{Berth, Place, View};
use std::collections::BTreeSet;
use std::sync::Arc;

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Update<Req, Res> {
    /// Brings the fleet in line with the placements of `view`, a [registry's](crate::registry::Registry::view) content. Those
    /// that the host added by hand stay as they are.
    ///
    /// `connect` is asked for each placement, every time: it gets the profile that follows from the registry, with the
    /// id of the placement, and returns it with what else the host knows (a limit of calls in flight, a credential) and the
    /// backend behind the [endpoint](crate::registry::Placement::endpoint); best a clone of a client that is there. With
    /// `None` the placement is no backend of this router.
    ///
    /// - A placement that is new joins, as any [backend](Self::add).
    /// - One whose profile changed is [reprofiled](Self::reprofile): what was learned of it stays. One that runs another
    ///   version, or at another endpoint, is another backend.
    /// - One with weight 0, or of a version that is neither served nor all that an alias has left, takes no requests. A
    ///   [drain](Self::drain) by hand is another matter, and stays.
    /// - One that is gone takes no requests any more, and leaves with the first call of this at which none is in flight.
    ///
    /// Placements stand behind what was added by hand, by their [rank](crate::registry::Placement::rank). The weight
    /// of a profile is a hundredth of that of the placement.
    ///
    /// ```
    /// use fallway::backend::{BackendError, backend_fn};
    /// use fallway::policy::{FailSafe, PolicyExt, ordered};
    /// use fallway::registry::{Alias, Catalog, ModelVersion, Patch, Placement, Publication, Registry, State};
    /// use fallway::router::Update;
    /// use fallway::{CallOptions, Facts, Router};
    /// use std::sync::Arc;
    /// use std::time::SystemTime;
    ///
    /// let (registry, now) = (Arc::new(Registry::builder().open(SystemTime::now())), SystemTime::now());
    /// let catalog = Catalog::new()
    ///     .version("m", "1", ModelVersion::new(State::Live))
    ///     .placement("eu", Placement::new("m@1", "acme", "eu-west", "eu-a"))
    ///     .alias("chat", Alias::to("m@1"));
    /// registry.publish(&Publication::from(catalog), now)?;
    ///
    /// # let client = |endpoint: &str| { let endpoint = endpoint.to_owned(); backend_fn(move |_: &str, _: &_| { let answer = endpoint.clone(); async { Ok::<_, BackendError>(answer) } }) };
    /// let follow = |fleet: &mut Update<str, String>| {
    ///     fleet.sync(&registry.view(), |place, profile| Some((profile, client(place.placement().endpoint()))));
    /// };
    /// let policy = ordered().fail_safe(FailSafe::default());
    /// let router = Router::builder(policy).registry(registry.clone()).fleet(follow).build()?;
    ///
    /// let moved = Catalog::new().placement("eu", Placement::new("m@1", "acme", "eu-west", "eu-b").weight(50));
    /// registry.publish(&Publication::from(Patch::new().put(moved)).force("all of it moves"), now)?;
    /// router.update(follow)?; // after every change; see `Registry::subscribe`
    /// let decision = router.explain(&CallOptions::new(Facts::model("chat")));
    /// assert_eq!(decision.chosen().unwrap().profile().relative_weight(), 0.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sync<B>(&mut self, view: &View, mut connect: impl FnMut(&Place, Profile) -> Option<(Profile, B)>)
    where
        B: Backend<Req, Response = Res>,
    {
        let mut there = BTreeSet::new();
        for Berth { place, profile, idle } in view.berths() {
            let id = place.id().to_owned();
            let Some((mut profile, backend)) = connect(place, profile) else { continue };
            profile.id.clone_from(&id);
            let at = place.placement();
            let (version, endpoint) = (at.version().to_owned(), at.endpoint().to_owned());
            self.put(&id, Placed { version, endpoint, rank: at.rank(), idle }, profile, backend);
            there.insert(id);
        }
        self.dismiss(&there);
        // By rank, behind those that no registry placed; a stable sort leaves these as they are.
        let placed = &self.aside.placed;
        self.seats.sort_by_key(|seat| placed.get(seat.profile.id()).map(|placed| placed.rank));
    }

    fn put(&mut self, id: &str, placed: Placed, profile: Profile, backend: impl Backend<Req, Response = Res>) {
        let before = self.aside.placed.get(id).map(|before| (&before.version, &before.endpoint));
        let same = before == Some((&placed.version, &placed.endpoint));
        match self.seat(id).filter(|_| same) {
            Some(seat) => {
                self.seats[seat].backend = Arc::new(backend);
                self.reprofile(profile);
            }
            None => {
                if before.is_some() {
                    self.remove(id);
                }
                // Where another that was added by hand has the name, `finish` says so.
                self.add(profile, backend);
            }
        }
        self.aside.placed.insert(id.to_owned(), placed);
    }

    /// Lets those go that are not there any more.
    fn dismiss(&mut self, there: &BTreeSet<String>) {
        let gone: Vec<String> = self.aside.placed.keys().filter(|id| !there.contains(*id)).cloned().collect();
        for id in gone {
            let is_busy = |seat: &Seat<Req, Res>| seat.member.as_ref().is_some_and(|it| it.gauge.in_flight() > 0);
            if self.seat(&id).is_some_and(|seat| is_busy(&self.seats[seat])) {
                self.aside.placed.entry(id).and_modify(|placed| placed.idle = true);
            } else {
                self.remove(&id);
            }
        }
    }
}
