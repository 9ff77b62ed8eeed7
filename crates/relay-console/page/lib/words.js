// What the relay's codes mean, in few words. docs/contract.md has each in full.

/** The directions, with who sends and who receives. */
export const DIRECTIONS = {
  "loops-to-clay": { label: "Loops → Clay", from: "Loops", to: "Clay", spoken: "Loops to Clay" },
  "clay-to-loops": { label: "Clay → Loops", from: "Clay", to: "Loops", spoken: "Clay to Loops" },
};

const REASONS = {
  too_large: "larger than Clay takes",
  other_destination: "taken for another account",
  id_conflict: "another body under a known id",
  outcome_unknown: "not known whether Loops has it",
  clay_rejected: "Clay refused it for good",
  loops_rejected: "Loops refused it for good",
  no_route: "no route takes this event",
  malformed: "no delivery of this relay",
  expired: "waited too long",
  clay_token_rejected: "Clay refused the webhook's token",
  clay_webhooks_exhausted: "every Clay webhook is used up",
  no_webhook: "no Clay webhook is set",
  loops_key_rejected: "Loops refused the relay's key",
  not_configured: "no Loops key is set",
  secret_unavailable: "a secret cannot be read",
  destination_throttled: "asked to wait (429)",
  destination_failed: "the destination failed",
  timed_out: "no answer in time",
  unreachable: "no connection",
  certificate_untrusted: "certificate is not trusted",
  internal: "error of the relay itself",
};

/** All reason codes, for the filter. */
export const REASON_CODES = Object.keys(REASONS).sort();

/** A reason in few words; a code that is not known stays a code. */
export function reasonText(code) {
  return REASONS[code] ?? code;
}

/** The state that is shown: what waits for an operator is held. */
export function shownState(delivery) {
  return delivery.state === "waiting" && delivery.heldSince ? "held" : delivery.state;
}

/** What a delivery is: a row for Clay, a contact, an event. */
export function kindText({ kind, route }) {
  if (kind === "row") return route ? `Row for ${route}` : "Row";
  const text = kind.replaceAll("_", " ");
  return text ? text[0].toUpperCase() + text.slice(1) : "Unknown";
}
