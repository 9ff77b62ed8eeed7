// Draws what happened in a trial as an SVG that moves by CSS alone. Where the reader wants no motion, it shows how it ended.

/** How long each thing that happened is shown, in seconds. */
const PACE = { created: 1, arrived: 1, broken: 2.4, waiting: 2.4, mended: 1, end: 4 };
const MOVE = 0.7;
const CAPTIONS = {
  created: "A contact is created in Loops, and becomes a row in Clay.",
  broken: "Clay breaks: it answers 500 to every row.",
  waiting: "Three more contacts: the relay has stored them, and they wait.",
  mended: "Clay works again: all three arrive. Nothing is lost, nothing is doubled.",
};
const LOOPS_X = 30;
const RELAY_X = 330;
const CLAY_X = 630;
const CARD_WIDTH = 220;
const CHIP_WIDTH = 180;

const STYLE = `
  svg { --paper: #ffffff; --card: #f6f7f9; --line: #d0d5dc; --ink: #1c2330; --soft: #5b6575; --chip: #ffffff; --moving: #2f5fd0; --good: #17703f; --bad: #b3261e; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0f141b; --card: #171d26; --line: #333d4a; --ink: #e8ecf2; --soft: #9aa5b5; --chip: #202833; --moving: #4a7bf0; --good: #57c98a; --bad: #ff8a80; }
  }
  text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink); }
  .title { font-size: 18px; font-weight: 600; } .soft { font-size: 13px; fill: var(--soft); } .name { font-size: 14px; }
  .caption { font-size: 17px; text-anchor: middle; } .good { fill: var(--good); } .bad { fill: var(--bad); } .status { font-size: 13px; font-weight: 600; }
  .card { fill: var(--card); stroke: var(--line); } .chip { fill: var(--chip); stroke: var(--line); } .moving { fill: var(--moving); } .moving + text { fill: #fff; }
  .passing { opacity: 0; }
  @media (prefers-reduced-motion: reduce) { svg * { animation: none !important; } }`;

/**
 * @param {{what: string, name?: string}[]} seen What happened, in order.
 * @returns {string} The picture.
 */
export function drawFilm(seen) {
  let time = 0.4;
  const timed = seen.map((each) => {
    const at = time;
    time += PACE[each.what];
    return { ...each, at };
  });
  const film = new Film(time);
  const at = (what, name) => timed.find((each) => each.what === what && each.name === name).at;
  const names = [...new Set(seen.flatMap(({ name }) => (name ? [name] : [])))];
  const [broken, mended, end] = [at("broken"), at("mended"), time];

  film.add(card(LOOPS_X, "Loops", "contacts"), card(RELAY_X, "The relay", "stores first, then sends"), card(CLAY_X, "Clay", "rows of the table"));
  for (const [from, to] of [[LOOPS_X, RELAY_X], [RELAY_X, CLAY_X]]) {
    film.add(`<path d="M${from + CARD_WIDTH + 8} 150H${to - 14}m-7 -6l7 6l-7 6" fill="none" stroke="var(--soft)" stroke-width="1.5"/>`);
  }
  for (const [index, name] of names.entries()) {
    const y = 92 + index * 36;
    film.show(chip(LOOPS_X + 20, y, "chip", name), at("created", name), end, true);
    film.show(chip(CLAY_X + 20, y, "chip", name), at("arrived", name) + MOVE, end, true);
    film.travel(chip(0, y, "moving", name), at("created", name) + 0.2, at("arrived", name));
  }
  const status = (kind, text) => `<text class="status ${kind}" x="${CLAY_X + CARD_WIDTH - 18}" y="46" text-anchor="end">${text}</text>`;
  film.show(status("good", "works"), 0, broken);
  film.show(status("bad", "answers 500"), broken, mended);
  film.show(status("good", "works"), mended, end, true);

  const waits = [broken, ...timed.filter((each) => each.at > broken && each.name).map((each) => (each.what === "created" ? each.at + MOVE : each.at)), end];
  const changes = timed.filter((each) => each.at > broken && each.name).map((each) => (each.what === "created" ? 1 : -1));
  let count = 0;
  for (const [index, from] of waits.slice(0, -1).entries()) {
    count += index ? changes[index - 1] : 0;
    const isLast = index === waits.length - 2;
    film.show(`<text class="status" x="${RELAY_X + CARD_WIDTH - 18}" y="46" text-anchor="end">${count} wait</text>`, from, waits[index + 1], isLast);
  }
  const stages = [["created", 0], ["broken", broken], ["waiting", broken + PACE.broken], ["mended", mended]];
  for (const [index, [what, from]] of stages.entries()) {
    const to = stages[index + 1]?.[1] ?? end;
    film.show(`<text class="caption" x="440" y="284">${CAPTIONS[what]}</text>`, from, to, !stages[index + 1]);
  }
  return film.svg();
}

