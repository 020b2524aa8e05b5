// A blind comparison: pairs of one seed and two values of a setting, whose sides are thrown; the answers are counted.

import { $, make, note, urlOf } from "./dom.js";
import { SETTINGS, changed, valuesOf } from "./compare.js";
import { readForm } from "./form.js";
import { followed, placeFor, showFrame } from "./results.js";

const MOST_PAIRS = 50;
let running = null;

function draw(server, request, place, words) {
  return new Promise((resolve) => {
    running.job = followed(server, request, {
      words,
      frame: (shown) => showFrame([place], shown),
      done: (state) => resolve(state.pictures[0] ?? null),
    });
  });
}

/** Which side a person prefers: 0, 1, or null for neither. */
function answer(box, pictures) {
  return new Promise((resolve) => {
    const button = (text, side) => {
      const element = make("button", { type: "button", textContent: text });
      element.addEventListener("click", () => resolve(side));
      return element;
    };
    const images = pictures.map((one, i) => make("figure", {}, make("img", {
      src: urlOf(one.id), alt: i ? "The right picture" : "The left picture", class: one.width <= 128 ? "small" : "",
    })));
    box.replaceChildren(...images, make("p", {}, button("Left is better", 0), " ", button("No difference", null), " ", button("Right is better", 1)));
  });
}

async function run(server) {
  if (running) {
    running.ended = true;
    running.job?.cancel();
    return;
  }
  const name = $("across").value;
  const values = valuesOf("across-values", name);
  const pairs = Number($("blind-pairs").value);
  if (values.length !== 2 || !(pairs >= 1 && pairs <= MOST_PAIRS)) {
    note(`Give two values of the setting above, and 1 to ${MOST_PAIRS} pairs.`);
    return;
  }
  note("");
  running = { ended: false, job: null };
  $("blind-draw").textContent = "End";
  const base = { ...readForm("grid"), count: 1, call_size: null, place: 0, preview: false };
  const votes = [0, 0, 0]; // for the first value, the second, and neither
  const box = $("blind");
  for (let pair = 0; pair < pairs && !running.ended; pair++) {
    const order = Math.random() < 0.5 ? [0, 1] : [1, 0];
    const seed = String(BigInt(base.seed) + BigInt(pair));
    const place = placeFor();
    box.replaceChildren(make("p", { class: "hint", textContent: `Pair ${pair + 1} of ${pairs} is being drawn.` }));
    const pictures = [];
    for (const which of order) {
      const picture = await draw(server, changed({ ...base, seed }, name, values[which]), place, `pair ${pair + 1}`);
      if (!picture || running.ended) break;
      pictures.push(picture);
    }
    if (pictures.length < 2) break;
    const side = await answer(box, pictures);
    votes[side === null ? 2 : order[side]] += 1;
  }
  const words = values.map((value, i) => `${SETTINGS[name]} ${value}: ${votes[i]}`).join("; ");
  box.replaceChildren(make("p", { textContent: `Preferred: ${words}; no difference: ${votes[2]}.` }));
  running = null;
  $("blind-draw").textContent = "Begin";
}

export function setUpBlind(server) {
  $("blind-draw").addEventListener("click", () => run(server));
}
