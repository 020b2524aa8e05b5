// The form: settings as a request, and a recipe's fields back into it.

import { $, fillSelect, make, note, urlOf } from "./dom.js";
import { upload } from "./server.js";

const START = { "": null };
let offered = { models: [], guidances: [], samplers: {}, spacings: {} };
let start = null; // {id, name} of the picture to begin with
let repeats = null; // {call_size, place} of a recipe, which repeat its picture bit for bit
let known = ""; // of the chosen model, as JSON: the form is changed where it changes
let extra = {}; // options of a recipe that have no field of their own
const conditions = new Map();

/** The model that is chosen. */
export const model = () => offered.models.find((one) => one.label === $("model").value) ?? offered.models[0];

export function fillOffers(about) {
  const first = !offered.models.length;
  offered = about;
  fillSelect($("model"), about.models.map((one) => [one.label, one.label + (one.failure ? " (cannot be loaded)" : "")]));
  if (first) {
    fillSelect($("sampler"), Object.keys(about.samplers).map((name) => [name, name]));
    for (const option of $("sampler").options) option.title = about.samplers[option.value];
    fillSelect($("spacing"), [["", "usual"], ...Object.keys(about.spacings).map((name) => [name, name])]);
    fillSelect($("add-guidance"), [["", "a guidance"], ...about.guidances.map((one) => [one.name, `${one.name}: ${one.words}`])]);
    if (about.samplers["dpmpp-2m"]) $("sampler").value = about.default_sampler ?? "dpmpp-2m";
    if (about.default_steps) $("steps").value = about.default_steps;
    addChip("cfg");
  }
  if (JSON.stringify(model()) !== known) ofModel();
  known = JSON.stringify(model());
}

/** What depends on the model: its classes, sizes, and pictures as conditions. */
function ofModel() {
  const one = model();
  if (!one?.loaded) {
    fillSelect($("size"), [["", "usual"]]);
    return;
  }
  if (one.own) for (const name of ["sampler", "steps", "spacing"]) $(name).value = one.own[name]; // a distilled model's
  fillSelect($("size"), [["", `${one.size}x${one.size}`], ...(one.enlarged ? [[String(one.enlarged), `${one.enlarged}x${one.enlarged}`]] : [])]);
  $("class-label").hidden = !one.classes.length;
  fillSelect($("class"), [["", "none"], ...one.classes.map((name) => [name, name])]);
  const contrast = document.querySelector("#chips [data-name=cfg]");
  if (!one.guided) contrast?.remove(); // a model without a null condition knows no classifier-free guidance
  const kinds = one.conditions ?? [];
  for (const kind of [...conditions.keys()]) if (!kinds.includes(kind)) conditions.delete(kind);
  $("conditions").replaceChildren(...kinds.map((kind) => {
    const file = make("input", { type: "file", accept: "image/*" });
    file.addEventListener("change", async () => {
      try {
        if (file.files[0]) conditions.set(kind, (await upload(file.files[0], file.files[0].name)).id);
      } catch (error) {
        note(error.message);
      }
    });
    return make("label", {}, `Condition: ${kind}`, file);
  }));
}

/** A guidance with its strength, which may depend on the timestep (0..5, 3~cos), and the timesteps at which it acts. */
function addChip(name, strength = null, interval = ["", ""]) {
  const entry = offered.guidances.find((one) => one.name === name);
  const number = (label, value, placeholder) =>
    make("input", { type: "number", min: 0, step: "any", value, placeholder, "aria-label": `${name}: ${label}`, title: label });
  const chip = make("div", { class: "chip", "data-name": name }, make("span", { textContent: name, title: entry?.words ?? "" }));
  chip.append(make("input", {
    value: strength ?? entry?.scale ?? 1, placeholder: "strength", spellcheck: false, autocapitalize: "off",
    "aria-label": `${name}: strength`, title: "strength; 0..5 changes linearly from noise to picture, 3~cos and 3~exp:2 by a curve",
  }));
  chip.append(number("from timestep", interval[0], "from"), number("to timestep", interval[1], "to"));
  const remove = make("button", { type: "button", textContent: "×", "aria-label": `Remove ${name}` });
  remove.addEventListener("click", () => chip.remove());
  chip.append(remove);
  $("chips").append(chip);
}

