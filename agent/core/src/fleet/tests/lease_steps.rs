use super::super::lease::{LeaseCase, LeaseRecord, LeaseSeen, LeaseStep, step};
use super::*;

fn record(holder: Option<&str>, number: u64) -> LeaseRecord {
    LeaseRecord {
        uid: "lease".into(),
        holder: holder.map(str::to_owned),
        epoch: Said::Is(epoch(number)),
        renewed: "2026-01-01T00:00:00Z".into(),
    }
}

fn decide(record: Option<LeaseRecord>, unchanged: u64, held: Option<(u64, u64)>, revoke: bool) -> LeaseStep {
    let seen = record.map(|record| LeaseSeen { record, unchanged_since: seconds(unchanged) });
    let holding =
        held.map(|(number, renewed)| Holding { uid: "lease".into(), epoch: epoch(number), renewed: seconds(renewed) });
    let dice = epoch(99);
    let case = LeaseCase { seen: seen.as_ref(), holding: holding.as_ref(), me: "me", revoke, dice: &dice };
    step(case, &Waits::default(), seconds(1_000))
}

#[test]
fn the_lease_of_another_is_taken_when_it_stood_still_for_a_minute() {
    assert_eq!(decide(Some(record(Some("other"), 1)), 941, None, false), LeaseStep::Wait(seconds(1_001)));
    assert_eq!(decide(Some(record(Some("other"), 1)), 940, None, false), LeaseStep::Acquire(epoch(99)));
}

#[test]
fn a_lease_that_nobody_can_act_under_is_taken_at_once_with_a_new_epoch() {
    let no_epoch = LeaseRecord { epoch: Said::Nothing, ..record(Some("other"), 1) };
    let garbage = LeaseRecord { epoch: Said::Garbage, ..record(Some("other"), 1) };
    for free in [record(None, 1), record(Some("me"), 1), no_epoch, garbage] {
        assert_eq!(decide(Some(free.clone()), 1_000, None, false), LeaseStep::Acquire(epoch(99)), "{free:?}");
    }
    assert_eq!(
        decide(Some(record(Some("me"), 99)), 1_000, None, false),
        LeaseStep::Wait(seconds(1_000)),
        "an epoch that is there already is not new"
    );
}

#[test]
fn a_holder_renews_every_ten_seconds_and_also_when_it_is_late() {
    let ours = || Some(record(Some("me"), 7));
    assert_eq!(decide(ours(), 0, Some((7, 991)), false), LeaseStep::Wait(seconds(1_001)));
    assert_eq!(decide(ours(), 0, Some((7, 990)), false), LeaseStep::Renew);
    assert_eq!(decide(ours(), 0, Some((7, 800)), false), LeaseStep::Renew, "a server's restart costs no epoch");
    assert_eq!(decide(ours(), 0, Some((7, 999)), true), LeaseStep::Acquire(epoch(99)), "to revoke");
}

#[test]
fn a_holder_has_lost_what_is_not_its_own_record_any_more() {
    let again = LeaseRecord { uid: "new".into(), ..record(Some("me"), 7) };
    let bare = LeaseRecord { epoch: Said::Nothing, ..record(Some("me"), 7) };
    for lost in [
        None,
        Some(again),
        Some(bare),
        Some(record(Some("other"), 7)),
        Some(record(None, 7)),
        Some(record(Some("me"), 8)),
    ] {
        for revoke in [false, true] {
            let step = decide(lost.clone(), 0, Some((7, 999)), revoke);
            assert!(matches!(step, LeaseStep::Lost(_)), "{lost:?}: {step:?}");
        }
    }
    assert_eq!(decide(None, 0, None, false), LeaseStep::Wait(seconds(1_010)), "it is never created");
}

#[test]
fn nothing_is_acted_on_40_s_after_the_last_renewal_began() {
    let holding = Holding { uid: "lease".into(), epoch: epoch(1), renewed: seconds(100) };
    assert!(holding.may_act(&Waits::default(), Duration::from_millis(139_999)));
    assert!(!holding.may_act(&Waits::default(), seconds(140)));
}

#[test]
fn a_record_ages_only_while_it_stands_still() {
    let first = LeaseSeen::next(None, record(Some("other"), 1), seconds(10));
    let same = LeaseSeen::next(Some(first.clone()), record(Some("other"), 1), seconds(30));
    assert_eq!(same, first);
    let renewed = LeaseRecord { renewed: "1970-01-01T00:00:00Z".into(), ..record(Some("other"), 1) };
    let next = LeaseSeen::next(Some(same), renewed, seconds(40));
    assert_eq!(next.unchanged_since, seconds(40), "whatever the holder's clock says");
}
