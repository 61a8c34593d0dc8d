/** The page: choose files, ask for an answer, show it. */

import { answer_sentence, show_first } from "/answer.js";
import { Calipers } from "/calipers.js";
import { at, clock, duration, element, in_words } from "/dom.js";
import { PAGE_SECONDS, draw_paper, views_of } from "/paper.js";
import { Scale } from "/scale.js";
import { meaning_of, show_about, show_findings, show_labels, show_measurements, show_shares } from "/tables.js";
import { show_start, show_timeline } from "/timeline.js";

// The record that the page shows. `explained` is the label whose colour is shown: "" for the most probable, null for none.
const chosen = { files: [], example: null, explained: null };
let about = null; // description of the model, from /about
let record = null; // the record on the page: an answer, or a record without one
let requests = 0; // number of the last request: an answer to an earlier request is not shown
let retry = null; // asks again for what a request did not bring
let stop_waiting = () => {}; // ends the display of how long the page waits

const PATIENCE = 2000; // ms until the page shows for how long it waits
const STATUS_OF_REFUSAL = 422; // the record itself is the reason: asking again would change nothing

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

/** Show in an element for how long the page waits, which can be long on a busy machine. Return what ends it. */
function show_waiting(place) {
  const start = Date.now();
  const timer = setInterval(() => {
    const waited = Date.now() - start;
    if (waited < PATIENCE) return;
    place.textContent = `${Math.floor(waited / 1000)} s so far. A long recording takes longer. The limit is ${about.limits.seconds} s.`;
  }, 500);
  return () => {
    clearInterval(timer);
    place.textContent = "";
  };
}

/** Say that a change of the page did not happen, beside the controls. The answer stays. */
function show_failed_change(text) {
  at("explained").value = record.explained ? record.explained.label : "-";
  at("start").value = record.start_s;
  show_start(record.start_s);
  chosen.explained = record.explained ? record.explained.label : null;
  show_status("");
  at("change").classList.add("shown");
  at("change-text").textContent = `The page has not changed. ${text}`;
  at("change-again").hidden = false;
}

function hide_failed_change() {
  const had_focus = document.activeElement === at("change-again");
  at("change").classList.remove("shown");
  at("change-text").textContent = "";
  at("change-again").hidden = true;
  if (had_focus) at("explained").focus();
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
  stop_waiting();
  at("again").hidden = true;
  const size = chosen.files.reduce((sum, file) => sum + file.size, 0);
  if (size > about.limits.megabytes * 1e6) {
    at("result").hidden = true;
    show_error(`${(size / 1e6).toFixed(1)} MB found; at most ${about.limits.megabytes} MB are read (einthoven app --max-size).`);
    return;
  }
  const name = chosen.example === null ? chosen.files[0].name : "a generated ECG";
  show_status(`Reading ${name} …`, is_new);
  const explained = chosen.explained;
  stop_waiting = show_waiting(at(is_new ? "waiting" : "waiting-for-page"));
  const { status, content } = await reply_to(query, new Blob(chosen.files));
  if (number !== requests) return;
  stop_waiting();
  retry = () => {
    chosen.explained = explained;
    ask(start, is_new);
  };
  try {
    if (status === 200) {
      show_answer(content, is_new);
    } else if (!is_new && !content.record) {
      show_failed_change(content.error);
    } else {
      show_refusal(content);
      at("again").hidden = status === STATUS_OF_REFUSAL;
    }
  } catch (error) {
    at("result").hidden = true;
    show_error(`The answer cannot be shown: a fault of this page (${error.name}). The console of the browser says where.`);
    throw error;
  }
}

/** The status and the content of the reply to a request. If there is no content, its `error` says why. */
async function reply_to(query, body) {
  let response = null;
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    response = await fetch(`/answer?${query}`, { method: "POST", body, headers });
    return { status: response.status, content: await response.json() };
  } catch (error) {
    const sentence = error instanceof SyntaxError
      ? `No answer: a fault of einthoven app (status ${response.status}).`
      : "No answer: is einthoven app still running, and can the file be read?";
    return { status: null, content: { error: sentence } };
  }
}

/** The form for values that a file may lack is shown only when a file lacks one. */
function choose_files(files) {
  if (!files.length) return;
  Object.assign(chosen, { files: [...files], example: null, explained: null });
  show_form([]);
  ask();
}

