"use strict";

const FIRST_STATEMENTS = 12; // number of statements of the first group that the page shows at first
const FIRST_OF_OTHER_GROUPS = 4; // the same for each other group, such as the rhythms
const PAGE_SECONDS = 10;
const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);

// The record that the page shows. `explained` is the statement to explain: "" for the most probable, null for none.
const chosen = { files: [], example: null, explained: "" };
let about = null; // description of the model, from /about
let answer = null; // the last answer, from /answer
let requests = 0; // number of the last request: an answer to an earlier request is not shown

// ------------------------------------------------------------------ elements and texts

function element(name, content = "", attributes = {}) {
  const node = document.createElement(name);
  node.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function svg_element(name, attributes, title = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (title) {
    const title_node = document.createElementNS(SVG, "title");
    title_node.textContent = title;
    node.append(title_node);
  }
  return node;
}

function svg_text(text, attributes) {
  const node = svg_element("text", attributes);
  node.textContent = text;
  return node;
}

const row = (kind, cells) => element("tr", cells.map((cell) => cell instanceof Node ? cell : element(kind, cell)));
/** A number with some digits behind the point, and 0 without a sign. */
const rounded = (value, digits) => {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text;
};
const two_digits = (p) => p === null || p === undefined ? "unknown" : p.toFixed(2);
const rule_name = (rule) => ({ youden: "Youden", f1: "largest F1" })[rule] || rule.replace("=", " ");

function show_status(text, is_error = false) {
  at("status").textContent = text;
  at("status").classList.toggle("error", is_error);
}

/** Names of some statements, the most probable first. */
function ranked(names) {
  return [...names].sort((a, b) => answer.probabilities[b] - answer.probabilities[a]);
}

// ------------------------------------------------------------------ requests

async function ask(start = 0) {
  const query = new URLSearchParams({ start });
  if (chosen.explained !== null) query.set("explain", chosen.explained);
  if (chosen.example !== null) {
    query.set("example", chosen.example);
  } else {
    chosen.files.forEach((file) => query.append("file", file.name));
    chosen.files.slice(0, -1).forEach((file) => query.append("size", file.size));
    if (!at("metadata").hidden) ["fs", "units", "leads"].forEach((name) => query.set(name, at(name).value.trim()));
  }
  const size = chosen.files.reduce((sum, file) => sum + file.size, 0);
  if (about && size > about.limits.megabytes * 1e6) {
    at("result").hidden = true;
    show_status(`${(size / 1e6).toFixed(1)} MB found; at most ${about.limits.megabytes} MB are read (einthoven app --max-size).`, true);
    return;
  }
  show_status("Reading …");
  const number = ++requests;
  try {
    const body = new Blob(chosen.files);
    const headers = { "Content-Type": "application/octet-stream" };
    const response = await fetch(`/answer?${query}`, { method: "POST", body, headers });
    const content = await response.json();
    if (number !== requests) return;
    if (!response.ok) throw new Error(content.error);
    answer = content;
    show_status("");
    show();
  } catch (error) {
    if (number !== requests) return;
    at("result").hidden = true;
    const has_no_answer = error instanceof TypeError;
    // The message asks for a fact, for example "use fs=500".
    if (/\b(fs|units|leads)=/.test(error.message)) at("metadata").hidden = false;
    show_status(has_no_answer ? "No answer: is einthoven app still running, and can the file be read?" : error.message, true);
  }
}

/** Whether the files may not state their sampling frequency, unit and leads. */
function may_lack_metadata() {
  const names = chosen.files.map((file) => file.name.toLowerCase());
  if (about === null || names.some((name) => name.endsWith(".hea"))) return false;
  return names.some((name) => about.suffixes_without_metadata.some((suffix) => name.endsWith(suffix)));
}

function choose_files(files) {
  if (!files.length) return;
  Object.assign(chosen, { files: [...files], example: null, explained: chosen.explained && "" });
  at("metadata").hidden = !may_lack_metadata();
  ask();
}

// ------------------------------------------------------------------ the answer

function show() {
  at("result").hidden = false;
  at("name").textContent = answer.name;
  at("facts").textContent = `${Number(answer.seconds.toPrecision(4))} s at ${answer.fs} Hz`;
  URL.revokeObjectURL(at("paper").src);
  at("paper").src = URL.createObjectURL(new Blob([answer.paper], { type: "image/svg+xml" }));
  show_timeline();
  show_statements();
  show_measurements();
  show_shares();
  at("cautions").replaceChildren(...answer.cautions.map((text) => element("li", text)));
  const findings = answer.findings.map((finding) => {
    const severity = element("td", finding.severity, { class: "severity" });
    const line = row("td", [severity, finding.means, finding.leads.join(" "), finding.evidence]);
    line.className = finding.severity;
    return line;
  });
  const lines = findings.length ? [row("th", ["", "finding", "leads", "evidence"]), ...findings] : [row("td", ["nothing"])];
  at("findings").replaceChildren(...lines);
  at("reading").hidden = !answer.notes.length;
  at("notes").replaceChildren(...answer.notes.map((text) => element("li", text)));
}

/** Heart rate, intervals, axes and ST levels, or why there is none. */
function show_measurements() {
  const found = answer.measurements;
  const named = [["heart rate", found.heart_rate], ["SDNN of RR", found.rr_sdnn], ["RMSSD of RR", found.rr_rmssd],
    ["PR", found.pr], ["QRS", found.qrs], ["QT", found.qt], ["QTc (Fridericia)", found.qtc_fridericia],
    ["QTc (Bazett)", found.qtc_bazett],
    ...Object.entries({ p: "P", qrs: "QRS", t: "T" }).map(([name, wave]) => [`axis of ${wave}`, found.axes[name]])];
  const rows = named.map(([name, one]) => row("td", measurement_cells(name, one, 0)));
  const levels = Object.entries(found.st).map(([lead, one]) => `${lead} ${one.value === null ? "–" : rounded(one.value, 2)}`);
  rows.push(row("td", ["ST, 60 ms after J", levels.join("  "), "mV", ""]));
  at("measurements").replaceChildren(row("th", ["", "value", "unit", ""]), ...rows);
  at("measurement-notes").textContent = found.notes.join(". ");
}

function measurement_cells(name, one, digits) {
  if (one.value === null) return [name, "–", "", one.reason];
  const spread = one.spread === null ? "" : ` ± ${one.spread.toFixed(digits)}`;
  return [name, element("td", rounded(one.value, digits) + spread, { class: "number" }), one.unit, (one.notes ?? []).join("; ")];
}

function show_statements(all = false) {
  const rule = at("rule").value;
  const has_sets = answer.alpha !== null;
  const heads = ["statement", "probability", "", ...(has_sets ? ["may be"] : []),
    ...(rule ? ["", "threshold", "there: sensitivity, specificity"] : [])];
  const groups = Object.entries(about.groups);
  const rows = [];
  let is_complete = true;
  groups.forEach(([group, meanings], position) => {
    const names = ranked(Object.keys(meanings));
    const most = all ? names.length : position ? FIRST_OF_OTHER_GROUPS : FIRST_STATEMENTS;
    is_complete = is_complete && names.length <= most;
    if (groups.length > 1) rows.push(element("tr", element("th", group, { colspan: heads.length, class: "group" })));
    rows.push(...names.slice(0, most).map((name) => statement_row(name, meanings[name], rule, has_sets)));
  });
  at("statements").replaceChildren(row("th", heads), ...rows);
  at("all").hidden = is_complete;
  at("all").textContent = `all ${Object.keys(answer.probabilities).length} statements`;
  show_statement_note(has_sets);
}

/** The row of a statement: its name in words, probability, set, and the decision of an operating point. */
function statement_row(name, meaning, rule, has_sets) {
  const p = answer.probabilities[name];
  const interval = answer.intervals[name];
  const point = rule ? about.points[name]?.[rule] : undefined;
  const is_positive = Boolean(rule) && answer.positive[rule].includes(name);
  const number = two_digits(p) + (interval ? ` (${interval.map(two_digits).join("–")})` : "");
  const cells = [meaning ? `${name}: ${meaning}` : name, element("td", number, { class: "number" }), element("td", [bar(name, p, interval, point?.threshold)])];
  if (has_sets) cells.push(answer.set.includes(name) ? "●" : "");
  if (rule && point) {
    cells.push(is_positive ? "positive" : "negative", point.threshold.toPrecision(2));
    cells.push(`${two_digits(point.sensitivity)}, ${two_digits(point.specificity)}`);
  } else if (rule) {
    cells.push("", "none", "");
  }
  const line = row("td", cells);
  line.classList.toggle("positive", is_positive);
  return line;
}

/** The sentences below the table of statements. */
function show_statement_note(has_sets) {
  const sentences = [];
  if (Object.values(answer.intervals).some((interval) => interval !== null)) {
    sentences.push("In brackets, and as a band: the 95 % interval of the probability.");
  }
  if (has_sets) {
    sentences.push(`May be: a set that misses at most ${answer.alpha * 100} % of the true statements of each group, on average over records like the calibration records.`);
  }
  if (answer.familiar !== null) {
    sentences.push(`${(answer.familiar * 100).toFixed(0)} % of the calibration records are as unlike the training data as this record.`);
  }
  at("set-note").textContent = sentences.join(" ");
}

/** Probability as a line from 0 to 1, its interval as a band, the threshold as a mark. */
function bar(name, p, interval, threshold) {
  const box = svg_element("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img" }, `${name} ${two_digits(p)}`);
  box.append(svg_element("rect", { x: 0, y: 4.5, width: 100, height: 1, fill: "#ddd" }));
  if (interval) {
    const width = Math.max((interval[1] - interval[0]) * 100, 0.5);
    box.append(svg_element("rect", { x: interval[0] * 100, y: 2, width, height: 6, fill: "#b9d7ea" }));
  }
  box.append(svg_element("rect", { x: 0, y: 4, width: p * 100, height: 2, fill: "#0072b2" }));
  if (threshold !== undefined && threshold !== null && threshold <= 1) {
    const x = Math.min(threshold * 100, 99.2);
    box.append(svg_element("rect", { x, y: 0, width: 0.8, height: 10, fill: "#d55e00" }, `threshold ${threshold.toPrecision(2)}`));
  }
  return box;
}

