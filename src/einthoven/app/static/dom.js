/** Elements, SVG elements and numbers as text. */

const SVG = "http://www.w3.org/2000/svg";
const HIDDEN = { "aria-hidden": "true" };

export const at = (id) => document.getElementById(id);

export function element(name, content = [], attributes = {}) {
  const node = document.createElement(name);
  node.append(...[content].flat());
  set_attributes(node, attributes);
  return node;
}

export function svg_element(name, attributes, title = "") {
  const node = document.createElementNS(SVG, name);
  set_attributes(node, attributes);
  if (title) {
    const title_node = document.createElementNS(SVG, "title");
    title_node.textContent = title;
    node.append(title_node);
  }
  return node;
}

export function svg_text(text, attributes) {
  const node = svg_element("text", attributes);
  node.textContent = text;
  return node;
}

function set_attributes(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
}

/** A number with some digits behind the point, and 0 without a sign. */
export function rounded(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

/** A probability in percent. */
export function percent(p) {
  if (p === null || p === undefined) return "unknown";
  if (p < 0.005) return "below 1 %";
  if (p > 0.995) return "above 99 %";
  return `${Math.round(100 * p)} %`;
}

/** An interval of probabilities in percent. */
export function percent_range([low, high]) {
  const from = percent(low);
  const to = percent(high);
  return from === to ? to : `${from.replace(" %", "")} to ${to}`;
}

/** A duration in words, such as "10 s" or "30 min". */
export function duration(seconds) {
  if (seconds < 120) return `${Number(seconds.toPrecision(4))} s`;
  const whole = Math.round(seconds);
  const parts = [[Math.floor(whole / 3600), "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  return parts.filter(([count]) => count > 0).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

/** A time in a recording, such as "0:20" or "12:05.5" (minutes and seconds). */
export function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  const rest = (tenths % 600) / 10;
  return `${Math.floor(tenths / 600)}:${rest < 10 ? "0" : ""}${rest}`;
}

/** A text with a capital letter at its beginning. */
export function capitalized(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The name of a label in words with its code in brackets, such as "Myocardial infarction (MI)". */
export function in_words(name, meaning) {
  if (!meaning) return name;
  return `${capitalized(meaning)} (${name})`;
}

/**
 * Fill a table. A heading is [words, explanation, is_picture]. On a narrow screen, the words stand before each cell. A
 * screen reader leaves out a column of pictures: another column has their numbers.
 */
export function fill_table(table, headings, rows) {
  const head = headings.map(([words, explanation, is_picture]) => {
    const content = explanation ? [words, element("small", explanation)] : [words];
    return element("th", content, { scope: "col", role: "columnheader", ...(is_picture ? HIDDEN : {}) });
  });
  const body = rows.map(({ cells, kind = "", group = "" }) => {
    if (group) {
      const cell = element("th", group, { colspan: headings.length, scope: "rowgroup", role: "rowheader", class: "group" });
      return element("tr", cell, { role: "row", class: "group" });
    }
    return element("tr", cells.map((content, k) => cell_of(content, headings[k], k)), { role: "row", class: kind });
  });
  table.replaceChildren(
    element("thead", element("tr", head, { role: "row" }), { role: "rowgroup" }),
    element("tbody", body, { role: "rowgroup" }),
  );
}

function cell_of(content, [heading, , is_picture], column) {
  const is_empty = content === "" || content === null;
  const attributes = { "data-heading": heading, class: is_empty ? "empty" : "", ...(is_picture ? HIDDEN : {}) };
  if (column === 0) return element("th", content ?? "", { ...attributes, scope: "row", role: "rowheader" });
  return element("td", content ?? "", { ...attributes, role: "cell" });
}
