//! Envoy's priority arithmetic, against its documentation, its own tests, and its promises.

use fallway::sim::{EnvoyExact, Priority, PriorityLoad};
use proptest::prelude::*;

fn level(hosts: u32, healthy: u32) -> Priority {
    Priority::new(hosts, healthy)
}

fn healthy(loads: &[PriorityLoad]) -> Vec<u32> {
    loads.iter().map(|load| load.healthy).collect()
}

fn degraded(loads: &[PriorityLoad]) -> Vec<u32> {
    loads.iter().map(|load| load.degraded).collect()
}

fn panics(loads: &[PriorityLoad]) -> Vec<bool> {
    loads.iter().map(|load| load.panic).collect()
}

fn loads(levels: &[Priority]) -> Vec<PriorityLoad> {
    EnvoyExact::default().loads(levels)
}

/// Levels of 100 hosts, so that percentages are hosts.
fn percent(healthy: &[u32]) -> Vec<Priority> {
    healthy.iter().map(|healthy| level(100, *healthy)).collect()
}

#[test]
fn two_levels_share_as_documented() {
    for (health, expected) in [
        ([100, 100], [100, 0]),
        ([72, 100], [100, 0]),
        ([71, 100], [99, 1]),
        ([50, 100], [70, 30]),
        ([25, 100], [35, 65]),
        ([0, 100], [0, 100]),
        ([72, 72], [100, 0]),
        ([71, 71], [99, 1]),
        ([50, 50], [70, 30]),
        ([50, 60], [70, 30]),
        ([25, 25], [50, 50]),
    ] {
        assert_eq!(healthy(&loads(&percent(&health))), expected, "{health:?}");
    }
    // Healths of 20 and 30 are scaled to 40 and 60.
    let exact = EnvoyExact::default().overprovisioning(100).panic_threshold(0);
    assert_eq!(healthy(&exact.loads(&percent(&[20, 30]))), [40, 60]);
}

#[test]
fn three_levels_share_as_documented() {
    for (health, expected) in [
        ([100, 100, 100], [100, 0, 0]),
        ([72, 72, 100], [100, 0, 0]),
        ([71, 71, 100], [99, 1, 0]),
        ([50, 50, 100], [70, 30, 0]),
        ([25, 100, 100], [35, 65, 0]),
        ([25, 25, 100], [35, 35, 30]),
    ] {
        assert_eq!(healthy(&loads(&percent(&health))), expected, "{health:?}");
    }
}

#[test]
fn where_the_documentation_rounds_the_code_counts() {
    // Documented as 36, 36, 28, without a word on panic. 35 · 100 / 98 is 35 and not 36, and 2 are left over.
    let few = percent(&[25, 25, 20]);
    assert_eq!(healthy(&EnvoyExact::default().panic_threshold(0).loads(&few)), [37, 35, 28]);
    // With the default threshold, every level of it panics.
    assert_eq!((healthy(&loads(&few)), panics(&loads(&few))), (vec![34, 33, 33], vec![true; 3]));
    // Documented as 7 and 93. 7 · 100 / 98 is 7, 91 · 100 / 98 is 92, and 1 is left over, for the first.
    let uneven = loads(&percent(&[5, 65]));
    assert_eq!((healthy(&uneven), panics(&uneven)), (vec![8, 92], vec![true, false]));
}

#[test]
fn degraded_hosts_share_as_documented() {
    for ((well, worse), expected) in
        [((100, 0), (100, 0)), ((71, 0), (100, 0)), ((71, 29), (99, 1)), ((25, 65), (35, 65)), ((5, 0), (100, 0))]
    {
        let loads = loads(&[level(100, well).degraded(worse)]);
        assert_eq!((loads[0].healthy, loads[0].degraded), expected, "{well} {worse}");
    }
    // 10, 20 and 10 % healthy, 20, 10 and 0 % degraded, of its source's comment: 70 in all.
    let exact = EnvoyExact::default().overprovisioning(100).panic_threshold(0);
    let loads = exact.loads(&[level(100, 10).degraded(20), level(100, 20).degraded(10), level(100, 10)]);
    assert_eq!((healthy(&loads), degraded(&loads)), (vec![16, 28, 14], vec![28, 14, 0]));
}