/** The share of each lead in the explanation of one statement. */
function show_shares() {
  const explained = answer.explained;
  const options = Object.keys(answer.probabilities).map((name) => element("option", name));
  at("explained").replaceChildren(element("option", "none", { value: "-" }), ...options);
  at("explained").value = explained ? explained.label : "-";
  at("saliency").hidden = !explained;
  if (!explained) return;
  at("label").textContent = explained.label;
  at("share-note").textContent = explained.cautions.map((caution) => `Caution: ${caution}.`).join(" ");
  const leads = Object.entries(explained.by_lead);
  const largest = Math.max(...leads.map(([, share]) => share), 1e-9);
  const width = 600 / leads.length;
  at("shares").replaceChildren(...leads.flatMap(([lead, share], k) => {
    const height = 70 * share / largest;
    const text = { x: (k + 0.5) * width, "font-size": 12, "text-anchor": "middle" };
    return [
      svg_element("rect", { x: k * width + 8, y: 88 - height, width: width - 16, height, fill: "#0072b2" }),
      svg_text(lead, { ...text, y: 105 }),
      svg_text(`${Math.round(share * 100)} %`, { ...text, y: 80 - height }),
    ];
  }));
}

/** The probabilities of each window of a long recording: a dark cell is a high probability, a click shows its page. */
function show_timeline() {
  const windows = answer.windows;
  at("course").hidden = windows.length < 2;
  if (windows.length < 2) return;
  const names = ranked(Object.keys(Object.values(about.groups)[0])).slice(0, FIRST_STATEMENTS);
  const seconds = answer.seconds;
  const label_width = 70;
  const line_height = 18;
  const width = Math.max(at("result").clientWidth, windows.length * 4);
  const height = names.length * line_height + 22;
  const x = (time) => label_width + (time / seconds) * (width - label_width);
  const box = at("timeline");
  box.setAttribute("viewBox", `0 0 ${width} ${height}`);
  box.setAttribute("width", width);
  const parts = [];

  // One line for each statement, one cell for each window.
  names.forEach((name, k) => {
    parts.push(svg_text(name, { x: 0, y: k * line_height + 13, "font-size": 12 }));
    windows.forEach((window, n) => {
      const start = window.start_s;
      const end = n + 1 < windows.length ? windows[n + 1].start_s : seconds;
      const p = window.probabilities[name];
      const cell = svg_element("rect", {
        x: x(start), y: k * line_height + 1, width: Math.max(x(end) - x(start) - 0.5, 0.5), height: line_height - 2,
        fill: "#0072b2", "fill-opacity": (0.06 + 0.94 * p).toFixed(3),
      }, `${name} ${two_digits(p)}, from ${start.toFixed(1)} s`);
      cell.addEventListener("click", () => ask(start));
      parts.push(cell);
    });
  });

  // The axis has at most ten labels.
  const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];
  const step = steps.find((candidate) => seconds / candidate <= 10) || seconds / 10;
  for (let time = 0; time <= seconds; time += step) {
    const label = time >= 120 && step % 60 === 0 ? `${time / 60} min` : `${time} s`;
    parts.push(svg_text(label, { x: x(time), y: height - 6, "font-size": 11, fill: "#666" }));
  }

  // A frame around the page that is shown.
  parts.push(svg_element("rect", {
    x: x(answer.start_s), y: 0, width: x(Math.min(PAGE_SECONDS, seconds)) - label_width, height: names.length * line_height,
    fill: "none", stroke: "#d55e00", "stroke-width": 2,
  }));
  box.replaceChildren(...parts);
  Object.assign(at("start"), { max: Math.max(seconds - PAGE_SECONDS, 0), step: "any", value: answer.start_s });
  at("from").textContent = answer.start_s.toFixed(1);
}

