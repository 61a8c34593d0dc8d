/** The tables below the ECG: probabilities, measurements, faults of the recording, shares of the leads, the model. */

import { at, capitalized, element, fill_table, in_words, percent, percent_range, rounded, svg_element } from "/dom.js";

const FIRST_LABELS = 12; // number of labels of the first group that the page shows at first
const FIRST_OF_OTHER_GROUPS = 4; // the same for each other group, such as the rhythms
const SEVERITIES = { info: "note", caution: "caution", warning: "warning", error: "error" };

/** Names of some labels, the most probable first. */
export function ranked(names, probabilities) {
  return [...names].sort((a, b) => probabilities[b] - probabilities[a]);
}

/** An operating point in words. */
export function rule_in_words(rule) {
  const [name, value] = rule.split("=");
  if (name === "youden") return "the largest sum of sensitivity and specificity (Youden)";
  if (name === "f1") return "the best balance of missed and false labels (largest F1)";
  return `a ${name} of ${Math.round(100 * value)} %`;
}

// ------------------------------------------------------------------ probabilities

export function show_labels(answer, about, all = false) {
  const rule = at("rule").value;
  const has_sets = answer.alpha !== null;
  const headings = [["Label", ""], ["Probability", "in brackets its 95 % interval"], ["From 0 to 100 %", "band: interval; mark: threshold", true]];
  if (has_sets) headings.push(["May apply", "set that contains most true labels"]);
  if (rule) {
    headings.push(["Yes or no", "yes from the threshold on"], ["Threshold", ""]);
    headings.push(["Sensitivity", "share of true labels that get a yes"], ["Specificity", "share of the others that get a no"]);
  }

  const groups = Object.entries(about.groups);
  const rows = [];
  let is_complete = true;
  groups.forEach(([group, meanings], position) => {
    const names = ranked(Object.keys(meanings), answer.probabilities);
    const most = all ? names.length : position ? FIRST_OF_OTHER_GROUPS : FIRST_LABELS;
    is_complete = is_complete && names.length <= most;
    if (groups.length > 1) rows.push({ group: capitalized(group) });
    for (const name of names.slice(0, most)) rows.push(label_row(answer, about, name, meanings[name], rule, has_sets));
  });
  fill_table(at("statements"), headings, rows);
  at("all").hidden = is_complete;
  at("all").textContent = `Show all ${Object.keys(answer.probabilities).length} labels`;
  show_label_note(answer, has_sets);
}

function label_row(answer, about, name, meaning, rule, has_sets) {
  const p = answer.probabilities[name];
  const interval = answer.intervals[name];
  const point = rule ? about.points[name]?.[rule] : undefined;
  const has_threshold = point !== undefined && point.threshold !== null;
  const is_positive = Boolean(rule) && answer.positive[rule].includes(name);
  // Where both would be printed alike, more digits say why the answer is "no".
  const is_close = has_threshold && !is_positive && percent(p) === percent(point.threshold);
  const printed = is_close ? percent_apart_from(p, point.threshold) : percent;
  const cells = [
    in_words(name, meaning),
    printed(p) + (interval ? ` (${percent_range(interval)})` : ""),
    bar(p, interval, has_threshold ? point.threshold : null),
  ];
  if (has_sets) cells.push(answer.set.includes(name) ? "yes" : "no");
  if (rule && has_threshold) {
    cells.push(is_positive ? "yes" : "no", printed(point.threshold), percent(point.sensitivity), percent(point.specificity));
  } else if (rule) {
    cells.push("", "none", "", "");
  }
  return { cells, kind: is_positive ? "positive" : "" };
}

function show_label_note(answer, has_sets) {
  const sentences = [];
  if (has_sets) {
    const share = Math.round(answer.alpha * 100);
    sentences.push(`May apply: in each group, these labels together miss at most ${share} % of the true labels, as a mean over records like those of the calibration.`);
  }
  if (answer.familiar !== null) {
    sentences.push(`${percent(answer.familiar)} of the calibration records are as unlike the training data as this record.`);
  }
  at("set-note").textContent = sentences.join(" ");
}

/** A function that prints probabilities in percent, with as many digits as two of them need to differ. */
function percent_apart_from(p, other) {
  const digits = [1, 2, 3].find((count) => (100 * p).toFixed(count) !== (100 * other).toFixed(count)) ?? 3;
  return (value) => `${(100 * value).toFixed(digits)} %`;
}

/** Probability as a line from 0 to 1, its interval as a band, the threshold as a mark. The cell before has the number. */
function bar(p, interval, threshold) {
  const box = svg_element("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true", class: "bar" });
  box.append(svg_element("rect", { x: 0, y: 4.5, width: 100, height: 1, class: "axis" }));
  if (interval) {
    const width = Math.max((interval[1] - interval[0]) * 100, 0.5);
    box.append(svg_element("rect", { x: interval[0] * 100, y: 1.5, width, height: 7, class: "band" }));
  }
  box.append(svg_element("rect", { x: 0, y: 4, width: p * 100, height: 2, class: "value" }));
  if (threshold !== null && threshold <= 1) {
    box.append(svg_element("rect", { x: Math.min(threshold * 100, 99), y: 0, width: 1, height: 10, class: "threshold" }));
  }
  return box;
}

