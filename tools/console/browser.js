// Debian's Chromium, driven by playwright-core; each page is watched for errors and for requests to other origins.

import { chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Starts the browser. */
export function launch() {
  return chromium.launch({
    executablePath: EXECUTABLE,
    args: ["--no-sandbox", "--disable-gpu", "--disable-lcd-text", "--font-render-hinting=none"],
  });
}

/**
 * Opens a page.
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 * @param {import("playwright-core").BrowserContextOptions} options
 * @returns {Promise<{page: import("playwright-core").Page, trouble: string[]}>} `trouble` is what must never be: an error on the
 * console, an exception, a dialog of the browser, a request to another origin.
 */
export async function open(browser, url, { waitForTabs = true, ...options } = {}) {
  const context = await browser.newContext({ locale: "en-US", viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const trouble = [];
  const { origin } = new URL(url);
  page.on("console", (message) => {
    if (message.type() === "error") trouble.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => trouble.push(`exception: ${error.message}`));
  page.on("dialog", (dialog) => {
    trouble.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) trouble.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  if (waitForTabs) await page.locator("#tabs a").first().waitFor();
  return { page, trouble };
}

/**
 * Waits for a condition.
 * @param {() => Promise<unknown>} condition
 * @param {string} what It is named where the condition is not met in time.
 */
export async function until(condition, what, limitMs = 30_000) {
  const end = Date.now() + limitMs;
  for (;;) {
    const met = await condition();
    if (met) return met;
    if (Date.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

/** What axe finds serious or critical on the page as it is. */
export async function seriousFindings(page, axeSource) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
}

/** The width of the page beyond that of the window. */
export function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
