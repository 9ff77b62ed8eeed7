// Numbers and times as people read them.

const NUMBER = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** 1234 as "1,234"; what is not known as a dash. */
export function number(value) {
  return value === null || value === undefined ? "–" : NUMBER.format(value);
}

/** "1 delivery", "2 deliveries". */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** A duration: "12 s", "3 min", "5 h", "2 days". */
export function duration(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6_000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3_600) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** A time of today as "14:05:12", of another day as "3 Nov, 14:05:12". */
export function time(iso, now = new Date()) {
  const date = new Date(iso);
  const clock = CLOCK.format(date);
  return date.toDateString() === now.toDateString() ? clock : `${DAY.format(date)}, ${clock}`;
}

/** "14:05". */
export function minute(iso) {
  return MINUTE.format(new Date(iso));
}

/** A rate a second: "0.8", "12". */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value < 9.95 ? String(Math.round(value * 10) / 10) : String(Math.round(value));
}
