//! Usage of the 50,000 rows that a Clay webhook accepts in its life (Clay, "Webhook integration guide": limits). Only the
//! relay counts them.

use relay::ports::webhook_usage::WebhookUsage;
use relay_core::webhook::route::{CLAY_WEBHOOK_ROW_LIMIT, ClayRoute};

use crate::check::Check;
use crate::finding::Finding;
use crate::invocation::suggest;

const CHECK: Check = Check::ClayWebhookUsage;
/// Usage from which on the operator should make a new webhook: 80 %.
const WARN_AT: u64 = CLAY_WEBHOOK_ROW_LIMIT / 100 * 80;

/// Returns one finding for each webhook of a route.
pub fn findings_for(route: &ClayRoute, usages: &[WebhookUsage]) -> Vec<Finding> {
    let is_exhausted = |usage: &WebhookUsage| {
        usage.accepted >= CLAY_WEBHOOK_ROW_LIMIT || matches!(usage.rejected, Some((_, 403 | 404 | 410)))
    };
    let all_exhausted = !usages.is_empty() && usages.iter().all(is_exhausted);
    let pairs = route.webhooks.iter().zip(usages);
    pairs
        .map(|(webhook, usage)| {
            let name = format!("{} {}", route.name, webhook.fingerprint());
            let summary = format!("{name} has taken {} of {CLAY_WEBHOOK_ROW_LIMIT}", usage.accepted);
            match usage.rejected {
                Some((_, 401)) => CHECK.fail(
                    format!("{name} refuses its token (401), and deliveries wait"),
                    token_remedy(&webhook.fingerprint(), usages.len()),
                ),
                _ if all_exhausted => CHECK.fail(
                    format!("{summary} and takes no more, like every webhook of {}: deliveries wait", route.name),
                    format!(
                        "make a new webhook in Clay and add it with {}, behind the old ones",
                        suggest("setup --add-clay-webhook")
                    ),
                ),
                _ if is_exhausted(usage) => CHECK.warn(
                    format!("{summary} and takes no more; the next one of the pool does"),
                    format!(
                        "add another webhook to the pool with {}, before the next one is used up",
                        suggest("setup --add-clay-webhook")
                    ),
                ),
                _ if usage.accepted >= WARN_AT => CHECK.warn(
                    summary,
                    format!(
                        "make another webhook in Clay and add it to the pool with {}",
                        suggest("setup --add-clay-webhook")
                    ),
                ),
                _ => CHECK.ok(summary),
            }
        })
        .collect()
}

/// Returns how a webhook gets another token. In a pool it is taken out and added again, because `setup` would give one
/// token to all webhooks.
fn token_remedy(key: &str, pool_size: usize) -> String {
    if pool_size < 2 {
        return format!("give the token that Clay showed to {}, or make a new webhook in Clay", suggest("setup"));
    }
    format!(
        "take it out with {}, and add it again, with the token that Clay showed, with {}",
        suggest(format_args!("setup --retire-clay-webhook {key}")),
        suggest("setup --add-clay-webhook")
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use relay_core::webhook::route::ClayWebhook;

    use super::*;
    use crate::finding::Severity;

    fn severities(usages: &[(u64, Option<u16>)]) -> Vec<Severity> {
        findings(usages).iter().map(|finding| finding.severity).collect()
    }

    fn findings(usages: &[(u64, Option<u16>)]) -> Vec<Finding> {
        let webhook = |index| ClayWebhook::new(&format!("https://a.example/{index}"), None).unwrap();
        let webhooks = (0..usages.len()).map(webhook).collect();
        let route = ClayRoute { name: "contacts".to_owned(), events: "*".parse().unwrap(), webhooks };
        let usage = |(accepted, status): &(u64, Option<u16>)| WebhookUsage {
            accepted: *accepted,
            rejected: status.map(|status| (Timestamp::UNIX_EPOCH, status)),
        };
        findings_for(&route, &usages.iter().map(usage).collect::<Vec<_>>())
    }

    #[test]
    fn webhook_at_80_percent_of_its_rows_warns() {
        assert_eq!(severities(&[(39_999, None), (40_000, None)]), [Severity::Ok, Severity::Warn]);
    }

    #[test]
    fn exhausted_webhook_fails_only_if_whole_pool_is_exhausted() {
        assert_eq!(severities(&[(50_000, None), (0, None)]), [Severity::Warn, Severity::Ok]);
        assert_eq!(severities(&[(7, Some(403)), (50_000, Some(403))]), [Severity::Fail, Severity::Fail]);
    }

    #[test]
    fn usage_remedy_is_add_clay_webhook() {
        for usages in [&[(40_000, None)][..], &[(50_000, None)], &[(50_000, None), (0, None)]] {
            let remedy = findings(usages)[0].remedy.clone().unwrap();
            assert!(remedy.contains("`relayctl setup --add-clay-webhook`"), "{remedy}");
        }
    }

    #[test]
    fn rejected_token_remedy_in_pool_replaces_one_webhook() {
        let remedy = |usages: &[(u64, Option<u16>)]| findings(usages)[0].remedy.clone().unwrap();
        assert!(remedy(&[(7, Some(401))]).contains("to `relayctl setup`"));
        let pool_remedy = remedy(&[(7, Some(401)), (0, None)]);
        let key = ClayWebhook::new("https://a.example/0", None).unwrap().fingerprint();
        assert!(pool_remedy.contains(&format!("`relayctl setup --retire-clay-webhook {key}`")), "{pool_remedy}");
        assert!(pool_remedy.contains("`relayctl setup --add-clay-webhook`"), "{pool_remedy}");
    }

    #[test]
    fn rejected_webhook_token_fails_the_check() {
        assert_eq!(severities(&[(7, Some(401)), (0, None)]), [Severity::Fail, Severity::Ok]);
    }
}