/** Show the form, with the focus in the first of some fields. Without a field, hide it. */
function show_form(names) {
  at("metadata").hidden = !names.length;
  for (const [name] of FIELDS) at(name).setAttribute("aria-invalid", names.includes(name));
  if (names.length) at(names[0]).focus();
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
  if (is_new) go_to_answer();
}

/** Move the focus to the answer, and scroll to its beginning if the window does not show all of it. */
function go_to_answer() {
  at("name").focus();
  if (at("summary").getBoundingClientRect().bottom > window.innerHeight) at("name").scrollIntoView();
}

function page_sentence(answer) {
  const colour = answer.explained
    ? `Colour: what the answer ${in_words(answer.explained.label, meaning_of(answer.explained.label, about))} rests on.`
    : at("colour-note").textContent;
  return `${answer.name}, from ${clock(answer.start_s)} on. ${colour}`.trim();
}

/** Show why there is no answer, and the ECG if it was read. */
function show_refusal(content) {
  chosen.explained = null;
  show_error(content.error);
  at("result").hidden = true;
  if (!content.record) {
    // The message may name fields of the form.
    const fields = FIELDS.filter(([, words]) => content.error.includes(words));
    if (fields.length) show_form(fields.map(([name]) => name));
    return;
  }
  open_result(content.record);
  const has_wrong_unit = content.record.findings.some(({ code }) => code === "unit");
  if (has_wrong_unit) record.help = help_with_unit();
  show_first(record, about);
  at("course").hidden = true;
  at("saliency").hidden = true;
  at("colour-note").textContent = "";
  at("explained").replaceChildren(element("option", "nothing", { value: "-" }));
  show_record();
  show_error(`No answer for ${record.name}. ${record.why} ${record.help}`, false);
  go_to_answer();
}

/** What a user can do about a unit that cannot be right. A unit that the file states can be changed only there. */
function help_with_unit() {
  if (at("metadata").hidden || !at("units").value) return "The file states this unit: correct it in the file.";
  return "Choose the right unit above, and read the file again.";
}

/** Prepare the page for a record. Without an answer, it has no probabilities and no measurements. */
function open_result(content) {
  record = content;
  const has_answer = "probabilities" in record;
  hide_failed_change();
  for (const [name] of FIELDS) at(name).removeAttribute("aria-invalid");
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
  const title = `ECG of ${record.name}, from ${clock(record.start_s)} on, ${view.textContent}`;
  const colour = record.explained ? { fs: record.explained.fs, levels: record.explained.levels } : null;
  const drawn = draw_paper(record.signal, colour, view.value, Number(at("gain").value), title);
  const box = element("div", drawn.svg, { class: "page" });
  at("paper").replaceChildren(box);
  const end = Math.min(record.start_s + PAGE_SECONDS, record.seconds);
  const part = record.seconds > PAGE_SECONDS ? `From ${clock(record.start_s)} to ${clock(end)} of ${duration(record.seconds)}. ` : "";
  at("print-scale").textContent = `${part}${drawn.speed} mm/s, ${drawn.gain} mm/mV, ${record.fs} Hz, if printed at 100 %: `
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
  show_form([]);
  ask();
});
// Without this, a file that was changed on the disk could not be chosen again.
at("files").addEventListener("click", () => {
  const before = at("files").files;
  at("files").value = "";
  at("files").addEventListener("cancel", () => { at("files").files = before; }, { once: true });
});
at("again").addEventListener("click", () => retry());
at("change-again").addEventListener("click", () => retry());
at("explained").addEventListener("change", (event) => {
  chosen.explained = event.target.value === "-" ? null : event.target.value;
  ask(record.start_s, false);
});
at("view").addEventListener("change", draw);
at("gain").addEventListener("change", draw);
at("print").addEventListener("click", () => window.print());
at("rule").addEventListener("change", () => show_labels(record, about));
at("all").addEventListener("click", () => show_labels(record, about, true));
at("start").addEventListener("input", (event) => show_start(Number(event.target.value)));
for (const [id, seconds] of [["earlier", -PAGE_SECONDS], ["later", PAGE_SECONDS]]) {
  at(id).addEventListener("click", () => ask(Math.max(record.start_s + seconds, 0), false));
}
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