// ------------------------------------------------------------------ measurements and findings

export function show_measurements(found) {
  const named = [["Heart rate", found.heart_rate], ["Variation of RR (SDNN)", found.rr_sdnn],
    ["Variation from beat to beat (RMSSD)", found.rr_rmssd], ["PR interval", found.pr], ["QRS duration", found.qrs],
    ["QT interval", found.qt], ["QTc, Fridericia", found.qtc_fridericia], ["QTc, Bazett", found.qtc_bazett],
    ["Axis of P", found.axes.p], ["Axis of QRS", found.axes.qrs], ["Axis of T", found.axes.t]];
  const rows = named.map(([name, measurement]) => ({ cells: measurement_cells(name, measurement, 0) }));
  for (const [lead, measurement] of Object.entries(found.st)) {
    rows.push({ cells: measurement_cells(`ST level of ${lead}`, measurement, 2) });
  }
  const headings = [["Measurement", ""], ["Value", "median over the beats"], ["Spread", "between the beats"], ["Remark", ""]];
  fill_table(at("measurements"), headings, rows);
  at("measurement-notes").textContent = ["ST level: 60 ms after the J point", ...found.notes].map((note) => `${capitalized(note)}.`).join(" ");
}

function measurement_cells(name, measurement, digits) {
  if (measurement.value === null) return [name, "–", "", measurement.reason];
  const unit = measurement.unit === "1/min" ? "per minute" : measurement.unit;
  const spread = measurement.spread === null ? "" : `± ${measurement.spread.toFixed(digits)} ${unit}`;
  return [name, `${rounded(measurement.value, digits)} ${unit}`, spread, (measurement.notes ?? []).join("; ")];
}

export function show_findings(findings) {
  if (!findings.length) {
    at("findings").replaceChildren(element("tbody", element("tr", element("td", "None found."))));
    return;
  }
  const headings = [["Fault", ""], ["Weight", ""], ["Leads", ""], ["Measured", ""]];
  fill_table(at("findings"), headings, findings.map((finding) => ({
    cells: [finding.means, SEVERITIES[finding.severity], finding.leads.join(" "), finding.evidence],
    kind: finding.severity,
  })));
}

/** The share of each lead in the explanation of one label. */
export function show_shares(answer, about) {
  const explained = answer.explained;
  at("saliency").hidden = !explained;
  at("colour-note").textContent = "";
  if (!explained) return;
  const words = in_words(explained.label, meaning_of(explained.label, about));
  at("label").textContent = words;
  at("colour-note").textContent = `Blue: these samples raise the probability of ${words}. Orange: they lower it.`;
  const cautions = explained.cautions.map((caution) => `Caution: ${caution}.`);
  at("share-note").textContent = ["Share of each lead in the integrated gradients of the log-odds, for and against, on this page. "
    + "It shows what the prediction of the network depends on. It does not show a cause.", ...cautions].join(" ");
  const largest = Math.max(...Object.values(explained.by_lead), 1e-9);
  at("shares").replaceChildren(...Object.entries(explained.by_lead).map(([lead, share]) => {
    const box = svg_element("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true", class: "bar" });
    box.append(svg_element("rect", { x: 0, y: 2, width: 100 * share / largest, height: 6, class: "value" }));
    return element("div", [element("span", lead), box, element("span", `${Math.round(share * 100)} %`)]);
  }));
}

export function meaning_of(name, about) {
  return Object.values(about.groups).map((meanings) => meanings[name]).find((meaning) => meaning) ?? "";
}

// ------------------------------------------------------------------ the model

export function show_about(about) {
  at("limits").textContent = `At most ${about.limits.megabytes} MB and ${about.limits.seconds} s for a record.`;
  const lines = Object.entries(about.groups).map(([group, meanings]) => [
    `Answers: ${group}`, Object.entries(meanings).map(([name, meaning]) => in_words(name, meaning)).join(", "),
  ]);
  lines.push(["Reads", `${about.reads.leads.join(" ")}, ${about.reads.seconds} s at ${about.reads.fs} Hz`]);
  for (const model of about.models) {
    const fitted = model.fitted_on ? `, fitted on ${model.fitted_on}` : "";
    lines.push(["Trained on", model.trained_on], ["Calibration", `${model.calibration}${fitted}`]);
    const metrics = model.metrics ?? {};
    const low = metrics.macro_auroc_low;
    const interval = low === undefined ? "" : ` (95 % interval ${low.toFixed(3)} to ${metrics.macro_auroc_high.toFixed(3)})`;
    if (metrics.macro_auroc) lines.push(["Macro AUROC", `${metrics.macro_auroc.toFixed(3)}${interval}, on records of that kind`]);
    lines.push(["SHA-256", model.sha256]);
  }
  if (about.attribution) lines.push(["Attribution", about.attribution]);
  at("about").replaceChildren(...lines.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
  const rules = [...new Set(Object.values(about.points).flatMap((points) => Object.keys(points)))];
  at("rule").replaceChildren(...rules.map((rule) => element("option", rule_in_words(rule), { value: rule })));
  if (rules.includes("f1")) at("rule").value = "f1";
  at("rules").hidden = !rules.length;
}
