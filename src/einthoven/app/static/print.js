/** The first printed page has the answer and the whole ECG. What is too long for it comes after the ECG. */

import { at } from "/dom.js";

const SHEET = { width: 271, height: 196 }; // mm, inside the margins of print.css
const RESERVE = 2; // mm
const PIXELS_PER_MM = 96 / 25.4; // of CSS
const LEAST_LABELS = 1; // stay above the ECG in any case

// Places of the parts that were moved: [part, the node before which it was].
let moved = [];

/** Move parts from above the ECG to behind it, the least important first, until both fit on one page. */
function make_room() {
  if (at("result").hidden || at("ecg").hidden) return;
  as_printed(() => {
    while (is_too_high()) {
      const part = next_part();
      if (!part) break;
      moved.push([part, part.parentNode, part.nextSibling]);
      place_of(part).prepend(part);
      at("continued-answer").hidden = false;
      at("continued").hidden = false;
    }
  });
}

/** Put all parts back, the last one first. */
function undo() {
  for (const [part, parent, next] of moved.reverse()) parent.insertBefore(part, next);
  moved = [];
  at("continued").hidden = true;
  at("continued-answer").hidden = true;
}

/** Call a function while the page has the styles and the width of the print. */
function as_printed(measure) {
  const sheet = at("print-styles");
  sheet.media = "all";
  document.body.style.width = `${SHEET.width}mm`;
  try {
    measure();
  } finally {
    sheet.media = "print";
    document.body.style.width = "";
  }
}

function is_too_high() {
  const height = at("ecg").getBoundingClientRect().bottom - at("name").getBoundingClientRect().top;
  return height > (SHEET.height - RESERVE) * PIXELS_PER_MM;
}

/** The part that is moved next: from the higher column of the summary, and at last a warning that is not severe. */
function next_part() {
  const labels = [...at("main-labels").children];
  const label = labels.length > LEAST_LABELS ? labels.at(-1) : null;
  const note = at("vitals-note").textContent && !is_moved(at("vitals-note")) ? at("vitals-note") : null;
  const is_answer_higher = at("answer").scrollHeight > at("vital-signs").scrollHeight;
  const warning = at("warning-list").querySelector("li:last-child:not(.warning):not(.error)");
  return (is_answer_higher ? label ?? note : note ?? label) ?? warning;
}

function is_moved(part) {
  return moved.some(([other]) => other === part);
}

/** A list item needs a list. */
function place_of(part) {
  return at(part.tagName === "LI" ? "continued-warnings" : "continued-parts");
}

window.addEventListener("beforeprint", make_room);
window.addEventListener("afterprint", undo);
