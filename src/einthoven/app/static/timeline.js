/** The probabilities of each window of a long recording. */

import { at, clock, percent, percent_range, svg_element, svg_text } from "/dom.js";
import { PAGE_SECONDS } from "/paper.js";
import { ranked } from "/tables.js";

const MOST_LABELS = 12;
const LABEL_WIDTH = 70;
const LINE_HEIGHT = 18;
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600]; // s between two labels of the axis

/** Draw one line for each label and one cell for each window. A click on a cell calls `open` with its start. */
export function show_timeline(answer, about, open) {
  const windows = answer.windows;
  at("course").hidden = windows.length < 2;
  if (windows.length < 2) return;
  const names = ranked(Object.keys(Object.values(about.groups)[0]), answer.probabilities).slice(0, MOST_LABELS);
  const seconds = answer.seconds;
  const width = Math.max(at("course").clientWidth, windows.length * 4);
  const height = names.length * LINE_HEIGHT + 22;
  const x = (time) => LABEL_WIDTH + (time / seconds) * (width - LABEL_WIDTH);
  const parts = [];
  names.forEach((name, k) => {
    parts.push(svg_text(name, { x: 0, y: k * LINE_HEIGHT + 13, "font-size": 12 }));
    windows.forEach((window, n) => {
      const start = window.start_s;
      const end = n + 1 < windows.length ? windows[n + 1].start_s : seconds;
      const p = window.probabilities[name];
      const cell = svg_element("rect", {
        x: x(start), y: k * LINE_HEIGHT + 1, width: Math.max(x(end) - x(start) - 0.5, 0.5), height: LINE_HEIGHT - 2,
        class: "cell", "fill-opacity": (0.06 + 0.94 * p).toFixed(3),
      }, `${name} ${percent(p)}, from ${clock(start)}`);
      cell.addEventListener("click", () => open(start));
      parts.push(cell);
    });
  });

  // The axis has at most ten labels.
  const step = STEPS.find((candidate) => seconds / candidate <= 10) || seconds / 10;
  for (let time = 0; time <= seconds; time += step) {
    parts.push(svg_text(clock(time), { x: x(time), y: height - 6, "font-size": 11, class: "axis-label" }));
  }

  // A frame around the page that is shown.
  parts.push(svg_element("rect", {
    x: x(answer.start_s), y: 0, width: x(Math.min(PAGE_SECONDS, seconds)) - LABEL_WIDTH, height: names.length * LINE_HEIGHT,
    class: "frame",
  }));
  const box = at("timeline");
  box.setAttribute("viewBox", `0 0 ${width} ${height}`);
  box.setAttribute("width", width);
  box.setAttribute("height", height);
  box.replaceChildren(...parts);
  box.setAttribute("aria-label", `Probabilities of ${windows.length} parts: ${names.map((name) => range_of(name, windows)).join(", ")}`);
  Object.assign(at("start"), { max: Math.max(seconds - PAGE_SECONDS, 0), step: "any", value: answer.start_s });
  show_start(answer.start_s);
}

/** The smallest and the largest probability of a label, in words. */
function range_of(name, windows) {
  const values = windows.map((window) => window.probabilities[name]);
  return `${name} ${percent_range([Math.min(...values), Math.max(...values)])}`;
}

/** Say where the page begins that the slider stands for. */
export function show_start(seconds) {
  at("from").textContent = clock(seconds);
  at("start").setAttribute("aria-valuetext", clock(seconds));
}
