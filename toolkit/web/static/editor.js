// The editor: a picture, its mask, and a view that is zoomed and moved.

import { $, note, urlOf } from "./dom.js";
import { Mask } from "./mask.js";
import { upload } from "./server.js";

const canvas = $("canvas");
const context = canvas.getContext("2d");
const sizes = { brush: 12, eraser: 16 }; // pixels of the picture, of which the eraser has its own
const view = { scale: 1, x: 0, y: 0 };
const pointers = new Map();
export const extend = [0, 0, 0, 0]; // left, top, right, bottom
let picture = null; // {id, width, height, name, bitmap}
let mask = null;
let stored = { version: -1, id: null }; // the mask as it was uploaded last
let tool = "brush";
let held = null; // what the pointer does: {what, x, y, ...}
let live = null; // a preview in the painted square: {bitmap, region}
let space = false;

export const edited = () => picture;

/** Open a picture of the server's. The mask stays where the size is the same. */
export async function openPicture(one) {
  try {
    const answer = await fetch(urlOf(one.id));
    if (!answer.ok) throw new Error(await answer.text());
    const bitmap = await createImageBitmap(await answer.blob());
    picture = { ...one, width: bitmap.width, height: bitmap.height, bitmap };
  } catch (error) {
    note(`The picture cannot be shown here: ${error.message}`);
    return;
  }
  if (!mask || mask.width !== picture.width || mask.height !== picture.height) {
    mask = new Mask(picture.width, picture.height);
    sizes.brush = Math.min(Math.max(4, Math.round(Math.min(picture.width, picture.height) / 6)), 400);
    sizes.eraser = sizes.brush;
    showSize();
  }
  live = null;
  setExtend([0, 0, 0, 0]);
  canvas.setAttribute("aria-label", `The picture, ${picture.width} by ${picture.height} pixels, with the painted mask`);
  fit();
  changed();
}

/** Open a file: of the disk, the clipboard, or dropped. */
export async function openFile(file) {
  try {
    const found = await upload(file, file.name || "pasted.png");
    found.notes.forEach((text) => note(text));
    await openPicture(found);
    return found;
  } catch (error) {
    note(error.message);
    return null;
  }
}

/** The picture, its mask and its frame as fields of a request. */
export async function readEditor() {
  if (!$("mask-shown").checked && !mask.empty) throw new Error("The mask is hidden, so nothing would be painted: show it first.");
  if (mask.empty && !extend.some(Boolean)) throw new Error("Nothing is painted: paint what is to change, or drag the frame.");
  const fields = { kind: "edit", image: picture.id, strength: Number($("strength").value), extend: [...extend], size: null };
  if (!mask.empty) {
    if (stored.version !== mask.version) stored = { version: mask.version, id: (await upload(await mask.toBlob(), "mask.png")).id };
    fields.mask = stored.id;
  }
  return { ...fields, method: $("method").value || null };
}

/** Show a preview of the painted square inside the mask; null for none. */
export function showLive(bitmap, region) {
  live = bitmap && region ? { bitmap, region } : null;
  render();
}

const shownBounds = () => {
  const [left, top, right, bottom] = extend;
  return { x: -left, y: -top, width: picture.width + left + right, height: picture.height + top + bottom };
};

function fit() {
  if (!picture) return;
  const box = canvas.getBoundingClientRect();
  const bounds = shownBounds();
  view.scale = Math.min((box.width - 24) / bounds.width, (box.height - 24) / bounds.height) || 1;
  view.x = (box.width - bounds.width * view.scale) / 2 - bounds.x * view.scale;
  view.y = (box.height - bounds.height * view.scale) / 2 - bounds.y * view.scale;
  render();
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const scale = Math.min(Math.max(view.scale * factor, 0.05), 64);
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  render();
}

let asked = false;
function render() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

function draw() {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!picture) return;
  context.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, view.x * ratio, view.y * ratio);
  context.imageSmoothingEnabled = view.scale < 1;
  const bounds = shownBounds();
  if (extend.some(Boolean)) {
    context.fillStyle = "#ff4b3c66";
    context.fillRect(bounds.x, bounds.y, bounds.width, bounds.height);
    context.clearRect(0, 0, picture.width, picture.height);
  }
  context.drawImage(picture.bitmap, 0, 0);
  if (live) drawLive();
  if ($("mask-shown").checked && !live) {
    context.globalAlpha = Number($("mask-tint").value);
    context.drawImage(mask.canvas, 0, 0);
    context.globalAlpha = 1;
  }
  context.lineWidth = 1 / view.scale;
  context.strokeStyle = tool === "frame" ? "#5b9bff" : "#88888888";
  context.strokeRect(bounds.x, bounds.y, bounds.width, bounds.height);
  if (held?.what === "box") context.strokeRect(held.x, held.y, held.to[0] - held.x, held.to[1] - held.y);
}

