// Made-up documents of a console, as the relay makes them.

const MINUTE_MS = 60_000;
const ago = (seconds) => new Date(Date.now() - seconds * 1_000).toISOString();

/** A relay in the middle of its work: something waits, something is held, something died. */
export function busy() {
  const minutes = Array.from({ length: 60 }, (_, index) => {
    const wave = Math.round(9 + 6 * Math.sin(index / 6) + 4 * Math.sin(index / 2.3));
    const stopped = index > 38 && index < 45;
    const catchingUp = index >= 45 && index < 50;
    return {
      at: new Date(Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS - (59 - index) * MINUTE_MS).toISOString(),
      accepted: wave,
      delivered: stopped ? 0 : wave + (catchingUp ? 11 : 0) - (index === 59 ? 2 : 0),
      refused: [7, 8, 23, 24, 25, 51].includes(index) ? 1 + (index % 3) : 0,
    };
  });
  return {
    overview: {
      relay: "The relay of .relay",
      version: "0.1.0",
      trial: true,
      pollSeconds: null,
      at: ago(0),
      directions: [
        {
          direction: "loops-to-clay",
          destination: "simulated",
          paused: false,
          pausedSince: null,
          accepted: 1284,
          delivered: 1271,
          waiting: 9,
          held: 0,
          deadLetters: 3,
          oldestSeconds: 41,
          perSecond: 6.4,
          rateLimit: 8,
          destinationLimit: 10,
        },
        {
          direction: "clay-to-loops",
          destination: "real",
          paused: false,
          pausedSince: null,
          accepted: 20418,
          delivered: 20402,
          waiting: 14,
          held: 3,
          deadLetters: 2,
          oldestSeconds: 760,
          perSecond: 1.2,
          rateLimit: 8,
          destinationLimit: 10,
        },
      ],
      refusals: [
        {
          code: "invalid_field",
          count: 17,
          advice: "Do what the message in the Clay cell says about the field, and run the row again.",
        },
        { code: "invalid_token", count: 3, advice: "Compare the column's Authorization header with the relay token." },
        {
          code: "invalid_signature",
          count: 1,
          advice: "Copy the signing secret of Loops' webhook page into the relay again.",
        },
      ],
      lastRefusals: [
        { at: ago(95), direction: "clay-to-loops", code: "invalid_field", field: "userId", id: "contact_01" },
        { at: ago(180), direction: "clay-to-loops", code: "invalid_token", field: null, id: "contact_02" },
      ],
      webhooks: [
        { route: "contacts", webhook: "3f9a61c0", accepted: 46210, limit: 50000, refusedWith: null },
        { route: "contacts", webhook: "b07c22e1", accepted: 1208, limit: 50000, refusedWith: null },
      ],
      minutes,
      countedSince: ago(86_400 * 2),
    },
    deliveries: deliveries(),
    connect: connect(),
    trial: trial(),
    findings: [
      { check: "data-folder", outcome: "ok", observed: "is writable by you alone", remedy: null, runbook: null },
      {
        check: "loops-key",
        outcome: "ok",
        observed: "is accepted by Loops, team Analytical Engines",
        remedy: null,
        runbook: null,
      },
      {
        check: "clay-webhook-usage",
        outcome: "warn",
        observed: "contacts: 46,210 of 50,000 rows used",
        remedy: "Add another webhook to the route with `relayctl setup --local`.",
        runbook: "https://relay.example.com/docs/runbook.md#webhook-usage",
      },
      {
        check: "dead-letters",
        outcome: "fail",
        observed: "5 dead letters wait for you",
        remedy: "Look at them, then retry or drop them.",
        runbook: "https://relay.example.com/docs/runbook.md#dead-letters",
      },
    ],
  };
}

