/** The page: choose files, ask for an answer, show it. */

import { answer_sentence, show_first } from "/answer.js";
import { Calipers } from "/calipers.js";
import { at, element, in_words } from "/dom.js";
import { draw_paper, views_of } from "/paper.js";
import { Scale } from "/scale.js";
import { meaning_of, show_about, show_findings, show_labels, show_measurements, show_shares } from "/tables.js";
import { show_timeline } from "/timeline.js";

// The record that the page shows. `explained` is the label whose colour is shown: "" for the most probable, null for none.
const chosen = { files: [], example: null, explained: null };
let about = null; // description of the model, from /about
let record = null; // the record on the page: an answer, or a record without one
let requests = 0; // number of the last request: an answer to an earlier request is not shown

// Fields of the form that messages name.
const FIELDS = [["fs", "Sampling frequency"], ["units", "Unit of the values"], ["leads", "Names of the leads"]];

const calipers = new Calipers();
const scale = new Scale();

// ------------------------------------------------------------------ requests

/** Tell what happens. What the page shows anyway is only spoken by a screen reader. */
function show_status(text, is_shown = true) {
  at("status").textContent = text;
  at("status").classList.toggle("spoken", !is_shown);
  at("error").textContent = "";
}

function show_error(text, is_shown = true) {
  at("status").textContent = "";
  at("error").textContent = text;
  at("error").classList.toggle("spoken", !is_shown);
}

/** Ask for the page from `start` s on. The focus moves to the answer if the record is new. */
async function ask(start = 0, is_new = true) {
  if (!chosen.files.length && chosen.example === null) return;
  const query = new URLSearchParams({ start });
  if (chosen.explained !== null) query.set("explain", chosen.explained);
  if (chosen.example !== null) {
    query.set("example", chosen.example);
  } else {
    chosen.files.forEach((file) => query.append("file", file.name));
    chosen.files.slice(0, -1).forEach((file) => query.append("size", file.size));
    if (!at("metadata").hidden) ["fs", "units", "leads"].forEach((name) => query.set(name, at(name).value.trim()));
  }
  const number = ++requests;
  const size = chosen.files.reduce((sum, file) => sum + file.size, 0);
  if (size > about.limits.megabytes * 1e6) {
    at("result").hidden = true;
    show_error(`${(size / 1e6).toFixed(1)} MB found; at most ${about.limits.megabytes} MB are read (einthoven app --max-size).`);
    return;
  }
  const name = chosen.example === null ? chosen.files[0].name : "a generated ECG";
  show_status(`Reading ${name} …`);
  const { is_answer, content } = await reply_to(query, new Blob(chosen.files));
  if (number !== requests) return;
  try {
    if (is_answer) {
      show_answer(content, is_new);
    } else {
      show_refusal(content);
    }
  } catch (error) {
    at("result").hidden = true;
    show_error(`The answer cannot be shown: a fault of this page (${error.name}). The console of the browser says where.`);
    throw error;
  }
}

/** The content of the reply to a request. If there is none, its `error` says why. */
async function reply_to(query, body) {
  let response = null;
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    response = await fetch(`/answer?${query}`, { method: "POST", body, headers });
    return { is_answer: response.ok, content: await response.json() };
  } catch (error) {
    const sentence = error instanceof SyntaxError
      ? `No answer: a fault of einthoven app (status ${response.status}).`
      : "No answer: is einthoven app still running, and can the file be read?";
    return { is_answer: false, content: { error: sentence } };
  }
}

/** Whether the files may not state their sampling frequency, unit and leads. */
function may_lack_metadata() {
  const names = chosen.files.map((file) => file.name.toLowerCase());
  if (names.some((name) => name.endsWith(".hea"))) return false;
  return names.some((name) => about.suffixes_without_metadata.some((suffix) => name.endsWith(suffix)));
}

function choose_files(files) {
  if (!files.length) return;
  Object.assign(chosen, { files: [...files], example: null, explained: null });
  at("metadata").hidden = !may_lack_metadata();
  ask();
}

// ------------------------------------------------------------------ the answer

function show_answer(answer, is_new) {
  open_result(answer);
  show_first(answer, about);
  show_labels(answer, about);
  show_measurements(answer.measurements);
  show_shares(answer, about);
  if (chosen.explained !== null && !answer.explained) {
    at("colour-note").textContent = "No colour here: the warnings at the top say why.";
    chosen.explained = null;
  }
  const names = Object.keys(answer.probabilities)
    .map((name) => element("option", in_words(name, meaning_of(name, about)), { value: name }));
  at("explained").replaceChildren(element("option", "nothing", { value: "-" }), ...names);
  at("explained").value = answer.explained ? answer.explained.label : "-";
  show_record();
  show_timeline(answer, about, (start) => ask(start, false));
  show_status(is_new ? answer_sentence(answer, about) : page_sentence(answer), false);
  if (is_new) at("name").focus();
}