/** The preview, where the mask is or where the picture grows. */
function drawLive() {
  const bounds = shownBounds();
  const layer = new OffscreenCanvas(bounds.width, bounds.height);
  const of = layer.getContext("2d");
  const [left, top, side] = live.region; // in the picture as it has grown
  of.drawImage(mask.canvas, -bounds.x, -bounds.y);
  if (extend.some(Boolean)) {
    of.fillRect(0, 0, bounds.width, -bounds.y);
    of.fillRect(0, 0, -bounds.x, bounds.height);
    of.fillRect(picture.width - bounds.x, 0, bounds.width, bounds.height);
    of.fillRect(0, picture.height - bounds.y, bounds.width, bounds.height);
  }
  of.globalCompositeOperation = "source-in";
  of.drawImage(live.bitmap, 0, 0, live.bitmap.width, live.bitmap.height, left, top, side, side);
  context.drawImage(layer, bounds.x, bounds.y);
}

/** The point of the picture under a pointer. */
function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left - view.x) / view.scale, (event.clientY - box.top - view.y) / view.scale];
}

function down(event) {
  if (!picture) return;
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  const [x, y] = pointOf(event);
  if (pointers.size === 2) { // pinch: what the first finger began is given up
    if (held?.what === "stroke") mask.commit();
    held = { what: "pinch", ...pinch() };
    return;
  }
  const paints = $("mask-shown").checked;
  if (tool === "pan" || space || event.button === 1) held = { what: "pan", x: event.clientX, y: event.clientY };
  else if (tool === "frame") held = edgeAt(x, y);
  else if (!paints) note("The mask is hidden: show it to paint.");
  else if (tool === "box") held = { what: "box", x, y, to: [x, y] };
  else {
    mask.begin();
    held = { what: "stroke", x, y, value: tool === "eraser" || event.button === 2 ? 0 : 255 };
    mask.stroke(x, y, x, y, sizes[tool] / 2, held.value);
  }
  render();
}

const pinch = () => {
  const [a, b] = [...pointers.values()];
  return { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2, away: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) };
};

/** The edge of the frame that is nearest. */
function edgeAt(x, y) {
  const bounds = shownBounds();
  const away = [Math.abs(x - bounds.x), Math.abs(y - bounds.y), Math.abs(x - bounds.x - bounds.width), Math.abs(y - bounds.y - bounds.height)];
  return { what: "frame", side: away.indexOf(Math.min(...away)) };
}

function move(event) {
  if (!pointers.has(event.pointerId)) return;
  pointers.set(event.pointerId, event);
  if (!held) return;
  const [x, y] = pointOf(event);
  if (held.what === "stroke") {
    mask.stroke(held.x, held.y, x, y, sizes[tool] / 2, held.value);
    [held.x, held.y] = [x, y];
  } else if (held.what === "box") held.to = [x, y];
  else if (held.what === "frame") {
    const outwards = [-x, -y, x - picture.width, y - picture.height][held.side];
    const next = [...extend];
    next[held.side] = Math.min(Math.max(Math.round(outwards), 0), 4096);
    setExtend(next);
  } else if (held.what === "pan") {
    view.x += event.clientX - held.x;
    view.y += event.clientY - held.y;
    [held.x, held.y] = [event.clientX, event.clientY];
  } else if (held.what === "pinch" && pointers.size === 2) {
    const now = pinch();
    const box = canvas.getBoundingClientRect();
    view.x += now.x - held.x;
    view.y += now.y - held.y;
    zoom(now.away / (held.away || 1), now.x - box.left, now.y - box.top);
    Object.assign(held, now);
  }
  render();
}

function up(event) {
  pointers.delete(event.pointerId);
  if (held?.what === "stroke") mask.commit();
  if (held?.what === "box") {
    mask.begin();
    mask.box(held.x, held.y, ...held.to, 255);
    mask.commit();
  }
  if (pointers.size === 0) held = null;
  changed();
}

