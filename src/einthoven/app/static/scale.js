/** The size of the paper on the screen. It is true to scale only if the user has measured the screen. */

import { at } from "/dom.js";

const KEY = "einthoven.device-pixels-per-mm";
const CARD = { long: 85.6, short: 53.98 }; // mm, of ISO/IEC 7810 ID-1
const CSS_PIXELS_PER_MM = 96 / 25.4; // what CSS assumes, which is true in print and seldom on a screen
const ZOOMS = [1, 1.5, 2, 3, 4, 6];

let kept = null; // device pixels of a millimetre, where the browser stores nothing

/** CSS pixels of a millimetre of this screen, or null if the user has not measured it. */
export function pixels_per_mm() {
  const stored = kept ?? Number(stored_text());
  return stored > 0 ? stored / window.devicePixelRatio : null;
}

function stored_text() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    // The user does not let this page store anything.
    return null;
  }
}

/** Store the device pixels of a millimetre, or forget them (null). Where nothing can be stored, the page keeps them. */
function remember(value) {
  kept = null;
  try {
    if (value === null) {
      localStorage.removeItem(KEY);
    } else {
      localStorage.setItem(KEY, value);
    }
  } catch {
    kept = value;
  }
}

export class Scale {
  constructor() {
    this.zoom = null; // null until there is a paper
    this.is_true = false;
    at("smaller").addEventListener("click", () => this.step(-1));
    at("larger").addEventListener("click", () => this.step(1));
    at("fit").addEventListener("click", () => this.set({ zoom: 1, is_true: false }));
    at("true-size").addEventListener("click", () => this.ask_for_true_size());
    at("card-length").addEventListener("input", show_card);
    at("ruler").addEventListener("close", () => this.end_of_ruler());
    window.addEventListener("resize", () => this.apply());
  }

  set(size) {
    Object.assign(this, size);
    this.apply();
  }

  step(direction) {
    const place = this.is_true ? 0 : ZOOMS.indexOf(this.zoom);
    this.set({ zoom: ZOOMS[Math.max(0, Math.min(ZOOMS.length - 1, place + direction))], is_true: false });
  }

  /** Set the size of the paper, which is `drawn` by `draw_paper`. */
  apply(drawn = this.drawn) {
    if (!drawn) return;
    this.drawn = drawn;
    const room = at("paper").clientWidth;
    // On a telephone, a whole row would be too small to read.
    this.zoom ??= room < 600 ? 2 : 1;
    const unit = pixels_per_mm();
    this.is_true = this.is_true && unit !== null;
    this.pixels = this.is_true ? drawn.width * unit : room * this.zoom;
    at("paper").style.setProperty("--width", `${this.pixels}px`);
    at("paper").style.setProperty("--width-mm", drawn.width);
    at("paper").style.setProperty("--height-mm", drawn.height);
    at("caption").textContent = this.caption();
  }

  /** What is true of the scale on this screen. */
  caption() {
    const { speed, gain, width, outside } = this.drawn;
    const sentences = [`A large square is ${5 / speed} s wide and ${5 / gain} mV high.`];
    const unit = pixels_per_mm();
    if (unit === null) {
      sentences.push('The size on this screen is not known: "True size" measures it.');
    } else {
      const part = this.pixels / (width * unit);
      sentences.push(`On this screen: ${number(speed * part)} mm/s, ${number(gain * part)} mm/mV.`);
    }
    if (outside.length) sentences.push(`Leaves the paper: ${outside.join(", ")}.`);
    return sentences.join(" ");
  }

  ask_for_true_size() {
    if (pixels_per_mm() !== null && !this.is_true) {
      this.set({ is_true: true });
      return;
    }
    const side = card_side();
    const shown = (pixels_per_mm() ?? CSS_PIXELS_PER_MM) * side.mm;
    Object.assign(at("card-length"), { min: side.mm, max: Math.max(window.innerWidth - 60, 2 * side.mm), value: shown });
    at("card-side").textContent = side.words;
    at("forget").hidden = pixels_per_mm() === null;
    show_card();
    at("ruler").showModal();
  }

  end_of_ruler() {
    const choice = at("ruler").returnValue;
    at("ruler").returnValue = "";
    if (choice === "save") {
      const length = Number(at("card-length").value);
      remember(length * window.devicePixelRatio / card_side().mm);
      this.set({ is_true: true });
    } else if (choice === "forget") {
      remember(null);
      this.set({ is_true: false });
    }
    at("true-size").focus();
  }
}

/** The long side of a card, or the short one on a screen that is too narrow. */
function card_side() {
  if (window.innerWidth < 500) return { mm: CARD.short, words: "the short side (54 mm)" };
  return { mm: CARD.long, words: "the long side (85.6 mm)" };
}

function show_card() {
  at("card").style.width = `${at("card-length").value}px`;
}

/** A number with at most one digit behind the point. */
function number(value) {
  return String(Number(value.toFixed(1)));
}
