/** What is shown first: warnings, the answer in words, and the measurements that a doctor looks for. */

import { at, capitalized, duration, element, in_words, percent, percent_range, rounded } from "/dom.js";

const SEVERE = ["warning", "error"];
const NOTE = "Very likely: 90 % or more. Likely: 66 % or more. Possible: 33 % or more. "
  + "The percentage says how many of 100 records with this value have the label.";

/** Show everything that stands above the ECG. `record` is an answer, or a record without one, with `why` and `help`. */
export function show_first(record, about) {
  const is_refused = "why" in record;
  at("name").textContent = record.name;
  show_warnings(record);
  at("refusal").hidden = !is_refused;
  at("refusal").replaceChildren();
  if (is_refused) at("refusal").append(element("strong", "No answer."), ` ${record.why} ${record.help}`.trimEnd());
  at("answer").hidden = is_refused;
  at("answer-notice").textContent = is_refused ? "" : about.notice;
  if (!is_refused) show_main_labels(record, about);
  show_vitals(record);
}

/** One sentence about an answer, for the status. */
export function answer_sentence(record, about) {
  const first = record.main[0];
  const words = in_words(first.name, about.groups[first.group][first.name]);
  const prefix = first.stands_out ? "" : `no label ${record.main_rule}; the most probable one is `;
  return `Answer for ${record.name}: ${prefix}${words}, ${percent(first.probability)}, ${first.likelihood}.`;
}

function show_warnings(record) {
  const findings = record.findings.filter((finding) => finding.severity !== "info");
  // Those that matter most come first.
  findings.sort((a, b) => SEVERE.includes(b.severity) - SEVERE.includes(a.severity));
  const lines = findings.map((finding) => {
    const leads = finding.leads.length ? ` (${finding.leads.join(", ")})` : "";
    const evidence = element("small", `: ${finding.evidence}`);
    return element("li", [capitalized(finding.means) + leads, evidence], { class: finding.severity });
  });
  const cautions = (record.cautions ?? []).map((text) => element("li", capitalized(text), { class: "warning" }));
  at("warnings").hidden = !lines.length && !cautions.length;
  at("warnings").classList.toggle("severe", cautions.length > 0 || findings.some(({ severity }) => SEVERE.includes(severity)));
  at("warning-list").replaceChildren(...cautions, ...lines);
}

/** The labels of the first group stand one below the other, those of each other group in a line. */
function show_main_labels(record, about) {
  const [first_group, ...others] = Object.keys(about.groups);
  const nodes = [];
  const parts = record.windows.length;
  if (!record.main[0].stands_out) nodes.push(element("p", `No label ${record.main_rule}. The most probable one:`));
  for (const label of record.main.filter(({ group }) => group === first_group)) {
    const interval = label.interval ? `, 95 % interval ${percent_range(label.interval)}` : "";
    nodes.push(element("p", [
      element("strong", in_words(label.name, about.groups[label.group][label.name])),
      element("span", unbroken(`${percent(label.probability)}, ${label.likelihood}${interval}`), { class: "sure" }),
    ], { class: "main-label" }));
  }
  for (const group of others) {
    const labels = record.main.filter((label) => label.group === group);
    const texts = labels.map(({ name, probability }) => unbroken(`${in_words(name, about.groups[group][name])} ${percent(probability)}`));
    const words = texts.length ? texts.join("; ") : `none ${record.main_rule}`;
    nodes.push(element("p", [element("strong", `${capitalized(group)}: `), unbroken(words)], { class: "other-labels" }));
  }
  if (parts > 1) {
    const words = about.reads.aggregate === "max" ? "the largest" : "the mean";
    nodes.push(element("p", `Each percentage is ${words} of ${parts} parts of the recording. A short episode may not be seen in it: look at the probabilities over the recording.`));
  }
  at("main-labels").replaceChildren(...nodes);
  at("answer-note").textContent = NOTE;
}

/** A text in which no line ends between a number and its percent sign. */
function unbroken(text) {
  return text.replaceAll(" %", "\u00a0%");
}

function show_vitals(record) {
  const found = record.measurements;
  const entries = [];
  if (found) {
    entries.push(vital("Heart rate", found.heart_rate, "per minute"));
    entries.push(vital("PR interval", found.pr, "ms"), vital("QRS duration", found.qrs, "ms"));
    entries.push(vital("QT interval", found.qt, "ms"), vital("QTc (Fridericia)", found.qtc_fridericia, "ms"));
    entries.push(vital("QRS axis", found.axes.qrs, "°"));
  }
  const { age, sex } = record.patient;
  if (age !== null) entries.push(["Age", `${age} years`, ""]);
  if (sex !== null) entries.push(["Sex", sex, ""]);
  entries.push(["Recording", `${duration(record.seconds)} at ${record.fs} Hz`, ""]);
  at("vitals").replaceChildren(...entries.map(([name, value, remark]) => {
    const content = remark ? [value, element("small", remark)] : [value];
    return element("div", [element("dt", name), element("dd", content)]);
  }));
  at("vitals-note").textContent = (found?.notes ?? []).map((note) => `${capitalized(note)}.`).join(" ");
}

function vital(name, measurement, unit) {
  if (measurement.value === null) return [name, "–", measurement.reason];
  const space = unit === "°" ? "" : " ";
  return [name, `${rounded(measurement.value, 0)}${space}${unit}`, (measurement.notes ?? []).join("; ")];
}
