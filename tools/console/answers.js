// How the mock answers each route, from the documents of fixtures.js.

const SENTENCES = {
  would_send: "send again",
  sent: "sent again",
  would_drop: "drop",
  dropped: "dropped",
  outdated: "leave: something newer of its contact was delivered (tick “even if older”)",
};

/** The document of a route, or null if there is none. */
export function answerOf(state, route, parameters, body) {
  if (route === "overview") return state.overview;
  if (route === "deliveries") return list(state.deliveries, parameters);
  if (route === "contact") return { contact: "9c1f0ab37e52d4c8" };
  if (route === "connect") return state.connect;
  if (route === "doctor") return { findings: state.findings };
  if (route === "trial") return state.trial;
  if (route === "pause") return pause(state, body);
  if (route === "trial/contacts") return { status: 200, body: { success: true, status: "queued" } };
  if (route === "trial/destination") return behave(state, body);
  if (route === "trial/call") return call(body);
  const act = /^dead-letters\/(retry|drop)$/.exec(route);
  if (act) return redrive(state.deliveries, act[1], body);
  const [, id, part] = /^deliveries\/([^/]+)(\/body)?$/.exec(route) ?? [];
  const delivery = state.deliveries.find((each) => each.id === decodeURIComponent(id ?? ""));
  if (!delivery) return null;
  if (part) return { body: JSON.stringify({ email: "ada@example.com", firstName: "Ada", seats: "12" }) };
  return { delivery, nextStep: nextStep(delivery), bodyStored: delivery.state !== "delivered" };
}

function nextStep({ state, reason }) {
  if (state === "delivered") return "Nothing: it is delivered.";
  if (reason === "loops_key_rejected")
    return "Store a Loops key that works with `relayctl setup --local`: it is sent within a minute then.";
  return state === "dead"
    ? "Fix the row in Clay and run it again; then drop this dead letter."
    : "Nothing: it is tried again by itself.";
}

function list(all, parameters) {
  const shown = (each) => (each.heldSince ? "held" : each.state);
  const matching = all.filter((each) => {
    const state = parameters.get("state");
    const stateFits = !state || each.state === state || shown(each) === state;
    return (
      stateFits &&
      ["direction", "reason"].every((name) => !parameters.get(name) || each[name] === parameters.get(name)) &&
      (!parameters.get("id") || each.id === parameters.get("id"))
    );
  });
  const from = Number(parameters.get("after") ?? 0);
  const limit = Number(parameters.get("limit") ?? 50);
  return {
    deliveries: matching.slice(from, from + limit),
    next: from + limit < matching.length ? String(from + limit) : null,
  };
}

function redrive(all, kind, { ids, reason, direction, apply, evenIfOlder }) {
  const letters = all.filter(
    (each) =>
      each.state === "dead" &&
      (!ids || ids.includes(each.id)) &&
      (!reason || each.reason === reason) &&
      (!direction || each.direction === direction),
  );
  const outcomes = letters.map(({ id, direction: way, reason: why }, index) => {
    const outcome =
      kind === "drop"
        ? apply
          ? "dropped"
          : "would_drop"
        : index === 1 && !evenIfOlder
          ? "outdated"
          : apply
            ? "sent"
            : "would_send";
    return { id, direction: way, reason: why, outcome, sentence: SENTENCES[outcome] };
  });
  const byOutcome = {};
  for (const { outcome } of outcomes) byOutcome[outcome] = (byOutcome[outcome] ?? 0) + 1;
  return {
    applied: Boolean(apply),
    total: letters.length,
    changed: outcomes.filter(({ outcome }) => outcome !== "outdated").length,
    outcomes,
    byOutcome,
    behind: 0,
  };
}

function pause(state, { direction, paused }) {
  const view = state.overview.directions.find((each) => each.direction === direction);
  Object.assign(view, { paused, pausedSince: paused ? new Date().toISOString() : null });
  return { changed: true };
}

function behave(state, { destination, behavior }) {
  state.trial[destination].behavior = behavior;
  return {};
}

function call({ path, body }) {
  const answer = (status, document) => ({
    status,
    headers: { "x-relay-delivery-id": "contact_01JD8W2N41" },
    body: JSON.stringify(document),
  });
  if (path.includes("dry-run=on"))
    return answer(200, { success: true, status: "dry-run", duplicate: false, wouldSend: JSON.parse(body) });
  if (body.includes("alan"))
    return answer(400, {
      success: false,
      code: "invalid_field",
      field: "userId",
      message:
        "userId is N/A, which is no id: leave the column out of the Body, or run this one only on rows where it is filled.",
    });
  return body.includes("grace")
    ? answer(202, { success: true, status: "queued", deliveryId: "contact_01JD8W2N41" })
    : answer(200, { success: true, id: "cm1" });
}
