"use strict";

const FIRST = 12; // statements that are shown at once
const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);
const asked = { files: [], example: null, explained: "" }; // what the page shows an answer for; "": the likeliest
let about = null;
let found = null;
let turns = 0; // an answer that comes after a later question is not shown

// ------------------------------------------------------------------ small things

function element(name, content = "", attributes = {}) {
  const made = document.createElement(name);
  made.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function drawn(name, attributes, title = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title) {
    const text = document.createElementNS(SVG, "title");
    text.textContent = title;
    made.append(text);
  }
  return made;
}

const row = (kind, cells) => element("tr", cells.map((cell) => cell instanceof Node ? cell : element(kind, cell)));
const share = (p) => p === null || p === undefined ? "unknown" : p.toFixed(2);
const rule_name = (rule) => ({ youden: "Youden", f1: "largest F1" })[rule] || rule.replace("=", " ");

function say(text, error = false) {
  at("status").textContent = text;
  at("status").classList.toggle("error", error);
}

// ------------------------------------------------------------------ asking

async function ask(start = 0) {
  const query = new URLSearchParams({ start });
  if (asked.explained !== null) query.set("explain", asked.explained);
  if (asked.example !== null) {
    query.set("example", asked.example);
  } else {
    asked.files.forEach((file) => query.append("file", file.name));
    asked.files.slice(0, -1).forEach((file) => query.append("size", file.size));
    if (may_need_telling()) ["fs", "units", "leads"].forEach((name) => query.set(name, at(name).value.trim()));
  }
  const size = asked.files.reduce((sum, file) => sum + file.size, 0);
  if (about && size > about.limits.megabytes * 1e6) {
    at("result").hidden = true;
    say(`${(size / 1e6).toFixed(1)} MB found; at most ${about.limits.megabytes} MB are read (einthoven app --max-size).`, true);
    return;
  }
  say("Reading …");
  const turn = ++turns;
  try {
    const body = new Blob(asked.files);
    const headers = { "Content-Type": "application/octet-stream" };
    const response = await fetch(`/answer?${query}`, { method: "POST", body, headers });
    const content = await response.json();
    if (turn !== turns) return;
    if (!response.ok) throw new Error(content.error);
    found = content;
    say("");
    show();
  } catch (error) {
    if (turn !== turns) return;
    at("result").hidden = true;
    const gone = error instanceof TypeError;
    say(gone ? "No answer: is einthoven app still running, and can the file be read?" : error.message, true);
  }
}

const may_need_telling = () =>
  about !== null && !asked.files.some((file) => file.name.toLowerCase().endsWith(".hea")) &&
  asked.files.some((file) => about.told.some((suffix) => file.name.toLowerCase().endsWith(suffix)));

function take(files) {
  if (!files.length) return;
  Object.assign(asked, { files: [...files], example: null, explained: asked.explained && "" });
  at("told").hidden = !may_need_telling();
  ask();
}

// ------------------------------------------------------------------ showing

function show() {
  at("result").hidden = false;
  at("name").textContent = found.name;
  at("facts").textContent = `${Number(found.seconds.toPrecision(4))} s at ${found.fs} Hz`;
  URL.revokeObjectURL(at("paper").src);
  at("paper").src = URL.createObjectURL(new Blob([found.paper], { type: "image/svg+xml" }));
  show_course();
  show_statements();
  show_shares();
  at("cautions").replaceChildren(...found.cautions.map((text) => element("li", text)));
  const findings = found.findings.map((f) => {
    const line = row("td", [element("td", f.severity, { class: "severity" }), f.means, f.leads.join(" "), f.evidence]);
    line.className = f.severity;
    return line;
  });
  at("findings").replaceChildren(
    ...(findings.length ? [row("th", ["", "finding", "leads", "evidence"]), ...findings] : [row("td", ["nothing"])]));
  at("reading").hidden = !found.notes.length;
  at("notes").replaceChildren(...found.notes.map((text) => element("li", text)));
}

