// Watch: the curves and progress pictures of a training, live.

import { $, make } from "./dom.js";

const EVERY = 5000; // milliseconds between two looks
let begun = false;

export function setUpWatch(runs) {
  if (begun || !runs.length) return;
  begun = true;
  $("tab-watch").hidden = false;
  for (const run of runs) {
    const box = make("section", { class: "watched" }, make("h2", { textContent: run }));
    $("view-watch").append(box);
    look(run, box);
  }
}

async function look(run, box) {
  try {
    const answer = await fetch(`/api/runs/${encodeURIComponent(run)}`);
    if (answer.ok) show(run, box, await answer.json());
  } finally {
    setTimeout(() => look(run, box), EVERY);
  }
}

/** One curve: its points [step, value] as a line, with its last value. */
function curve(name, points) {
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const at = ([step, value]) => `${((step - first) / (last - first || 1)) * 600},${150 - ((value - low) / (high - low || 1)) * 130}`;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 600 170");
  svg.setAttribute("class", "curve");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name}: ${values.at(-1)} at step ${last}`);
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  line.setAttribute("points", points.map(at).join(" "));
  const text = document.createElementNS(svg.namespaceURI, "text");
  text.setAttribute("y", "166");
  text.textContent = `${name}: ${values.at(-1).toPrecision(4)} at step ${last} (${low.toPrecision(3)} to ${high.toPrecision(3)})`;
  svg.append(line, text);
  return svg;
}

function show(run, box, { curves, steps, note }) {
  const lines = Object.entries(curves).filter(([, points]) => points.length > 1).map(([name, points]) => curve(name, points));
  const parts = [make("h2", { textContent: run }), ...(note ? [make("p", { class: "hint", textContent: note })] : [])];
  if (steps.length) {
    const chosen = box.dataset.step && steps.includes(Number(box.dataset.step)) ? Number(box.dataset.step) : steps.at(-1);
    const slider = make("input", { type: "range", min: 0, max: steps.length - 1, value: steps.indexOf(chosen), "aria-label": `${run}: step of the progress pictures` });
    const image = make("img", { alt: `${run}: progress pictures` });
    const words = make("span", {});
    const pick = () => {
      const step = steps[slider.value];
      box.dataset.step = Number(slider.value) === steps.length - 1 ? "" : step;
      words.textContent = `step ${step}`;
      image.src = `/api/runs/${encodeURIComponent(run)}/${step}`;
    };
    slider.addEventListener("input", pick);
    pick();
    parts.push(make("label", {}, "Progress pictures ", slider, words), image);
  }
  box.replaceChildren(...parts, ...lines);
}
