//! Shares by themselves, from one thread and from several.

use super::*;
use crate::rng::Rng;

fn shares(total: u32, others: Share, named: &[(&str, Share)]) -> Shares {
    let tenants = named.iter().fold(Bulkheads::of(total, others), |all, (name, share)| all.share(*name, *share));
    Shares::new(Some(tenants), None, 7)
}

fn cells(shares: &Shares, tenant: &str) -> Cells {
    shares.cells(&Facts::any().tenant(tenant))
}

fn take(shares: &Shares, tenant: &str) -> Option<Stake> {
    shares.take(cells(shares, tenant)).stake
}

/// Takes until nothing is left.
fn fill(shares: &Shares, tenant: &str) -> Vec<Stake> {
    std::iter::from_fn(|| take(shares, tenant)).collect()
}

#[test]
fn what_is_kept_is_there_and_what_is_lent_comes_back() {
    let shares = shares(10, Share::at_most(9), &[("a", Share::at_least(4)), ("b", Share::at_least(3).lends(2))]);
    // 4 are kept for a, and 1 for b.
    let mut flood = fill(&shares, "anybody");
    assert_eq!((flood.len(), shares.of_tenant("anybody")), (5, Some(5)));
    let full = |tenant| shares.full(cells(&shares, tenant));
    assert_eq!(full("anybody"), Some(Reason::TenantFull { in_flight: 5, most: 5 }));
    assert_eq!((full("a"), full("b")), (None, None));
    assert_eq!((fill(&shares, "a").len(), fill(&shares, "b").len()), (4, 1));
    assert_eq!(full("b"), Some(Reason::TenantFull { in_flight: 1, most: 1 }));
    shares.give_back(flood.pop().unwrap());
    let right = |tenant| shares.right(cells(&shares, tenant));
    assert_eq!([right("a"), right("b"), right("anybody")], [Some(Right::Open), Some(Right::Own), Some(Right::Open)]);
}

#[test]
fn the_maximum_is_one_whatever_is_free() {
    let shares = shares(10, Share::at_most(3), &[("a", Share::at_least(1).up_to(2))]);
    assert_eq!((fill(&shares, "a").len(), fill(&shares, "x").len()), (2, 3));
    assert_eq!(shares.full(cells(&shares, "x")), Some(Reason::TenantFull { in_flight: 3, most: 3 }));
}

#[test]
fn both_are_taken_or_neither() {
    let whole = |most| Some(Bulkheads::of(10, Share::at_most(most)));
    let shares = Shares::new(whole(5), whole(2), 7);
    let cells = shares.cells(&Facts::model("m").tenant("t"));
    let stakes = [shares.take(cells), shares.take(cells)].map(|taken| taken.stake.unwrap());
    let third = shares.take(cells);
    assert!(third.stake.is_none() && third.disturbed, "{third:?}");
    assert_eq!((shares.of_tenant("t"), shares.of_route("m")), (Some(2), Some(2)));
    assert_eq!(shares.full(cells), Some(Reason::RouteFull { in_flight: 2, most: 2 }));
    stakes.into_iter().for_each(|stake| shares.give_back(stake));
    assert_eq!((shares.of_tenant("t"), shares.of_route("m")), (Some(0), Some(0)));
}

#[test]
fn a_million_names_cost_no_memory_and_have_one_share_each() {
    let shares = shares(1_000_000, Share::at_most(4), &[("a", Share::at_least(1))]);
    let ledger = shares.tenants.as_ref().unwrap();
    let mut names = vec![0u32; Bulkheads::CELLS];
    for n in 0..1_000_000 {
        let cell = cells(&shares, &format!("tenant-{n}")).tenant;
        assert_ne!(cell, cells(&shares, "a").tenant, "nobody else counts where a name does");
        names[cell as usize - 1] += 1;
        if n % 100 == 0 {
            // Its call never ends.
            let _ = take(&shares, &format!("tenant-{n}"));
        }
    }
    // A fixed table, and the cells are as good as random: 977 names in each, give or take.
    let bytes = size_of_val(&*ledger.others) + size_of_val(&*ledger.shares);
    assert_eq!((ledger.named.len(), bytes), (1, 4 * Bulkheads::CELLS + size_of::<Named>()));
    let (least, most) = (names.iter().min().unwrap(), names.iter().max().unwrap());
    assert!(*least > 800 && *most < 1_150, "{least} to {most}");
    // Whoever shares a cell shares four calls.
    let used = ledger.others.iter().map(|cell| cell.load(Ordering::SeqCst));
    assert!(used.clone().all(|used| used <= 4) && used.sum::<u32>() > 4_000);
}

/// The rules, by their words: nobody beyond its maximum, no more than the whole, and what is kept for others stays.
#[test]
fn never_over_and_never_less_than_is_kept() {
    let named = [("a", Share::at_least(5)), ("b", Share::at_least(4).lends(3).up_to(6)), ("c", Share::at_most(7))];
    // What is kept for each, and its maximum.
    let limits = [(5, u32::MAX), (1, 6), (0, 7), (0, 3)];
    for threads in [1, 2, 8u64] {
        let shares = shares(16, Share::at_most(3), &named);
        let (all, each) = (AtomicU32::new(0), [(); 4].map(|()| AtomicU32::new(0)));
        let work = |thread: u64| {
            let mut rng = Rng::new(thread);
            let mut held: Vec<(usize, Stake)> = Vec::new();
            // Counted out before: whoever takes it meanwhile finds the books in order.
            let give_back = |(who, stake): (usize, Stake)| {
                all.fetch_sub(1, Ordering::SeqCst);
                each[who].fetch_sub(1, Ordering::SeqCst);
                shares.give_back(stake);
            };
            for _ in 0..1_000_000 / threads {
                if rng.below(2) == 0 || held.is_empty() {
                    let who = rng.below(4);
                    let Some(stake) = take(&shares, ["a", "b", "c", "x"][who]) else {
                        let kept = threads > 1 || each[who].load(Ordering::SeqCst) >= limits[who].0;
                        assert!(kept, "what is kept for {who} is not there");
                        continue;
                    };
                    let (now, own) = (all.fetch_add(1, Ordering::SeqCst), each[who].fetch_add(1, Ordering::SeqCst));
                    assert!(now < 16, "{now} before it");
                    assert!(own < limits[who].1, "{own} of {who} before it");
                    held.push((who, stake));
                } else {
                    give_back(held.swap_remove(rng.below(held.len())));
                }
            }
            held.into_iter().for_each(give_back);
        };
        std::thread::scope(|scope| (0..threads).for_each(|thread| drop(scope.spawn(move || work(thread)))));
        let ledger = shares.tenants.as_ref().unwrap();
        assert_eq!(ledger.taken.0.load(Ordering::SeqCst), 0);
        assert!(["a", "b", "c", "x"].into_iter().all(|name| shares.of_tenant(name) == Some(0)));
    }
}
