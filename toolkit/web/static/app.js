// The page: views, keys, and what happens when a picture is dropped or pasted.

import { setUpBlind } from "./blind.js";
import { compare, fillSides, setUpCompare } from "./compare.js";
import { $, make, note } from "./dom.js";
import { openFile, openPicture, readEditor, resize, setTool, setUpEditor, showLive, undo } from "./editor.js";
import { beginWith, fillForm, fillOffers, readForm, setUpForm } from "./form.js";
import { comeBack, does, drawInto, followed, placeFor, remember, showHistory, showPicture } from "./results.js";
import { setUpExplain } from "./explain.js";
import { Server, about, upload } from "./server.js";
import { setUpWatch } from "./watch.js";

const VIEWS = ["draw", "edit", "compare", "watch"];
const TOOLS = { b: "brush", e: "eraser", x: "box", h: "pan", f: "frame" };
let view = "draw";
let painting = null;

const server = new Server((word) => ($("status").textContent = word === "connected" ? ready : word));
let ready = "loading the model";

function show(name) {
  view = name;
  for (const one of VIEWS) {
    $(`view-${one}`).hidden = one !== name;
    $(`tab-${one}`).setAttribute("aria-selected", String(one === name));
    $(`tab-${one}`).tabIndex = one === name ? 0 : -1;
  }
  $("start").hidden = name === "edit" || !$("start-picture").src;
}

async function learn() {
  try {
    const offers = await about();
    fillOffers(offers);
    ready = offers.failure || (offers.ready ? "ready" : "loading the model");
    if (offers.failure) note(offers.failure);
    $("status").textContent = ready;
    $("draw").disabled = !offers.ready;
    $("version").textContent = `Version ${offers.version}.`;
    setUpWatch(offers.runs ?? []);
    if (offers.models.every((one) => one.loaded || one.failure)) return;
  } catch {
    $("status").textContent = "the server does not answer";
  }
  setTimeout(learn, 500);
}

function draw() {
  if ($("draw").disabled) return;
  note("");
  const request = readForm();
  drawInto($("stage"), server, request, request.count > 1 ? `drawing ${request.count} pictures` : "drawing");
}

async function paint() {
  if ($("paint").disabled) return;
  note("");
  let request;
  try {
    request = { ...readForm("edit"), ...(await readEditor()) };
  } catch (error) {
    note(error.message);
    return;
  }
  const figures = Array.from({ length: request.count }, placeFor);
  painting = followed(server, request, {
    words: "painting",
    frame(shown) {
      if (painting?.region) createImageBitmap(shown.bitmap, 0, 0, shown.bitmap.width / shown.columns, shown.bitmap.height / shown.rows)
        .then((first) => showLive(first, painting?.region));
    },
    done(state) {
      painting = null;
      showLive(null);
      $("results").replaceChildren(...state.pictures.map((picture, i) => {
        showPicture(figures[i], picture, request.caption);
        return figures[i];
      }));
      $("results").scrollIntoView({ block: "nearest" });
      if (state.pictures[0]) $("results").prepend(make("p", { class: "hint", textContent: "Edit puts a result into the editor; the mask stays." }));
    },
  });
}

async function dropped(file) {
  note("");
  if (view === "edit") {
    await openFile(file);
    return;
  }
  try {
    const found = await upload(file, file.name || "pasted.png");
    if (found.notes.length) note(found.notes.join(" "));
    if (found.form) fillForm(found.form, found.name);
    else beginWith(found);
    if (found.form) remember({ ...found, seed: found.form.seed }, found.form.caption);
  } catch (error) {
    note(error.message);
  }
}

does.edit = (picture) => {
  show("edit");
  openPicture(picture);
};
does.enlarge = (picture) => {
  show("draw");
  const form = readForm("grid");
  const request = { kind: "enlarge", model: form.model, caption: picture.caption ?? form.caption, image: picture.id, seed: picture.seed };
  drawInto($("stage"), server, request, "enlarging");
};
does.compare = (picture) => {
  show("compare");
  fillSides();
  compare(picture);
};
does.begin = (picture) => {
  beginWith(picture);
  show("draw");
};
does.show = (picture) => {
  if (view === "edit") {
    openPicture(picture);
    return;
  }
  if (view === "compare") {
    compare(picture);
    return;
  }
  const figure = placeFor();
  $("stage").replaceChildren(figure);
  showPicture(figure, picture, picture.caption);
  note("");
};
does.historyChanged = fillSides;

function keys(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    event.preventDefault();
    if (view === "edit") paint();
    else draw();
    return;
  }
  const typing = /^(TEXTAREA|SELECT)$/.test(event.target.tagName) || (event.target.tagName === "INPUT" && !/range|checkbox|radio/.test(event.target.type));
  if (typing || view !== "edit") return;
  if ((event.ctrlKey || event.metaKey) && ["z", "y"].includes(event.key.toLowerCase())) {
    event.preventDefault();
    undo(event.shiftKey || event.key.toLowerCase() === "y");
  } else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (TOOLS[event.key.toLowerCase()]) setTool(TOOLS[event.key.toLowerCase()]);
  else if (event.key === "[") resize(-1);
  else if (event.key === "]") resize(1);
}

function setUp() {
  if (location.search) history.replaceState(null, "", "/"); // the token is in a cookie now, and need not be seen
  setUpForm();
  setUpEditor();
  setUpCompare(server);
  setUpExplain(server);
  setUpBlind(server);
  showHistory();
  for (const name of VIEWS) $(`tab-${name}`).addEventListener("click", () => show(name));
  $("draw").addEventListener("click", draw);
  $("paint").addEventListener("click", paint);
  $("open").addEventListener("click", () => $("open-file").click());
  $("open-file").addEventListener("change", ({ target }) => target.files[0] && openFile(target.files[0]).then(() => (target.value = "")));
  $("start-choose").addEventListener("click", () => $("start-file").click());
  $("start-file").addEventListener("change", ({ target }) => target.files[0] && dropped(target.files[0]).then(() => (target.value = "")));
  $("strength").addEventListener("input", ({ target }) => ($("strength-value").value = target.value));
  addEventListener("keydown", keys);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const file = event.dataTransfer.files[0];
    if (file) dropped(file);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) dropped(file);
  });
  for (const id of Server.kept()) comeBack($("stage"), server, id);
  learn();
}

setUp();
