// Compare: two pictures under a slider, and a grid of pictures over two settings.

import { $, fillSelect, make, note, urlOf } from "./dom.js";
import { readForm } from "./form.js";
import { followed, pictures, placeFor, showFrame } from "./results.js";

const MOST_CELLS = 64;
export const SETTINGS = {
  seed: "seed", steps: "steps", sampler: "solver", strength: "strength of the first guidance", spacing: "spacing",
  eta: "eta", caption: "caption", negative: "negative caption", model: "model", rescale: "rescale",
};
const NUMBERS = ["eta"];
let running = null;

/** Put a picture on the side that was not set last. */
let next = "left";
export function compare(picture) {
  $(next).value = picture.id;
  next = next === "left" ? "right" : "left";
  showSides();
}

export function fillSides() {
  const pairs = pictures.map((one) => [one.id, `${(one.caption || one.name).slice(0, 40)}, seed ${one.seed}`]);
  for (const id of ["left", "right"]) fillSelect($(id), [["", "none"], ...pairs]);
}

function showSides() {
  for (const side of ["left", "right"]) {
    const one = pictures.find((picture) => picture.id === $(side).value);
    const image = $(`${side}-picture`);
    image.hidden = !one;
    if (!one) continue;
    image.src = urlOf(one.id);
    image.className = one.width <= 128 ? "small" : "";
    image.alt = `The ${side} picture: ${one.caption || one.name}, seed ${one.seed}`;
  }
  split();
}

function split() {
  $("right-picture").style.clipPath = `inset(0 0 0 ${$("split").value}%)`;
}

/** A request with one setting changed. */
export function changed(request, name, value) {
  if (!name) return request;
  if (name === "strength") {
    const [first = "cfg", ...others] = request.guidance;
    const [, kind, shape, at] = /^([^:@~]+)(?::[^@~]*)?(~[^@]*)?(@.*)?$/.exec(first);
    const curve = value.includes("~") ? "" : shape ?? "";
    return { ...request, guidance: [`${kind}:${value}${curve}${at ?? ""}`, ...others] };
  }
  if (name === "rescale") return { ...request, options: { ...request.options, rescale: Number(value) } };
  return { ...request, [name]: NUMBERS.includes(name) ? Number(value) : value };
}

/** Values that stand in a field; those of captions are divided by semicolons. */
export function valuesOf(id, name) {
  if (!name) return [""];
  const separator = ["caption", "negative"].includes(name) ? ";" : ",";
  return $(id).value.split(separator).map((value) => value.trim()).filter(Boolean);
}

/** Draw all cells, one after the other; the button ends it. */
async function drawGrid(server) {
  if (running) {
    running.ended = true;
    running.job?.cancel();
    return;
  }
  const [across, down] = [$("across").value, $("down").value];
  const [columns, rows] = [valuesOf("across-values", across), valuesOf("down-values", down)];
  if (!columns.length || !rows.length || columns.length * rows.length > MOST_CELLS) {
    note(`Give values for both settings, for at most ${MOST_CELLS} pictures.`);
    return;
  }
  note("");
  const base = { ...readForm("grid"), count: 1, call_size: null, place: 0 };
  const cell = (text) => make("th", { textContent: text, scope: "col" });
  const table = make("table", {}, make("tr", {}, make("th", { textContent: `${SETTINGS[down] ?? ""} \\ ${SETTINGS[across] ?? ""}` }), ...columns.map(cell)));
  $("grid").replaceChildren(table);
  running = { ended: false };
  $("grid-draw").textContent = "End the grid";
  for (const row of rows) {
    const line = make("tr", {}, make("th", { textContent: row, scope: "row" }));
    table.append(line);
    for (const column of columns) {
      if (running.ended) break;
      const place = placeFor();
      line.append(make("td", {}, place));
      const request = changed(changed(base, across, column), down, row);
      await new Promise((resolve) => {
        running.job = followed(server, request, {
          words: `grid ${column} ${row}`,
          frame: (shown) => showFrame([place], shown),
          done(state) {
            const [picture] = state.pictures;
            if (picture) place.replaceChildren(make("img", { src: urlOf(picture.id), alt: `${SETTINGS[across] ?? ""} ${column} ${SETTINGS[down] ?? ""} ${row}` }));
            if (state.state === "failed") running.ended = true;
            resolve();
          },
        });
      });
    }
  }
  running = null;
  $("grid-draw").textContent = "Draw the grid";
}

export function setUpCompare(server) {
  fillSelect($("across"), Object.entries(SETTINGS));
  fillSelect($("down"), [["", "one row"], ...Object.entries(SETTINGS)]);
  $("across").value = "steps";
  for (const id of ["left", "right"]) $(id).addEventListener("change", showSides);
  $("split").addEventListener("input", split);
  $("grid-draw").addEventListener("click", () => drawGrid(server));
  fillSides();
  showSides();
}