#[test]
fn panic_is_as_documented() {
    for (health, expected) in [
        ([72, 100], [false, false]),
        ([0, 100], [false, false]),
        ([72, 72], [false, false]),
        ([71, 71], [false, false]),
        ([50, 60], [false, false]),
        ([25, 100], [false, false]),
        ([25, 25], [true, true]),
        ([5, 65], [true, false]),
    ] {
        assert_eq!(panics(&loads(&percent(&health))), expected, "{health:?}");
    }
    // All panic: by the number of hosts.
    assert_eq!(healthy(&loads(&[level(5, 0), level(5, 0)])), [50, 50]);
    assert_eq!(healthy(&loads(&[level(2, 0), level(8, 0)])), [20, 80]);
    // A threshold of 0: nobody panics, and the first level gets what nobody can serve.
    let loads = EnvoyExact::default().panic_threshold(0).loads(&[level(2, 0), level(8, 0)]);
    assert_eq!((healthy(&loads), panics(&loads)), (vec![100, 0], vec![false; 2]));
}

/// `load_balancer_impl_base_test.cc`: `PrioritySelection`, `OverProvisioningFactor`, `GentleFailover`,
/// `GentleFailoverWithExtraLevels`.
#[test]
fn the_cases_of_its_own_tests_hold() {
    type Case<'a> = (&'a [Priority], &'a [u32], &'a [u32], Option<&'a [bool]>);
    let (no, yes) = (false, true);
    let cases: [Case<'_>; 21] = [
        (&[level(1, 0), level(1, 0)], &[50, 50], &[0, 0], None),
        (&[level(1, 0), level(2, 0)], &[34, 66], &[0, 0], None),
        (&[level(1, 0), level(2, 0), level(1, 1)], &[0, 0, 100], &[0, 0, 0], None),
        (&[level(1, 1), level(1, 1)], &[100, 0], &[0, 0], Some(&[no, no])),
        (&[level(2, 1), level(2, 1)], &[70, 30], &[0, 0], Some(&[no, no])),
        (&[level(4, 1), level(2, 2)], &[35, 65], &[0, 0], Some(&[no, no])),
        (&[level(4, 1), level(4, 1)], &[50, 50], &[0, 0], Some(&[yes, yes])),
        (&[level(4, 1).excluded(3), level(5, 1)], &[100, 0], &[0, 0], Some(&[no, no])),
        (&[level(4, 0).excluded(4), level(4, 1)], &[50, 50], &[0, 0], Some(&[yes, yes])),
        (&[level(4, 0).excluded(1), level(6, 1).excluded(2)], &[40, 60], &[0, 0], Some(&[yes, yes])),
        (&[level(2, 1), level(2, 1), level(2, 1)], &[70, 30, 0], &[0, 0, 0], None),
        (&[level(4, 1), level(4, 1), level(4, 1)], &[35, 35, 30], &[0, 0, 0], None),
        (&[level(5, 1), level(5, 1), level(5, 1)], &[34, 33, 33], &[0, 0, 0], Some(&[yes, yes, yes])),
        (&[level(5, 0), level(5, 0), level(5, 5)], &[0, 0, 100], &[0, 0, 0], Some(&[no, no, no])),
        (&[level(5, 0), level(5, 0), level(5, 2)], &[34, 33, 33], &[0, 0, 0], Some(&[yes, yes, yes])),
        (
            &[level(5, 0).degraded(5), level(5, 2).degraded(2), level(5, 2)],
            &[0, 56, 44],
            &[0, 0, 0],
            Some(&[no, no, no]),
        ),
        (&[level(5, 0), level(3, 0), level(2, 0)], &[50, 30, 20], &[0, 0, 0], Some(&[yes, yes, yes])),
        (&[level(5, 0), level(6, 2), level(3, 1)], &[37, 42, 21], &[0, 0, 0], Some(&[yes, yes, yes])),
        (&[level(5, 0).degraded(1), level(5, 0).degraded(5), level(5, 1)], &[0, 0, 28], &[28, 44, 0], None),
        (&[level(5, 0), level(5, 0).degraded(2), level(5, 0).degraded(1)], &[34, 33, 33], &[0, 0, 0], None),
        (&[level(0, 0), level(6, 0), level(3, 0)], &[0, 67, 33], &[0, 0, 0], Some(&[yes, yes, yes])),
    ];
    for (levels, well, worse, panic) in cases {
        let loads = loads(levels);
        assert_eq!((&healthy(&loads)[..], &degraded(&loads)[..]), (well, worse), "{levels:?}");
        assert!(panic.is_none_or(|panic| panics(&loads) == panic), "{levels:?}: {loads:?}");
    }
    let calm = EnvoyExact::default().panic_threshold(0);
    let loads = calm.loads(&[level(5, 0), level(5, 0).degraded(2), level(5, 0).degraded(1)]);
    assert_eq!((healthy(&loads), degraded(&loads)), (vec![0, 0, 0], vec![0, 67, 33]));
    let exact = EnvoyExact::default().overprovisioning(100);
    assert_eq!(healthy(&exact.loads(&[level(4, 2), level(4, 2)])), [50, 50]);
}

