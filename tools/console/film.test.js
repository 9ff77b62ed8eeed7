// The moving picture of the README, in Chromium.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch } from "./browser.js";
import { drawFilm } from "./film_drawing.js";

const SEEN = [
  { what: "created", name: "Ada" },
  { what: "arrived", name: "Ada" },
  { what: "broken" },
  { what: "created", name: "Grace" },
  { what: "waiting" },
  { what: "mended" },
  { what: "arrived", name: "Grace" },
  { what: "end" },
];

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Opens the picture, and returns what is seen of it at each of these seconds. */
async function texts(seconds, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  await page.setContent(drawFilm(SEEN));
  const found = [];
  for (const second of seconds) {
    found.push(
      await page.evaluate((at) => {
        for (const animation of document.getAnimations()) {
          animation.pause();
          animation.currentTime = at * 1000;
        }
        const isSeen = (element) => getComputedStyle(element.closest("g") ?? element).opacity === "1";
        return [...document.querySelectorAll("text")].filter(isSeen).map((element) => element.textContent);
      }, second),
    );
  }
  await context.close();
  return found;
}

const count = (found, text) => found.filter((each) => each === text).length;

test("the picture shows a wait while Clay is broken, and the row afterwards", async () => {
  const [broken, last] = await texts([6, 12]);
  assert.deepEqual([count(broken, "answers 500"), count(broken, "1 wait"), count(broken, "grace@example.com")], [1, 1, 2]);
  assert.deepEqual([count(last, "works"), count(last, "0 wait"), count(last, "grace@example.com")], [1, 1, 2]);
});

test("the picture stands still where the reader wants no motion, and shows how it ended", async () => {
  const [found] = await texts([0], { reducedMotion: "reduce" });
  assert.deepEqual([count(found, "works"), count(found, "0 wait")], [1, 1]);
  assert.deepEqual([count(found, "ada@example.com"), count(found, "grace@example.com")], [2, 2]);
});
