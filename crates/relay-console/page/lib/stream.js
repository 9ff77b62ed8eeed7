// The overview, as it changes: streamed where the server streams, else polled.

import { get, request } from "./api.js";

const POLL_SECONDS = 10;
const FIRST_DELAY_MS = 1_000;
const MAX_DELAY_MS = 15_000;

/**
 * Follows the overview for as long as the page is visible.
 * @param {(overview: object) => void} onOverview
 * @param {(text: string, state: "live"|"polling"|"lost") => void} onConnection
 * @returns {() => void} Reads it now, where it is polled.
 */
export function followOverview(onOverview, onConnection) {
  let streams = true;
  let delay = FIRST_DELAY_MS;
  let abort = null;
  let wake = () => {};

  /** Reads once, or for as long as the stream lasts, and returns after how long to read again. */
  const read = async (signal) => {
    const overview = await get("overview", signal);
    delay = FIRST_DELAY_MS;
    const seconds = overview.pollSeconds ?? POLL_SECONDS;
    if (overview.pollSeconds !== null || !streams) {
      onConnection(`polling each ${seconds} s`, "polling");
      onOverview(overview);
      return seconds * 1_000;
    }
    onOverview(overview);
    try {
      await readStream(signal, (fresh) => {
        onConnection("live", "live");
        onOverview(fresh);
      });
      return FIRST_DELAY_MS;
    } catch (error) {
      if (error.status !== 404) throw error;
      streams = false;
      return 0;
    }
  };

  const run = async () => {
    for (;;) {
      if (document.hidden) {
        await new Promise((resolve) => {
          wake = resolve;
        });
        continue;
      }
      abort = new AbortController();
      let pause;
      try {
        pause = await read(abort.signal);
      } catch (error) {
        if (error.name === "AbortError") continue;
        onConnection("not reachable, trying again", "lost");
        pause = delay;
        delay = Math.min(delay * 2, MAX_DELAY_MS);
      }
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, pause);
      });
    }
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) abort?.abort();
    else wake();
  });
  run();
  return () => wake();
}

/** Reads server-sent events until the server ends them. */
async function readStream(signal, onOverview) {
  const response = await request("GET", "stream", { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value.replaceAll("\r\n", "\n");
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart());
      if (data.length) onOverview(JSON.parse(data.join("\n")));
    }
  }
}
