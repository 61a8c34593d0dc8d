/** ECG paper as an SVG. Its unit is one millimetre of paper, so that a large square is 5 units wide. */

import { svg_element, svg_text } from "/dom.js";

const EDGE = 0.5; // around the grid, so that its outermost lines are whole
const MARGIN = 5;
const LEAD_IN = 15; // with the calibration pulse
const TRACE_WIDTH = 250; // 10 s at 25 mm/s
export const PAGE_SECONDS = 10;
const COLOUR_LEVELS = 6; // steps of the opacity
const COLOUR_HEIGHT = 12; // above and below the baseline
const STRIPS = 4; // with up to this many leads, each lead has a row
const ROWS_3X4 = [["I", "aVR", "V1", "V4"], ["II", "aVL", "V2", "V5"], ["III", "aVF", "V3", "V6"]];
const ROWS_6X2 = [["I", "V1"], ["II", "V2"], ["III", "V3"], ["aVR", "V4"], ["aVL", "V5"], ["aVF", "V6"]];

/** The views that a record can have: [value, words]. */
export function views_of(leads) {
  const views = leads.length <= STRIPS ? [["all", "all leads"]] : [["all", "all and a rhythm strip"], ["6x2", "all, 5 s of each"]];
  return [...views, ...leads.map((lead) => [lead, `lead ${lead} alone`])];
}

/** Speed in mm/s, height of 1 mV in mm, and the rows of a view. A piece of a row is {lead, start, seconds}. */
function layout_of(view, leads, gain) {
  if (view === "all" && leads.length <= STRIPS) {
    return { speed: 25, gain, row_height: 30, rows: leads.map((lead) => columns_of([lead])) };
  }
  if (view === "all") {
    const rhythm = leads.includes("II") ? "II" : leads[0];
    return { speed: 25, gain, row_height: 30, rows: [...ROWS_3X4, [rhythm]].map(columns_of) };
  }
  if (view === "6x2") return { speed: 25, gain, row_height: 20, rows: ROWS_6X2.map(columns_of) };
  const rows = [[{ lead: view, start: 0, seconds: 5 }], [{ lead: view, start: 5, seconds: 5 }]];
  return { speed: 50, gain, row_height: 60, rows, is_single: true };
}

/** The columns of a row follow one another in time. */
function columns_of(row) {
  const seconds = PAGE_SECONDS / row.length;
  return row.map((lead, column) => ({ lead, start: column * seconds, seconds }));
}

/**
 * Draw ten seconds of a record.
 *
 * `signal` has `fs`, `leads` and `microvolts` (one list for each lead, null where there is no value). `colour` has `fs`
 * and `levels` (lead -> -100 to 100), or is null.
 *
 * Returns {svg, width, height, box, speed, gain, outside}: sizes in mm, and the leads that leave the paper.
 */
export function draw_paper(signal, colour, view, gain, title) {
  const layout = layout_of(view, signal.leads, gain);
  const width = MARGIN + LEAD_IN + TRACE_WIDTH;
  const height = Math.ceil((2 * MARGIN + layout.rows.length * layout.row_height) / 5) * 5;
  const svg = svg_element("svg", { viewBox: box_of(width, height), role: "img", "aria-label": title, class: "ecg" });
  const sheet = { x: -EDGE, y: -EDGE, width: width + 2 * EDGE, height: height + 2 * EDGE };
  svg.append(svg_element("rect", { ...sheet, class: "sheet" }));
  svg.append(svg_element("path", { d: grid_path(width, height, 1), class: "minor" }));
  svg.append(svg_element("path", { d: grid_path(width, height, 5), class: "major" }));

  const outside = new Set();
  layout.rows.forEach((pieces, row) => {
    const baseline = MARGIN + (row + 0.5) * layout.row_height;
    svg.append(svg_element("path", { d: pulse_path(layout, baseline), class: "trace" }));
    let x = MARGIN + LEAD_IN;
    for (const piece of pieces) {
      draw_piece(svg, signal, colour, piece, { ...layout, x, baseline, height }, outside);
      x += piece.seconds * layout.speed;
    }
  });
  const box = box_of(width, height);
  return { svg, width: width + 2 * EDGE, height: height + 2 * EDGE, box, speed: layout.speed, gain: layout.gain, outside: [...outside] };
}