function show_about() {
  at("notice").textContent = about.notice;
  at("limits").textContent = `At most ${about.limits.megabytes} MB and ${about.limits.seconds} s for a record.`;
  const groups = Object.entries(about.groups).map(([group, meanings]) => [group, Object.keys(meanings).join(" ")]);
  const lines = [...groups,
    ["reads", `${about.reads.leads.join(" ")}, ${about.reads.seconds} s at ${about.reads.fs} Hz`]];
  for (const model of about.models) {
    const fitted = model.fitted_on ? `, fitted on ${model.fitted_on}` : "";
    lines.push(["trained on", model.trained_on]);
    lines.push(["calibration", `${model.calibration}${fitted}`]);
    const metrics = model.metrics ?? {};
    const low = metrics.macro_auroc_low;
    const interval = low === undefined ? "" : ` (95 %: ${low.toFixed(3)}–${metrics.macro_auroc_high.toFixed(3)})`;
    if (metrics.macro_auroc) lines.push(["macro AUROC", `${metrics.macro_auroc.toFixed(3)}${interval}, on records of that kind`]);
    lines.push(["SHA-256", model.sha256]);
  }
  if (about.attribution) lines.push(["attribution", about.attribution]);
  at("about").replaceChildren(...lines.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
  const rules = [...new Set(Object.values(about.points).flatMap((points) => Object.keys(points)))];
  at("rule").replaceChildren(...rules.map((rule) => element("option", rule_name(rule), { value: rule })));
  if (rules.includes("youden")) at("rule").value = "youden";
  at("rules").hidden = !rules.length;
}

// ------------------------------------------------------------------ events

at("files").addEventListener("change", (event) => choose_files(event.target.files));
at("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
at("example").addEventListener("click", () => {
  Object.assign(chosen, { files: [], example: (chosen.example ?? -1) + 1, explained: chosen.explained && "" });
  at("files").value = "";
  at("metadata").hidden = true;
  ask();
});
at("explained").addEventListener("change", (event) => {
  chosen.explained = event.target.value === "-" ? null : event.target.value;
  ask(answer.start_s);
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
  choose_files(event.dataTransfer.files);
});

fetch("/about").then((response) => response.json()).then((content) => {
  about = content;
  show_about();
});
