//! How much of the 50,000 rows that a Clay webhook takes in its life each one has taken (Clay, "Webhook integration
//! guide": limits). Nobody else counts them.

use relay::ports::webhook_usage::WebhookUsage;
use relay_core::webhook::route::{ClayRoute, WEBHOOK_ROW_LIMIT};

use crate::doctor::check::Check;
use crate::doctor::finding::Finding;

/// The check's name.
pub const CHECK: Check = Check::ClayWebhookUse;
/// From where on a new one should be made: 80 %.
const WARN_AT: u64 = WEBHOOK_ROW_LIMIT / 100 * 80;

/// What the use of a route's webhooks means: one finding for each.
#[must_use]
pub fn findings_for(route: &ClayRoute, uses: &[WebhookUsage]) -> Vec<Finding> {
    let spent =
        |used: &WebhookUsage| used.accepted >= WEBHOOK_ROW_LIMIT || matches!(used.rejected, Some((_, 403 | 404 | 410)));
    let all_spent = !uses.is_empty() && uses.iter().all(spent);
    let pairs = route.webhooks.iter().zip(uses);
    pairs
        .map(|(webhook, used)| {
            let name = format!("{} {}", route.name, webhook.fingerprint());
            let taken = format!("{name} has taken {} of {WEBHOOK_ROW_LIMIT}", used.accepted);
            match used.rejected {
                Some((_, 401)) => Finding::fail(
                    CHECK,
                    format!("{name} refuses its token (401), and deliveries wait"),
                    token_remedy(&webhook.fingerprint(), uses.len()),
                ),
                _ if all_spent => Finding::fail(
                    CHECK,
                    format!("{taken} and takes no more, like every webhook of {}: deliveries wait", route.name),
                    "make a new webhook in Clay and add it with `relayctl setup --add-clay-webhook`, behind the old ones",
                ),
                _ if spent(used) => Finding::warn(
                    CHECK,
                    format!("{taken} and takes no more; the next one of the pool does"),
                    "add another webhook to the pool with `relayctl setup --add-clay-webhook`, before the next one is used up",
                ),
                _ if used.accepted >= WARN_AT => Finding::warn(
                    CHECK,
                    taken,
                    "make another webhook in Clay and add it to the pool with `relayctl setup --add-clay-webhook`",
                ),
                _ => Finding::ok(CHECK, taken),
            }
        })
        .collect()
}

/// How a webhook gets another token: where it is the only one `setup` asks for it, and in a pool it is taken out and put in
/// again with it, because `setup` would give one token to all of them.
fn token_remedy(key: &str, pool: usize) -> String {
    if pool < 2 {
        return "give the token that Clay showed to `relayctl setup`, or make a new webhook in Clay".to_owned();
    }
    format!(
        "take it out with `relayctl setup --retire-clay-webhook {key}`, and add it again, with the token that Clay showed, with `relayctl setup --add-clay-webhook`"
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use relay_core::webhook::route::ClayWebhook;

    use super::*;
    use crate::doctor::finding::Severity;

    fn outcomes(uses: &[(u64, Option<u16>)]) -> Vec<Severity> {
        judged(uses).iter().map(|finding| finding.outcome).collect()
    }

    fn judged(uses: &[(u64, Option<u16>)]) -> Vec<Finding> {
        let webhook = |place| ClayWebhook::new(&format!("https://a.example/{place}"), None).unwrap();
        let webhooks = (0..uses.len()).map(webhook).collect();
        let route = ClayRoute { name: "contacts".to_owned(), events: "*".parse().unwrap(), webhooks };
        let of = |(taken, status): &(u64, Option<u16>)| WebhookUsage {
            accepted: *taken,
            rejected: status.map(|status| (Timestamp::UNIX_EPOCH, status)),
        };
        findings_for(&route, &uses.iter().map(of).collect::<Vec<_>>())
    }

    #[test]
    fn four_fifths_are_worth_a_word() {
        assert_eq!(outcomes(&[(39_999, None), (40_000, None)]), [Severity::Ok, Severity::Warn]);
    }

    #[test]
    fn one_that_is_used_up_matters_as_much_as_what_is_left_of_its_pool() {
        assert_eq!(outcomes(&[(50_000, None), (0, None)]), [Severity::Warn, Severity::Ok]);
        assert_eq!(outcomes(&[(7, Some(403)), (50_000, Some(403))]), [Severity::Fail, Severity::Fail]);
    }

    #[test]
    fn a_pool_grows_by_the_option_that_leaves_it_what_it_has() {
        for uses in [&[(40_000, None)][..], &[(50_000, None)], &[(50_000, None), (0, None)]] {
            let to_do = judged(uses)[0].remedy.clone().unwrap();
            assert!(to_do.contains("`relayctl setup --add-clay-webhook`"), "{to_do}");
        }
    }

    #[test]
    fn the_token_of_one_webhook_of_a_pool_is_changed_without_changing_the_others() {
        let to_do = |uses: &[(u64, Option<u16>)]| judged(uses)[0].remedy.clone().unwrap();
        assert!(to_do(&[(7, Some(401))]).contains("to `relayctl setup`"));
        let of_a_pool = to_do(&[(7, Some(401)), (0, None)]);
        let key = ClayWebhook::new("https://a.example/0", None).unwrap().fingerprint();
        assert!(of_a_pool.contains(&format!("`relayctl setup --retire-clay-webhook {key}`")), "{of_a_pool}");
        assert!(of_a_pool.contains("`relayctl setup --add-clay-webhook`"), "{of_a_pool}");
    }

    #[test]
    fn a_refused_token_is_a_failure() {
        assert_eq!(outcomes(&[(7, Some(401)), (0, None)]), [Severity::Fail, Severity::Ok]);
    }
}