function setExtend(next) {
  extend.splice(0, 4, ...next);
  for (const input of document.querySelectorAll("#extend input")) input.value = extend[input.dataset.side];
}

/** After a change of the mask: buttons and the share of what is painted. */
function changed() {
  const share = mask ? mask.share : 0;
  $("mask-size").textContent = mask && !mask.empty ? `${Math.max(0.1, share * 100).toFixed(1)}% painted` : "nothing painted";
  $("undo").disabled = !mask?.dones.length;
  $("redo").disabled = !mask?.undone.length;
  $("paint").disabled = !picture;
  render();
}

export function setTool(name) {
  tool = name;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  if (sizes[name]) showSize();
  canvas.style.cursor = { pan: "grab", frame: "move" }[name] ?? "crosshair";
  render();
}

export function resize(by) {
  const name = tool === "eraser" ? "eraser" : "brush";
  sizes[name] = Math.min(Math.max(Math.round(sizes[name] * (by > 0 ? 1.2 : 1 / 1.2) + by * 0.5), 1), 400);
  showSize();
}

function showSize() {
  const size = sizes[tool] ?? sizes.brush;
  $("brush-size").value = size;
  $("brush-value").value = size;
}

export function undo(again = false) {
  if (!mask) return;
  if (again) mask.redo();
  else mask.undo();
  changed();
}

/** A mask from a picture's pixels: painted where `paints` says so of red, green, blue and alpha. */
async function maskFrom(bitmap, paints) {
  const scaled = new OffscreenCanvas(mask.width, mask.height);
  const of = scaled.getContext("2d", { willReadFrequently: true });
  of.imageSmoothingEnabled = false;
  of.drawImage(bitmap, 0, 0, mask.width, mask.height);
  const { data } = of.getImageData(0, 0, mask.width, mask.height);
  mask.map((i) => (paints(data[4 * i], data[4 * i + 1], data[4 * i + 2], data[4 * i + 3]) ? 255 : 0));
  changed();
}

export function setUpEditor() {
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  addEventListener("keydown", (event) => (space = event.code === "Space" && event.target === canvas ? true : space));
  addEventListener("keyup", (event) => (space = event.code === "Space" ? false : space));
  new ResizeObserver(() => (picture ? fit() : render())).observe(canvas);
  for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
  for (const input of document.querySelectorAll("#extend input")) {
    input.addEventListener("change", () => {
      const next = [...extend];
      next[input.dataset.side] = Math.min(Math.max(Math.round(Number(input.value)) || 0, 0), 4096);
      setExtend(next);
      fit();
    });
  }
  $("brush-size").addEventListener("input", ({ target }) => {
    sizes[tool === "eraser" ? "eraser" : "brush"] = Number(target.value);
    $("brush-value").value = target.value;
  });
  $("undo").addEventListener("click", () => undo());
  $("redo").addEventListener("click", () => undo(true));
  $("zoom-in").addEventListener("click", () => zoom(1.4));
  $("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
  $("zoom-fit").addEventListener("click", fit);
  $("mask-shown").addEventListener("change", render);
  $("mask-tint").addEventListener("input", render);
  const withMask = (act) => () => (mask ? act() : note("Open a picture first."));
  $("mask-invert").addEventListener("click", withMask(() => (mask.map((i, value) => 255 - value), changed())));
  $("mask-clear").addEventListener("click", withMask(() => (mask.map(() => 0), changed())));
  $("mask-alpha").addEventListener("click", withMask(() => maskFrom(picture.bitmap, (r, g, b, alpha) => alpha < 128)));
  $("mask-load").addEventListener("click", withMask(() => $("mask-file").click()));
  $("mask-file").addEventListener("change", async ({ target }) => {
    if (!target.files[0]) return;
    try {
      const bitmap = await createImageBitmap(target.files[0]);
      await maskFrom(bitmap, (r, g, b, alpha) => alpha >= 128 && r * 0.299 + g * 0.587 + b * 0.114 >= 128);
    } catch {
      note("The mask's file cannot be read: give a PNG.");
    }
    target.value = "";
  });
  $("mask-save").addEventListener("click", withMask(async () => {
    const href = URL.createObjectURL(await mask.toBlob());
    const { download } = await import("./dom.js");
    download(href, "mask.png");
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }));
  changed();
}