#[test]
fn the_edges_have_an_answer() {
    assert_eq!(loads(&[]), []);
    assert_eq!(healthy(&loads(&[level(0, 0)])), [100]);
    assert_eq!(healthy(&EnvoyExact::default().panic_threshold(0).loads(&[level(0, 0), level(0, 0)])), [100, 0]);
    let huge = Priority { hosts: u32::MAX, healthy: u32::MAX, degraded: u32::MAX, excluded: u32::MAX };
    let wide = EnvoyExact::default().overprovisioning(u32::MAX).panic_threshold(u32::MAX);
    assert_eq!(wide.loads(&[huge, huge]).iter().map(|load| load.healthy + load.degraded).sum::<u32>(), 100);
    assert_eq!(healthy(&EnvoyExact::default().overprovisioning(0).panic_threshold(0).loads(&[level(2, 2)])), [100]);
}

fn any_level() -> impl Strategy<Value = Priority> {
    (0u32..40).prop_flat_map(|hosts| (Just(hosts), 0..=hosts)).prop_flat_map(|(hosts, healthy)| {
        let rest = hosts - healthy;
        (Just((hosts, healthy)), 0..=rest).prop_flat_map(move |(counts, degraded)| {
            (Just((counts, degraded)), 0..=rest - degraded)
                .prop_map(|(((hosts, healthy), degraded), excluded)| Priority { hosts, healthy, degraded, excluded })
        })
    })
}

proptest! {
    #[test]
    fn all_load_is_handed_out(levels in prop::collection::vec(any_level(), 1..8), threshold in 0u32..=100) {
        let loads = EnvoyExact::default().panic_threshold(threshold).loads(&levels);
        prop_assert_eq!(loads.iter().map(|load| load.healthy + load.degraded).sum::<u32>(), 100);
        prop_assert!(threshold > 0 || loads.iter().all(|load| !load.panic));
    }

    /// While nobody panics: one more healthy host draws no load away from its level, nor adds any behind it.
    #[test]
    fn more_health_means_no_less_load(levels in prop::collection::vec(any_level(), 1..6), which in 0usize..6) {
        let exact = EnvoyExact::default().panic_threshold(0);
        let at = which % levels.len();
        let mut better = levels.clone();
        prop_assume!(levels[at].healthy + levels[at].degraded + levels[at].excluded < levels[at].hosts);
        better[at].healthy += 1;
        let (before, after) = (exact.loads(&levels), exact.loads(&better));
        // What rounding leaves over goes to the first level and is no load of its own: at most one for each part.
        let slack = 2 * levels.len() as u32;
        prop_assert!(after[at].healthy + slack >= before[at].healthy, "{before:?} {after:?}");
        let all = |loads: &[PriorityLoad]| loads.iter().map(|load| load.healthy).sum::<u32>();
        prop_assert!(all(&after) + slack >= all(&before), "{before:?} {after:?}");
        let enough = levels.iter().map(|it| it.healthy * 140 / (it.hosts - it.excluded).max(1)).sum::<u32>() >= 100;
        if enough {
            // Nothing is scaled, so nothing is rounded.
            prop_assert!(after[at].healthy >= before[at].healthy);
            let behind = |loads: &[PriorityLoad]| loads[at + 1..].iter().map(|load| load.healthy).sum::<u32>();
            prop_assert!(behind(&after) <= behind(&before));
        }
    }
}