function guidances() {
  return [...$("chips").children].map((chip) => {
    const [strength, from, to] = [...chip.querySelectorAll("input")].map((input) => input.value.trim());
    const interval = from || to ? `@${from || 0}-${to || 999999}` : "";
    return `${chip.dataset.name}${strength && !strength.startsWith("~") ? ":" : ""}${strength}${interval}`;
  });
}

const numberOf = (id) => ($(id).value.trim() === "" ? null : Number($(id).value));

/** The form as a request; its seed is drawn where it is random. */
export function readForm(kind = "draw") {
  if ($("seed-random").checked && kind !== "grid") $("seed").value = String(Math.floor(Math.random() * 2 ** 31));
  const options = {};
  if (numberOf("rescale")) options.rescale = numberOf("rescale");
  if (numberOf("threshold")) options.threshold = numberOf("threshold");
  const request = {
    kind: "draw",
    model: $("model").value,
    caption: $("caption").value.trim(),
    negative: $("negative").value.trim() || null,
    label: $("class-label").hidden ? null : $("class").value || null,
    size: $("size").value ? Number($("size").value) : null,
    seed: $("seed").value.trim() || "0",
    count: numberOf("count") ?? 1,
    steps: $("steps").value.trim(),
    sampler: $("sampler").value,
    spacing: $("spacing").value || null,
    eta: numberOf("eta") ?? 0,
    guidance: guidances(),
    options: { ...extra, ...options },
    preview: $("preview").checked,
    conditions: Object.fromEntries(conditions),
    ...(repeats ?? START[""]),
  };
  if (start && kind !== "edit") Object.assign(request, { image: start.id, strength: Number($("start-strength").value) });
  return request;
}

/** Fill the form from a recipe's fields, so that Draw repeats its picture. */
export function fillForm(fields, name) {
  if (fields.model) $("model").value = fields.model;
  ofModel();
  $("caption").value = fields.caption ?? "";
  $("negative").value = fields.negative ?? "";
  $("class").value = fields.label ?? "";
  $("size").value = fields.size ? String(fields.size) : "";
  $("seed").value = fields.seed;
  $("seed-fixed").checked = true;
  $("count").value = fields.count ?? 1;
  $("steps").value = fields.steps;
  $("sampler").value = fields.sampler;
  $("spacing").value = fields.spacing ?? "";
  $("eta").value = fields.eta ?? 0;
  const { rescale = 0, threshold = "", ...rest } = fields.options ?? {};
  $("rescale").value = rescale;
  $("threshold").value = threshold;
  extra = rest;
  $("chips").replaceChildren();
  for (const text of fields.guidance ?? []) {
    const [, kind, strength, , from, to] = /^([^:@~]+)((?:[:~][^@]+)?)(@(\d+)-(\d+))?$/.exec(text) ?? [];
    if (kind) addChip(kind, strength.replace(/^:/, "") || null, from === undefined ? ["", ""] : [from, to]);
  }
  repeats = fields.call_size ? { call_size: fields.call_size, place: fields.place } : null;
  $("repeats").hidden = !repeats;
  $("repeats").firstElementChild.textContent = repeats
    ? `As in ${name}: network calls of ${fields.call_size}, place ${fields.place}.` : "";
}

function forget() {
  repeats = null;
  $("repeats").hidden = true;
}

/** Begin with a picture of the server's. */
export function beginWith(picture) {
  start = picture;
  $("start").hidden = !picture;
  if (picture) $("start-picture").src = urlOf(picture.id);
}

export function setUpForm() {
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("model").addEventListener("change", ofModel);
  $("count").addEventListener("change", forget);
  $("model").addEventListener("change", forget);
  $("repeats-remove").addEventListener("click", forget);
  $("add-guidance").addEventListener("change", ({ target }) => {
    if (target.value) addChip(target.value);
    target.value = "";
  });
  $("start-remove").addEventListener("click", () => beginWith(null));
  $("start-strength").addEventListener("input", ({ target }) => (target.parentElement.nextElementSibling.value = target.value));
}