function box_of(width, height) {
  return `${-EDGE} ${-EDGE} ${width + 2 * EDGE} ${height + 2 * EDGE}`;
}

function draw_piece(svg, signal, colour, piece, place, outside) {
  const row = signal.leads.indexOf(piece.lead);
  if (row < 0) return;
  const values = signal.microvolts[row];
  // In a short record the columns cannot follow one another: each shows the beginning.
  const is_short = values.length < Math.floor(PAGE_SECONDS * signal.fs);
  const start = is_short && !place.is_single ? 0 : piece.start;
  if (colour) draw_colour(svg, colour, piece, start, place);
  const { path, leaves } = trace_path(values, signal.fs, start, piece.seconds, place);
  svg.append(svg_element("path", { d: path, class: "trace", "data-lead": piece.lead }));
  if (leaves) outside.add(piece.lead);
  if (piece.start > 0 && !place.is_single) {
    svg.append(svg_element("path", { d: `M${place.x} ${place.baseline - 3}v6`, class: "trace" }));
  }
  const top = place.baseline - Math.min(10.5, place.row_height / 2 - 2);
  svg.append(svg_text(piece.lead, { x: place.x + 1.5, y: top, class: "lead" }));
}

function grid_path(width, height, step) {
  let path = "";
  for (let x = 0; x <= width; x += step) path += `M${x} 0V${height}`;
  for (let y = 0; y <= height; y += step) path += `M0 ${y}H${width}`;
  return path;
}

/** A pulse of 1 mV and 0.2 s. */
function pulse_path(layout, baseline) {
  const width = 0.2 * layout.speed;
  const left = MARGIN + (LEAD_IN - width) / 2;
  return `M${left - 2} ${baseline}H${left}v${-layout.gain}h${width}v${layout.gain}h2`;
}

/** The line through every sample from `start` on. A value that is missing breaks the line. */
function trace_path(values, fs, start, seconds, place) {
  const first = Math.ceil(start * fs - 1e-6);
  const last = Math.min(Math.floor((start + seconds) * fs + 1e-6), values.length - 1);
  let path = "";
  let pen = "M";
  let leaves = false;
  for (let k = first; k <= last; k += 1) {
    if (values[k] === null) {
      pen = "M";
      continue;
    }
    const x = place.x + (k / fs - start) * place.speed;
    const y = place.baseline - values[k] / 1000 * place.gain;
    leaves = leaves || y < 0 || y > place.height;
    const y_near = Math.max(-place.height, Math.min(2 * place.height, y));
    path += `${pen}${x.toFixed(2)} ${y_near.toFixed(2)}`;
    pen = "L";
  }
  return { path, leaves };
}

/** Colour behind a trace: one path for each step of the opacity, for and against. */
function draw_colour(svg, colour, piece, start, place) {
  const levels = colour.levels[piece.lead];
  if (!levels) return;
  const width = place.speed / colour.fs;
  const half = Math.min(COLOUR_HEIGHT, place.row_height / 2);
  const paths = new Map();
  const last = Math.min(Math.round((start + piece.seconds) * colour.fs), levels.length);
  for (let k = Math.round(start * colour.fs); k < last; k += 1) {
    const step = Math.round(levels[k] / 100 * COLOUR_LEVELS);
    if (step === 0) continue;
    const x = place.x + (k / colour.fs - start) * place.speed;
    const rectangle = `M${x.toFixed(2)} ${(place.baseline - half).toFixed(2)}h${width.toFixed(3)}v${2 * half}h${(-width).toFixed(3)}z`;
    paths.set(step, (paths.get(step) ?? "") + rectangle);
  }
  for (const [step, path] of paths) {
    const opacity = 0.65 * Math.abs(step) / COLOUR_LEVELS;
    svg.append(svg_element("path", { d: path, class: step > 0 ? "for" : "against", "fill-opacity": opacity.toFixed(3) }));
  }
}
