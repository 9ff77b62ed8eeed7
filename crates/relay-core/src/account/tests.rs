use super::*;

const URL: &str = "https://app.loops.so/api";

fn named(name: &str) -> TeamAnswer {
    TeamAnswer::Named(name.to_owned())
}

fn store() -> ServedAccounts {
    ServedAccounts::new("random".to_owned())
}

fn resolve(accounts: &mut ServedAccounts, key: &str, answer: &TeamAnswer) -> KeyAccount {
    accounts.resolve(URL, &SecretString::from(key), answer)
}

fn first() -> KeyAccount {
    KeyAccount::default()
}

#[test]
fn first_account_has_the_empty_id_whatever_loops_answers() {
    for answer in [named("Acme"), TeamAnswer::Unnamed, TeamAnswer::Unavailable] {
        assert_eq!(resolve(&mut store(), "key", &answer), first(), "{answer:?}");
    }
}

#[test]
fn new_key_of_the_same_team_is_the_same_account() {
    let mut accounts = store();
    resolve(&mut accounts, "key", &named("Acme"));
    assert_eq!(resolve(&mut accounts, "rotated", &named("Acme")), first());
}

#[test]
fn key_of_another_team_is_another_account() {
    let mut accounts = store();
    resolve(&mut accounts, "key", &named("Acme"));
    let staging = resolve(&mut accounts, "other", &named("Acme staging"));
    assert!(staging.doubt.is_none() && staging.id.as_str().len() == 8, "{staging:?}");
    assert_eq!(accounts.current(Direction::ClayToLoops), &staging.id);
    assert_eq!(resolve(&mut accounts, "another", &named("Acme staging")), staging);
    assert_eq!(resolve(&mut accounts, "key", &named("Acme")), first());
}

#[test]
fn same_team_name_under_another_url_is_another_account() {
    let mut accounts = store();
    resolve(&mut accounts, "key", &named("Acme"));
    let other = accounts.resolve("http://127.0.0.1:9/api", &SecretString::from("key"), &named("Acme"));
    assert!(!other.id.is_first());
}

#[test]
fn account_of_an_api_without_teams_is_adopted_by_the_next_key() {
    let mut accounts = store();
    resolve(&mut accounts, "key", &TeamAnswer::Unnamed);
    assert_eq!(resolve(&mut accounts, "next", &named("Acme")), first());
    assert!(!resolve(&mut accounts, "other", &named("Globex")).id.is_first());
}

#[test]
fn account_whose_team_was_never_learnt_is_not_adopted() {
    let mut accounts = store();
    resolve(&mut accounts, "key", &TeamAnswer::Unavailable);
    let doubtful = resolve(&mut accounts, "next", &TeamAnswer::Unavailable);
    assert_eq!(doubtful, KeyAccount { doubt: Some(ReasonCode::Unreachable), ..first() });
    assert!(!resolve(&mut accounts, "next", &named("Globex")).id.is_first());
    assert_eq!(resolve(&mut accounts, "key", &named("Acme")), first(), "its own key may still learn it");
}

#[test]
fn api_without_teams_adopts_an_account_that_could_not_be_asked_for() {
    let mut accounts = store();
    resolve(&mut accounts, "key", &TeamAnswer::Unavailable);
    assert_eq!(resolve(&mut accounts, "next", &TeamAnswer::Unnamed), first());
}

#[test]
fn new_key_is_in_doubt_while_loops_cannot_be_asked() {
    let mut accounts = store();
    resolve(&mut accounts, "key", &named("Acme"));
    let before = accounts.clone();
    let doubtful = resolve(&mut accounts, "next", &TeamAnswer::Unavailable);
    assert_eq!(doubtful, KeyAccount { doubt: Some(ReasonCode::Unreachable), ..first() });
    assert_eq!(accounts, before, "nothing is recorded");
}

#[test]
fn rejected_key_is_not_recorded() {
    let mut accounts = store();
    let rejected = KeyAccount { doubt: Some(ReasonCode::LoopsKeyRejected), ..first() };
    assert_eq!(resolve(&mut accounts, "key", &TeamAnswer::KeyRejected), rejected);
    assert!(!accounts.was_real(Direction::ClayToLoops));
}

#[test]
fn known_key_needs_no_question_once_loops_has_answered() {
    let mut accounts = store();
    let account_of = |accounts: &ServedAccounts| accounts.account_of(URL, &SecretString::from("key"));
    assert_eq!(account_of(&accounts), None);
    resolve(&mut accounts, "key", &TeamAnswer::Unavailable);
    assert_eq!(account_of(&accounts), None, "its team is still to be learnt");
    resolve(&mut accounts, "key", &named("Acme"));
    assert_eq!(account_of(&accounts), Some(AccountId::default()));
}

#[test]
fn simulation_is_an_account_of_its_own_and_real_one_is_remembered() {
    for direction in Direction::ALL {
        let mut accounts = store();
        accounts.serve(direction, DestinationKind::Simulated);
        assert!(accounts.current(direction).is_simulated() && !accounts.was_real(direction));
    }
    let mut accounts = store();
    accounts.serve(Direction::ClayToLoops, DestinationKind::Simulated);
    resolve(&mut accounts, "key", &named("Acme"));
    accounts.serve(Direction::LoopsToClay, DestinationKind::Real);
    for direction in Direction::ALL {
        assert!(accounts.current(direction).is_first() && accounts.was_real(direction));
        accounts.serve(direction, DestinationKind::Simulated);
        accounts.serve(direction, DestinationKind::Real);
        assert!(accounts.current(direction).is_first());
    }
}

#[test]
fn closed_clay_is_the_first_account_and_was_never_real() {
    let mut accounts = store();
    accounts.serve(Direction::LoopsToClay, DestinationKind::Simulated);
    accounts.serve(Direction::LoopsToClay, DestinationKind::Closed);
    assert!(accounts.current(Direction::LoopsToClay).is_first() && !accounts.was_real(Direction::LoopsToClay));
}

#[test]
fn stored_accounts_hold_no_key_and_no_team_name() {
    let mut accounts = store();
    resolve(&mut accounts, "secret-key", &named("Acme"));
    let stored = serde_json::to_string(&accounts).unwrap();
    assert!(!stored.contains("secret-key") && !stored.contains("Acme"), "{stored}");
    assert_eq!(serde_json::from_str::<ServedAccounts>(&stored).unwrap(), accounts);
}
