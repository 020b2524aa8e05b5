// Jobs on their way, their pictures, and the session's history.

import { $, download, make, note, seconds, urlOf } from "./dom.js";

const SMALL = 128; // pixels of a side up to which pictures are shown with hard edges
const MOST_HISTORY = 200;
const HISTORY = "glide-history";

/** What a button of a picture does: "edit", "enlarge", "begin", "compare". Set by app.js. */
export const does = {};
export const pictures = load();

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(HISTORY) ?? "[]");
  } catch {
    return [];
  }
}

/** A place for a picture that is being drawn: a canvas, which the result replaces. */
export function placeFor() {
  const canvas = make("canvas", { width: 1, height: 1, "aria-label": "The picture emerges" });
  return make("figure", {}, canvas);
}

/** Draw a preview, which holds the pictures of a job in rows, into their places. */
export function showFrame(figures, { bitmap, columns, rows }) {
  const [width, height] = [bitmap.width / columns, bitmap.height / rows];
  figures.forEach((figure, i) => {
    const canvas = figure.querySelector("canvas");
    if (!canvas || i >= columns * rows) return;
    [canvas.width, canvas.height] = [width, height];
    canvas.className = width <= SMALL ? "small" : "";
    canvas.getContext("2d").drawImage(bitmap, -(i % columns) * width, -Math.floor(i / columns) * height);
  });
}

/** Put a finished picture into its place, with all that can be done with it. */
export function showPicture(figure, picture, caption) {
  const image = make("img", {
    src: urlOf(picture.id), alt: caption || "A picture", width: picture.width, height: picture.height,
    class: picture.width <= SMALL ? "small" : "", draggable: true,
  });
  const button = (text, what) => {
    const element = make("button", { type: "button", textContent: text });
    element.addEventListener("click", () => does[what](picture));
    return element;
  };
  const save = make("a", { class: "button", href: `${urlOf(picture.id)}?download`, download: picture.name, textContent: "Download" });
  const bar = make("figcaption", {}, make("span", { textContent: `seed ${picture.seed}` }), button("Edit", "edit"));
  if (picture.width <= 256) bar.append(button("Enlarge", "enlarge"));
  bar.append(button("Compare", "compare"), button("Vary", "begin"), save);
  figure.replaceChildren(image, bar);
}

/** Append to the history, the newest first. */
export function remember(picture, caption) {
  pictures.unshift({ ...picture, caption });
  pictures.splice(MOST_HISTORY);
  sessionStorage.setItem(HISTORY, JSON.stringify(pictures));
  showHistory();
}

export function showHistory() {
  const entries = pictures.map((picture) => {
    const title = `${picture.caption || "a picture"}, seed ${picture.seed}`;
    const image = make("img", { src: urlOf(picture.id), alt: title, loading: "lazy" });
    const button = make("button", { type: "button", title }, image);
    const item = make("li", {}, button);
    image.addEventListener("error", () => item.remove()); // the server holds it no more
    button.addEventListener("click", () => does.show(picture));
    return item;
  });
  if (entries.length) $("history").replaceChildren(...entries);
  does.historyChanged?.();
}

/** A line with progress, the time left, the place in the queue, and buttons that end the job. */
export function followed(server, request, { words, figures = [], frame, done }) {
  const bar = make("progress", { max: 1, value: 0, "aria-label": words });
  const text = make("span", { textContent: "sent" });
  const stop = make("button", { type: "button", textContent: "Stop", title: "Keep what there is" });
  const cancel = make("button", { type: "button", textContent: "Cancel" });
  const line = make("div", { class: "job" }, make("div", {}, text, bar), stop, cancel);
  $("jobs").append(line);
  const on = {
    frame: (shown) => (frame ? frame(shown) : showFrame(figures, shown)),
    state(state) {
      if (state.state === "waiting") text.textContent = `${words}: ${state.place} before you`;
      if (state.state === "drawing") {
        [bar.max, bar.value] = [state.steps || 1, state.step];
        const left = state.seconds_left === undefined ? "" : `, ${seconds(state.seconds_left)} left`;
        text.textContent = `${words}: step ${state.step} of ${state.steps}${left}`;
      }
      if (state.region) job.region = state.region;
      if (!state.pictures) return;
      line.remove();
      if (state.state === "failed") note(state.message);
      else if (state.notes) note([...new Set(state.notes)].join(" "));
      state.pictures.forEach((picture) => remember(picture, request?.caption ?? ""));
      done(state);
    },
  };
  const job = typeof request === "string" ? server.watch(request, on) : server.draw(request, on);
  stop.addEventListener("click", () => job.stop());
  cancel.addEventListener("click", () => job.cancel());
  return job;
}

/** Draw a request into new places of an element; the job. */
export function drawInto(element, server, request, words) {
  const count = request.kind === "enlarge" ? 1 : (request.count ?? 1);
  const figures = Array.from({ length: count }, placeFor);
  element.replaceChildren(...figures);
  return followed(server, request, {
    words,
    figures,
    done(state) {
      figures.forEach((figure, i) => {
        if (state.pictures[i]) showPicture(figure, state.pictures[i], request.caption);
        else figure.remove();
      });
    },
  });
}

/** Come back to a job of before the page was loaded again. */
export function comeBack(element, server, id) {
  const figures = Array.from({ length: 32 }, placeFor);
  followed(server, id, {
    words: "drawing",
    frame(shown) {
      if (!figures[0].isConnected) element.replaceChildren(...figures.slice(0, shown.columns * shown.rows));
      showFrame(figures, shown);
    },
    done(state) {
      if (!state.pictures.length) return;
      element.replaceChildren(...figures.slice(0, state.pictures.length));
      state.pictures.forEach((picture, i) => showPicture(figures[i], picture, ""));
    },
  });
}

export const save = (picture) => download(`${urlOf(picture.id)}?download`, picture.name);