/** A relay at its first start. */
export function fresh() {
  const state = busy();
  state.overview.directions = state.overview.directions.map((each) => ({
    ...each,
    destination: "simulated",
    accepted: 0,
    delivered: 0,
    waiting: 0,
    held: 0,
    deadLetters: 0,
    oldestSeconds: null,
    perSecond: 0,
  }));
  Object.assign(state.overview, {
    refusals: [],
    lastRefusals: [],
    webhooks: [],
    minutes: state.overview.minutes.map(({ at }) => ({ at, accepted: 0, delivered: 0, refused: 0 })),
  });
  state.deliveries = [];
  state.connect.steps = state.connect.steps.map((step) => ({ ...step, done: false }));
  state.trial = {
    loops: { simulated: true, behavior: "normal", contacts: [], events: [], emails: [] },
    clay: { simulated: true, behavior: "normal", rows: [], total: 0 },
  };
  return state;
}

/** A stack, as `relayctl console` shows it: polled, and with fewer counts. */
export function stack() {
  const state = busy();
  Object.assign(state.overview, {
    relay: "The stack relay in eu-west-1",
    trial: false,
    pollSeconds: 10,
    lastRefusals: [],
    countedSince: null,
  });
  state.overview.directions = state.overview.directions.map((each) => ({
    ...each,
    destination: "real",
    held: null,
    accepted: null,
    delivered: null,
  }));
  return state;
}

function deliveries() {
  const base = {
    destination: null,
    route: null,
    webhookId: null,
    contactHash: "9c1f0ab37e52d4c8",
    firstAttemptAt: null,
    lastAttemptAt: null,
    nextAttemptAt: null,
    heldSince: null,
    settledAt: null,
    diedAt: null,
    droppedAt: null,
    failures: [],
    reason: null,
    status: null,
    attempts: 0,
  };
  const row = (seconds, more) => ({
    ...base,
    direction: "loops-to-clay",
    kind: "row",
    route: "contacts",
    state: "delivered",
    attempts: 1,
    webhookId: `msg_2Lm${seconds}`,
    id: `msg_2LmT0f7sKq${seconds}.contacts`,
    receivedAt: ago(seconds),
    firstAttemptAt: ago(seconds - 1),
    lastAttemptAt: ago(seconds - 1),
    settledAt: ago(seconds - 1),
    ...more,
  });
  const contact = (seconds, more) => ({
    ...base,
    direction: "clay-to-loops",
    kind: "contact",
    state: "delivered",
    attempts: 1,
    id: `contact_01JD8W2N${seconds}`,
    receivedAt: ago(seconds),
    firstAttemptAt: ago(seconds),
    lastAttemptAt: ago(seconds),
    settledAt: ago(seconds),
    ...more,
  });
  const failed = (reason, status, times, seconds) => ({ reason, status, count: times, lastAt: ago(seconds) });
  return [
    row(12, {
      state: "waiting",
      attempts: 0,
      firstAttemptAt: null,
      lastAttemptAt: null,
      settledAt: null,
      nextAttemptAt: ago(-1),
    }),
    contact(20, {}),
    contact(41, {
      state: "waiting",
      settledAt: null,
      attempts: 3,
      reason: "destination_failed",
      status: 500,
      nextAttemptAt: ago(-22),
      lastAttemptAt: ago(9),
      failures: [failed("destination_failed", 500, 3, 9)],
    }),
    row(65, {}),
    contact(130, { kind: "event" }),
    contact(760, {
      state: "waiting",
      settledAt: null,
      attempts: 12,
      reason: "loops_key_rejected",
      status: 401,
      heldSince: ago(759),
      nextAttemptAt: ago(-48),
      lastAttemptAt: ago(12),
      failures: [failed("loops_key_rejected", 401, 12, 12)],
    }),
    row(1300, {
      attempts: 4,
      failures: [failed("timed_out", null, 2, 1350), failed("destination_throttled", 429, 1, 1340)],
      settledAt: ago(1290),
      lastAttemptAt: ago(1290),
    }),
    contact(4100, {
      kind: "event",
      state: "dead",
      reason: "loops_rejected",
      status: 400,
      diedAt: ago(4090),
      settledAt: ago(4090),
      failures: [failed("loops_rejected", 400, 1, 4090)],
    }),
    contact(5400, {
      state: "dead",
      reason: "loops_rejected",
      status: 404,
      diedAt: ago(5399),
      settledAt: ago(5399),
      failures: [failed("loops_rejected", 404, 1, 5399)],
    }),
    row(7200, {
      state: "dead",
      reason: "too_large",
      attempts: 0,
      firstAttemptAt: null,
      lastAttemptAt: null,
      diedAt: ago(7200),
      settledAt: ago(7200),
    }),
    row(9100, {
      state: "dead",
      reason: "clay_rejected",
      status: 400,
      diedAt: ago(9098),
      settledAt: ago(9098),
      failures: [failed("clay_rejected", 400, 1, 9098)],
    }),
    row(9200, {
      state: "dead",
      reason: "clay_rejected",
      status: 400,
      diedAt: ago(9198),
      settledAt: ago(9198),
      failures: [failed("clay_rejected", 400, 1, 9198)],
    }),
  ];
}

