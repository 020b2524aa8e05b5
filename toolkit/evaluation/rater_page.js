// The page of a comparison by people: pairs of pictures, questions, keys, answers kept in the browser.
// Plain JavaScript without libraries. The functions of the first part touch no document: tests run them in Node.
"use strict";

const FORMAT = "glide comparison answers";
const CHOICES = {
  a: "left", A: "left", ArrowLeft: "left",
  b: "right", B: "right", ArrowRight: "right",
  t: "tie", T: "tie", ArrowDown: "tie",
};
const UNDO = ["u", "U", "Backspace"];

// FNV-1a: 32 bits of a text.
function hash(text) {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193) >>> 0;
  return h;
}

// mulberry32: a small generator of numbers in [0, 1), the same in every browser.
function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function cleanName(name) {
  return name.normalize("NFC").replace(/\s+/g, " ").trim().slice(0, 80);
}

// The trials as this rater sees them: in an order of their own and, for every second rater, with sides swapped. The
// same name always gives the same, so that a rater can go on elsewhere in the list.
function arranged(trials, comparison, rater) {
  const next = random(hash(comparison + "\n" + rater.toLowerCase()));
  const swap = next() < 0.5;
  const found = trials.map((t) => (swap ? { ...t, left: t.right, right: t.left } : t));
  for (let i = found.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [found[i], found[j]] = [found[j], found[i]];
  }
  return found;
}

// Answer number `count` is to this trial and this question; null when all are given.
function at(trials, questions, count) {
  const trial = trials[Math.floor(count / questions.length)];
  return trial ? { trial, question: questions[count % questions.length], number: count % questions.length } : null;
}

// The saved answers that fit the list, from its beginning: a damaged or foreign save is cut where it stops fitting.
function usable(saved, trials, questions) {
  const kept = [];
  for (const answer of Array.isArray(saved) ? saved : []) {
    const here = at(trials, questions, kept.length);
    const fits = here && answer && answer.trial === here.trial.id && answer.question === here.question.id &&
      answer.left === here.trial.left && answer.right === here.trial.right &&
      ["left", "right", "tie"].includes(answer.choice);
    if (!fits) break;
    kept.push(answer);
  }
  return kept;
}

function answersFile(comparison, rater, answers) {
  return { format: FORMAT, version: 1, comparison, rater, answers };
}

if (typeof module !== "undefined") {
  module.exports = { arranged, answersFile, at, cleanName, hash, random, usable, CHOICES };
}

// The page itself.
function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  let rater = "", trials = [], answers = [], shownAt = 0, ready = false, stored = true;

  const place = () => "glide-comparison:" + data.comparison + ":" + rater.toLowerCase();

  function load(key) {
    try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
  }

  function save() {
    try {
      localStorage.setItem(place(), JSON.stringify(answers));
      localStorage.setItem("glide-comparison:rater", JSON.stringify(rater));
      stored = true;
    } catch { stored = false; }
    $("unsaved").hidden = stored;
  }

  function begin(event) {
    event.preventDefault();
    rater = cleanName($("name").value);
    if (!rater) return $("name").focus();
    trials = arranged(data.trials, data.comparison, rater);
    answers = usable(load(place()), trials, data.questions);
    save();
    show();
  }

  function see(screen) {
    for (const id of ["intro", "trial", "end"]) $(id).hidden = id !== screen;
    document.body.dataset.screen = screen;
  }

  async function show() {
    const here = at(trials, data.questions, answers.length);
    $("who").textContent = rater;
    $("bar").max = trials.length * data.questions.length;
    $("bar").value = answers.length;
    if (!here) {
      $("count").textContent = answers.length + " answers";
      see("end");
      $("again").focus();
      return;
    }
    see("trial");
    ready = false;
    const { trial, question, number } = here;
    $("count").textContent = "Pair " + (trials.indexOf(trial) + 1) + " of " + trials.length;
    $("question").textContent = question.text;
    $("question").dataset.number = number;
    $("step").textContent = data.questions.length > 1 ? "Question " + (number + 1) + " of " + data.questions.length : "";
    $("caption").textContent = trial.caption;
    $("caption").classList.toggle("later", question.id !== "fits");
    $("caption").classList.toggle("long", trial.caption.length > 150);
    $("caption").hidden = !trial.caption;
    $("undo").disabled = !answers.length;
    await Promise.all(["left", "right"].map((side) => {
      const image = $(side);
      if (image.dataset.id === trial[side]) return null;
      image.dataset.id = trial[side];
      image.src = data.pictures[trial[side]];
      return image.decode().catch(() => null);
    }));
    ready = at(trials, data.questions, answers.length)?.trial === trial;
    shownAt = performance.now();
    ahead(answers.length + data.questions.length);
  }

  // Decode the next pair, so that it is there at once.
  function ahead(count) {
    const next = at(trials, data.questions, count);
    if (!next) return;
    for (const side of ["left", "right"]) new Image().src = data.pictures[next.trial[side]];
  }

  function choose(choice) {
    const here = at(trials, data.questions, answers.length);
    if (!here || !ready || $("trial").hidden) return;
    const { trial, question } = here;
    const seconds = Math.round(performance.now() - shownAt) / 1000;
    answers.push({ trial: trial.id, question: question.id, choice, left: trial.left, right: trial.right, seconds });
    save();
    const button = $("choose-" + choice);
    button.classList.add("chosen");
    setTimeout(() => button.classList.remove("chosen"), 180);
    show();
  }

  function undo() {
    if (!answers.length || !$("intro").hidden) return;
    answers.pop();
    save();
    show();
  }

  function download() {
    const text = JSON.stringify(answersFile(data.comparison, rater, answers), null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "answers-" + (rater.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "rater") + ".json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function leave() {
    see("intro");
    $("name").focus();
  }

  $("form").addEventListener("submit", begin);
  for (const side of ["left", "right"]) $("pick-" + side).addEventListener("click", () => choose(side));
  for (const choice of ["left", "tie", "right"]) $("choose-" + choice).addEventListener("click", () => choose(choice));
  $("undo").addEventListener("click", undo);
  $("back").addEventListener("click", undo);
  for (const id of ["download", "again"]) $(id).addEventListener("click", download);
  for (const id of ["leave", "other"]) $(id).addEventListener("click", leave);
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !$("intro").hidden) return;
    if (UNDO.includes(event.key)) { event.preventDefault(); undo(); }
    else if (Object.hasOwn(CHOICES, event.key)) { event.preventDefault(); choose(CHOICES[event.key]); }
  });
  $("name").value = load("glide-comparison:rater") || "";
  $("total").textContent = data.trials.length;
  see("intro");
  $("name").focus();
}

if (typeof document !== "undefined") start();
