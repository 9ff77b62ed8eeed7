// One reading at a time, however often things change.

/**
 * Makes a function that runs `read` once at a time. What asks for it meanwhile gets one more run, behind the one that runs.
 * @param {() => Promise<void>} read
 * @returns {() => Promise<void>}
 */
export function coalesced(read) {
  let running = null;
  let again = null;
  const run = () => {
    running = read().finally(() => {
      running = null;
    });
    return running;
  };
  return () => {
    if (!running) return run();
    again ??= running
      .catch(() => {})
      .then(() => {
        again = null;
        return run();
      });
    return again;
  };
}