function show_statements(all = false) {
  const rule = at("rule").value;
  const names = Object.keys(found.probabilities).sort((a, b) => found.probabilities[b] - found.probabilities[a]);
  const shown = all ? names : names.slice(0, FIRST);
  const heads = ["statement", "probability", "", ...(found.alpha === null ? [] : ["may be"]),
    ...(rule ? ["", "threshold", "there: sensitivity, specificity"] : [])];
  const rows = shown.map((name) => {
    const p = found.probabilities[name];
    const interval = found.intervals[name];
    const point = rule ? about.points[name]?.[rule] : undefined;
    const positive = rule && found.positive[rule].includes(name);
    const number = element("td", share(p) + (interval ? ` (${interval.map(share).join("–")})` : ""), { class: "number" });
    const cells = [name, number, element("td", [bar(name, p, interval, point?.threshold)])];
    if (found.alpha !== null) cells.push(found.set.includes(name) ? "●" : "");
    if (rule) {
      cells.push(point ? (positive ? "positive" : "negative") : "", point ? point.threshold.toPrecision(2) : "none");
      cells.push(point ? `${share(point.sensitivity)}, ${share(point.specificity)}` : "");
    }
    const line = row("td", cells);
    line.classList.toggle("positive", Boolean(positive));
    return line;
  });
  at("statements").replaceChildren(row("th", heads), ...rows);
  at("all").hidden = all || names.length <= FIRST;
  at("all").textContent = `all ${names.length} statements`;
  const intervals = Object.values(found.intervals).some((pair) => pair !== null);
  at("set-note").textContent = (intervals ? "In brackets, and as a band: the 95 % interval of the probability. " : "") +
    (found.alpha === null ? "" : `May be: a set that, as a mean over records like those it was fitted on, misses at most ${found.alpha * 100} % of the true statements. `) +
    (found.familiar === null ? "" : `As unlike the training data as this record are ${(found.familiar * 100).toFixed(0)} % of the calibration records.`);
}

/** Probability as a line from 0 to 1, its interval as a band, the threshold as a mark. */
function bar(name, p, interval, threshold) {
  const box = drawn("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img" }, `${name} ${share(p)}`);
  box.append(drawn("rect", { x: 0, y: 4.5, width: 100, height: 1, fill: "#ddd" }));
  if (interval) {
    const width = Math.max((interval[1] - interval[0]) * 100, 0.5);
    box.append(drawn("rect", { x: interval[0] * 100, y: 2, width, height: 6, fill: "#b9d7ea" }));
  }
  box.append(drawn("rect", { x: 0, y: 4, width: p * 100, height: 2, fill: "#0072b2" }));
  if (threshold !== undefined && threshold !== null && threshold <= 1) {
    box.append(drawn("rect", { x: Math.min(threshold * 100, 99.2), y: 0, width: 0.8, height: 10, fill: "#d55e00" }, `threshold ${threshold.toPrecision(2)}`));
  }
  return box;
}

/** What the probability of one statement rests on, lead by lead. */
function show_shares() {
  const of = found.explained;
  const options = [element("option", "none", { value: "-" }), ...Object.keys(found.probabilities).map((name) => element("option", name))];
  at("explained").replaceChildren(...options);
  at("explained").value = of ? of.label : "-";
  at("saliency").hidden = !of;
  if (!of) return;
  at("label").textContent = of.label;
  const leads = Object.entries(of.by_lead);
  const most = Math.max(...leads.map(([, part]) => part), 1e-9), wide = 600 / leads.length;
  at("shares").replaceChildren(...leads.flatMap(([lead, part], k) => {
    const tall = 70 * part / most, middle = (k + 0.5) * wide;
    const texts = [[lead, 105], [`${Math.round(part * 100)} %`, 80 - tall]].map(([text, y]) => {
      const made = drawn("text", { x: middle, y, "font-size": 12, "text-anchor": "middle" });
      made.textContent = text;
      return made;
    });
    return [drawn("rect", { x: k * wide + 8, y: 88 - tall, width: wide - 16, height: tall, fill: "#0072b2" }), ...texts];
  }));
}