function card(x, title, subtitle) {
  return `<rect class="card" x="${x}" y="20" width="${CARD_WIDTH}" height="228" rx="10"/><text class="title" x="${x + 18}" y="48">${title}</text><text class="soft" x="${x + 18}" y="70">${subtitle}</text>`;
}

function chip(x, y, kind, name) {
  return `<rect class="${kind}" x="${x}" y="${y}" width="${CHIP_WIDTH}" height="28" rx="6"/><text class="name" x="${x + 12}" y="${y + 19}">${name.toLowerCase()}@example.com</text>`;
}

/** Elements, and when each is seen. */
class Film {
  constructor(seconds) {
    this.seconds = seconds;
    this.elements = [];
    this.keyframes = [];
  }

  add(...elements) {
    this.elements.push(...elements);
  }

  /** Shows an element from one second to another; without motion it is seen if it is there at the end. */
  show(element, from, to, isThereAtTheEnd = false) {
    const hidden = "opacity:0";
    const seen = "opacity:1";
    const frames = [[0, from ? hidden : seen], [from, hidden], [from + 0.25, seen], [to - 0.05, seen], [to, to < this.seconds ? hidden : seen]];
    this.animate(element, from ? frames : frames.slice(3), isThereAtTheEnd ? "" : ' class="passing"', to < this.seconds ? hidden : seen, from ? hidden : seen);
  }

  /** Moves an element from Loops to the relay at one second, and on to Clay at another. */
  travel(element, leaves, arrives) {
    const at = (x, opacity) => `opacity:${opacity};transform:translateX(${x + 20}px)`;
    const frames = [
      [leaves - 0.05, at(LOOPS_X, 0)],
      [leaves, at(LOOPS_X, 1)],
      [leaves + MOVE, at(RELAY_X, 1)],
      [arrives, at(RELAY_X, 1)],
      [arrives + MOVE, at(CLAY_X, 1)],
      [arrives + MOVE + 0.25, at(CLAY_X, 0)],
    ];
    this.animate(element, frames, ' class="passing"', at(CLAY_X, 0), at(LOOPS_X, 0));
  }

  animate(element, frames, attributes, last, first) {
    const name = `a${this.keyframes.length}`;
    const steps = frames.map(([second, css]) => `${((100 * Math.max(second, 0)) / this.seconds).toFixed(2)}%{${css}}`).join("");
    this.keyframes.push(`@keyframes ${name}{0%{${first}}${steps}100%{${last}}}`);
    this.elements.push(`<g${attributes} style="animation:${name} ${this.seconds.toFixed(1)}s infinite">${element}</g>`);
  }

  svg() {
    const description = `${CAPTIONS.created} ${CAPTIONS.broken} ${CAPTIONS.waiting} ${CAPTIONS.mended}`;
    return [
      '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 306" role="img" aria-labelledby="what">',
      `<title id="what">${description}</title>`,
      `<style>${STYLE}\n  ${this.keyframes.join("\n  ")}\n</style>`,
      '<rect width="880" height="306" rx="12" style="fill:var(--paper)"/>',
      ...this.elements,
      "</svg>\n",
    ].join("\n");
  }
}