function page_sentence(answer) {
  const colour = answer.explained
    ? `Colour: what the answer ${in_words(answer.explained.label, meaning_of(answer.explained.label, about))} rests on.`
    : at("colour-note").textContent;
  return `${answer.name}, from ${answer.start_s.toFixed(1)} s on. ${colour}`.trim();
}

/** Show why there is no answer, and the ECG if it was read. */
function show_refusal(content) {
  chosen.explained = null;
  show_error(content.error);
  at("result").hidden = true;
  if (!content.record) {
    // The message may name fields of the form.
    const fields = FIELDS.filter(([, words]) => content.error.includes(words));
    if (fields.length) {
      at("metadata").hidden = false;
      at(fields[0][0]).focus();
    }
    return;
  }
  open_result(content.record);
  const has_wrong_unit = content.record.findings.some(({ code }) => code === "unit");
  const advice = has_wrong_unit && !at("metadata").hidden ? " Choose the right unit above, and read the file again." : "";
  show_first(content.record, about, content.error + advice);
  at("course").hidden = true;
  at("saliency").hidden = true;
  at("colour-note").textContent = "";
  at("explained").replaceChildren(element("option", "nothing", { value: "-" }));
  show_record();
  show_error(`No answer for ${content.record.name}: ${content.error}`, false);
  at("name").focus();
}

/** Prepare the page for a record. Without an answer, it has no probabilities and no measurements. */
function open_result(content) {
  record = content;
  const has_answer = "probabilities" in record;
  document.body.classList.add("answered");
  at("result").hidden = false;
  at("probabilities").hidden = !has_answer;
  at("measured").hidden = !has_answer;
  at("ecg").hidden = !record.signal;
}

/** Show the ECG, and what was found in the file. */
function show_record() {
  show_findings(record.findings);
  at("reading").hidden = !record.notes.length;
  at("notes").replaceChildren(...record.notes.map((text) => element("li", text)));
  if (!record.signal) return;
  const views = views_of(record.signal.leads).map(([value, words]) => element("option", words, { value }));
  const view = at("view").value;
  at("view").replaceChildren(...views);
  if (views.some((option) => option.value === view)) at("view").value = view;
  draw();
}

function draw() {
  const view = at("view").selectedOptions[0];
  const title = `ECG of ${record.name}: ${view.textContent}, ${record.signal.leads.join(", ")}`;
  const colour = record.explained ? { fs: record.explained.fs, levels: record.explained.levels } : null;
  const drawn = draw_paper(record.signal, colour, view.value, Number(at("gain").value), title);
  const box = element("div", drawn.svg, { class: "page" });
  at("paper").replaceChildren(box);
  at("print-scale").textContent = `${drawn.speed} mm/s, ${drawn.gain} mm/mV, ${record.fs} Hz, if printed at 100 %: `
    + "then the bar is 50 mm long.";
  scale.apply(drawn);
  calipers.lay_over(drawn, box);
}

// ------------------------------------------------------------------ events

at("files").addEventListener("change", (event) => choose_files(event.target.files));
at("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
at("example").addEventListener("click", () => {
  Object.assign(chosen, { files: [], example: (chosen.example ?? -1) + 1, explained: null });
  at("files").value = "";
  at("metadata").hidden = true;
  ask();
});
at("explained").addEventListener("change", (event) => {
  chosen.explained = event.target.value === "-" ? null : event.target.value;
  ask(record.start_s, false);
});
at("view").addEventListener("change", draw);
at("gain").addEventListener("change", draw);
at("print").addEventListener("click", () => window.print());
at("rule").addEventListener("change", () => show_labels(record, about));
at("all").addEventListener("click", () => show_labels(record, about, true));
at("start").addEventListener("input", (event) => { at("from").textContent = Number(event.target.value).toFixed(1); });
at("start").addEventListener("change", (event) => ask(event.target.value, false));
document.addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (about === null) return;
  at("files").files = event.dataTransfer.files;
  choose_files(event.dataTransfer.files);
});

/** Ask for the description of the model. The form can be used from then on. */
async function load_about() {
  try {
    about = await (await fetch("/about")).json();
  } catch {
    show_error("The model cannot be described: is einthoven app still running? Then load this page again.");
    return;
  }
  show_about(about);
  at("files").disabled = false;
  at("example").disabled = false;
}

load_about();