/** The probabilities of each window of a long recording, dark where high; a click shows its page. */
function show_course() {
  const windows = found.windows;
  at("course").hidden = windows.length < 2;
  if (windows.length < 2) return;
  const names = Object.keys(found.probabilities).sort((a, b) => found.probabilities[b] - found.probabilities[a]).slice(0, FIRST);
  const left = 70, line = 18, width = Math.max(at("result").clientWidth, windows.length * 4), last = found.seconds;
  const x = (seconds) => left + (seconds / last) * (width - left);
  const height = names.length * line + 22;
  const box = at("timeline");
  box.setAttribute("viewBox", `0 0 ${width} ${height}`);
  box.setAttribute("width", width);
  const parts = [];
  names.forEach((name, k) => {
    const text = drawn("text", { x: 0, y: k * line + 13, "font-size": 12 });
    text.textContent = name;
    parts.push(text);
    windows.forEach((window, n) => {
      const end = n + 1 < windows.length ? windows[n + 1].start_s : last;
      const p = window.probabilities[name];
      const cell = drawn("rect", {
        x: x(window.start_s), y: k * line + 1, width: Math.max(x(end) - x(window.start_s) - 0.5, 0.5), height: line - 2,
        fill: "#0072b2", "fill-opacity": (0.06 + 0.94 * p).toFixed(3),
      }, `${name} ${share(p)}, from ${window.start_s.toFixed(1)} s`);
      cell.addEventListener("click", () => ask(window.start_s));
      parts.push(cell);
    });
  });
  const step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600].find((s) => last / s <= 10) || last / 10;
  for (let s = 0; s <= last; s += step) {
    const text = drawn("text", { x: x(s), y: height - 6, "font-size": 11, fill: "#666" });
    text.textContent = s >= 120 && step % 60 === 0 ? `${s / 60} min` : `${s} s`;
    parts.push(text);
  }
  parts.push(drawn("rect", { x: x(found.start_s), y: 0, width: x(Math.min(10, last)) - left, height: names.length * line, fill: "none", stroke: "#d55e00", "stroke-width": 2 }));
  box.replaceChildren(...parts);
  Object.assign(at("start"), { max: Math.max(last - 10, 0), step: "any", value: found.start_s });
  at("from").textContent = found.start_s.toFixed(1);
}

function show_about() {
  at("notice").textContent = about.notice;
  at("limits").textContent = `At most ${about.limits.megabytes} MB and ${about.limits.seconds} s for a record.`;
  const lines = [["statements", about.classes.join(" ")],
    ["reads", `${about.reads.leads.join(" ")}, ${about.reads.seconds} s at ${about.reads.fs} Hz`]];
  for (const model of about.models) {
    lines.push(["trained on", model.trained_on]);
    lines.push(["calibration", `${model.calibration}${model.fitted_on ? `, fitted on ${model.fitted_on}` : ""}`]);
    const low = model.metrics?.macro_auroc_low, high = model.metrics?.macro_auroc_high;
    const interval = low === undefined ? "" : ` (95 %: ${low.toFixed(3)}–${high.toFixed(3)})`;
    if (model.metrics?.macro_auroc) lines.push(["macro AUROC", `${model.metrics.macro_auroc.toFixed(3)}${interval}, on records of that kind`]);
    lines.push(["SHA-256", model.sha256]);
  }
  at("about").replaceChildren(...lines.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
  const rules = [...new Set(Object.values(about.points).flatMap((of) => Object.keys(of)))];
  at("rule").replaceChildren(...rules.map((rule) => element("option", rule_name(rule), { value: rule })));
  if (rules.includes("youden")) at("rule").value = "youden";
  at("rules").hidden = !rules.length;
}

// ------------------------------------------------------------------ what people do

at("files").addEventListener("change", (event) => take(event.target.files));
at("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
at("example").addEventListener("click", () => {
  Object.assign(asked, { files: [], example: (asked.example ?? -1) + 1, explained: asked.explained && "" });
  at("files").value = "";
  at("told").hidden = true;
  ask();
});
at("explained").addEventListener("change", (event) => {
  asked.explained = event.target.value === "-" ? null : event.target.value;
  ask(found.start_s);
});
at("rule").addEventListener("change", () => show_statements());
at("all").addEventListener("click", () => show_statements(true));
at("start").addEventListener("input", (event) => { at("from").textContent = Number(event.target.value).toFixed(1); });
at("start").addEventListener("change", (event) => ask(event.target.value));
document.addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  at("files").files = event.dataTransfer.files;
  take(event.dataTransfer.files);
});

fetch("/about").then((response) => response.json()).then((content) => {
  about = content;
  show_about();
});