function connect() {
  const property = (key, label, kind = "string") => ({ key, label, kind });
  return {
    loopsWebhookUrl: "https://relay.example.com/webhooks/loops",
    loopsEvents: ["contact.created"],
    clayContactUrl: "https://relay.example.com/api/v1/contacts/update",
    clayEventUrl: "https://relay.example.com/api/v1/events/send",
    relayTokenHint: "`relayctl setup --local --list --show-token` shows it.",
    properties: [
      property("firstName", "First Name"),
      property("lastName", "Last Name"),
      property("email", "Email"),
      property("userGroup", "User Group"),
      property("userId", "User Id"),
      property("subscribed", "Subscribed", "boolean"),
      property("createdAt", "Created At", "date"),
      property("source", "Source"),
      property("companyName", "Company Name"),
      property("seats", "Seats", "number"),
      property("renewsAt", "Renews At", "date"),
      property("isCustomer", "Is Customer", "boolean"),
    ],
    steps: [
      { name: "loops-webhook", done: true, sentence: "A signed webhook of Loops arrived 12 seconds ago." },
      { name: "clay-webhook", done: true, sentence: "Rows go to one webhook of the route contacts." },
      {
        name: "loops-key",
        done: false,
        sentence: "Store the API key of your Loops account: `relayctl setup --local`.",
      },
      {
        name: "relay-token",
        done: false,
        sentence: "No row has come with the relay token yet: add the HTTP API column below.",
      },
    ],
  };
}

function trial() {
  const contacts = [
    ["grace@example.com", "Grace", { companyName: "Eckert Computers", seats: 12 }],
    ["ada@example.com", "Ada", { companyName: "Analytical Engines", plan: "pro", seats: 3 }],
    ["alan@example.com", "Alan", {}],
  ].map(([email, firstName, more], index) => ({
    id: `cm${index}`,
    email,
    firstName,
    lastName: null,
    source: "API",
    subscribed: true,
    userGroup: "",
    userId: null,
    ...more,
    mailingLists: {},
    optInStatus: null,
  }));
  const rows = [...contacts].reverse().map((contact, index) => ({
    webhook: "3f9a61c0",
    receivedAt: ago(60 - index),
    body: {
      eventName: "contact.created",
      eventTime: 1734425918,
      webhookSchemaVersion: "1.0.0",
      contactIdentity: { id: contact.id, email: contact.email, userId: null },
      contact,
    },
  }));
  return {
    loops: {
      simulated: true,
      behavior: "normal",
      contacts,
      emails: [],
      events: [
        {
          idempotencyKey: "relay-1",
          receivedAt: ago(30),
          body: { eventName: "enriched", email: "ada@example.com", eventProperties: { plan: "pro" } },
        },
      ],
    },
    clay: { simulated: true, behavior: "normal", rows, total: rows.length },
  };
}
