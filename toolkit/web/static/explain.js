// Where each guidance pushes: the picture at a step, and over it a map of a guidance's shift.

import { $, fillSelect, note, urlOf } from "./dom.js";
import { readForm } from "./form.js";
import { followed } from "./results.js";

let shown = null; // {maps, film, sheets}

async function bitmapOf(id) {
  const answer = await fetch(urlOf(id));
  return createImageBitmap(await answer.blob());
}

async function open(maps) {
  const film = await bitmapOf(maps.film);
  const sheets = await Promise.all(maps.guidances.map((one) => bitmapOf(one.id)));
  shown = { maps, film, sheets };
  fillSelect($("explained"), maps.guidances.map((one, i) => [String(i), one.name]));
  $("explained-step").max = maps.steps - 1;
  $("explained-step").value = Math.floor(maps.steps / 3);
  draw();
}

/** One step of a sheet over the whole canvas. */
function tile(context, sheet, step, alpha) {
  const { columns, steps } = shown.maps;
  const [width, height] = [sheet.width / columns, sheet.height / Math.ceil(steps / columns)];
  context.globalAlpha = alpha;
  context.drawImage(sheet, (step % columns) * width, Math.floor(step / columns) * height, width, height, 0, 0, context.canvas.width, context.canvas.height);
}

function draw() {
  if (!shown) return;
  const canvas = $("explanation");
  const step = Number($("explained-step").value);
  const guidance = shown.maps.guidances[Number($("explained").value) || 0];
  [canvas.width, canvas.height] = shown.maps.size;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  tile(context, shown.film, step, 1);
  tile(context, shown.sheets[Number($("explained").value) || 0], step, 0.85);
  $("explained-words").textContent = `step ${step + 1} of ${shown.maps.steps}; opaque is a shift of ${guidance.most}, black to white is 2 in each colour`;
}

export function setUpExplain(server) {
  $("explain").addEventListener("click", () => {
    note("");
    const request = { ...readForm("grid"), kind: "explain", count: 1, size: null };
    followed(server, request, {
      words: "recording",
      frame() {},
      done: (state) => state.maps && open(state.maps),
    });
  });
  for (const id of ["explained", "explained-step"]) $(id).addEventListener("input", draw);
  $("explanation").addEventListener("pointermove", (event) => { // the step under the cursor
    if (!shown) return;
    const box = $("explanation").getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    $("explained-step").value = Math.round(share * (shown.maps.steps - 1));
    draw();
  });
}
