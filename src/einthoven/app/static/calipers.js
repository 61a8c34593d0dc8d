/** Calipers: two marks on the ECG paper, and the time and the voltage between them. */

import { at, svg_element } from "/dom.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FINE = 0.25; // mm: 10 ms at 25 mm/s
const COARSE = 5;

export class Calipers {
  constructor() {
    this.is_on = false;
    at("calipers").addEventListener("click", () => this.switch(!this.is_on));
  }

  switch(is_on) {
    this.is_on = is_on;
    at("calipers").setAttribute("aria-pressed", is_on);
    this.show();
    if (is_on) this.handles[0].focus();
  }

  /** Lay the marks over a new paper. */
  lay_over(drawn, box) {
    this.drawn = drawn;
    this.box = box;
    this.marks = [{ x: 70, y: drawn.height / 2 }, { x: 95, y: drawn.height / 2 - 10 }];
    this.show();
  }

  show() {
    this.layer?.remove();
    at("reading-of-calipers").textContent = "";
    if (!this.is_on || !this.drawn) return;
    this.layer = svg_element("svg", { viewBox: this.drawn.box, class: "calipers" });
    this.lines = svg_element("path", { class: "caliper-lines" });
    this.handles = this.marks.map((mark, k) => this.handle(mark, k));
    this.layer.append(this.lines, ...this.handles);
    this.layer.addEventListener("pointerdown", (event) => this.start_drag(event));
    this.layer.addEventListener("pointermove", (event) => this.drag(event));
    this.layer.addEventListener("pointerup", () => { this.dragged = null; });
    this.box.append(this.layer);
    this.update();
  }

  handle(mark, k) {
    const label = `Mark ${k + 1} of the calipers. Move it with the arrow keys, in large steps with Shift.`;
    const handle = svg_element("circle", { r: 1.6, class: "handle", tabindex: 0, role: "button", "aria-label": label });
    handle.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        this.switch(false);
        at("calipers").focus();
        return;
      }
      const step = STEPS[event.key];
      if (!step) return;
      event.preventDefault();
      const size = event.shiftKey ? COARSE : FINE;
      this.move(mark, mark.x + size * step[0], mark.y + size * step[1]);
    });
    return handle;
  }

  /** Take the mark under the pointer, or start a new measurement where the pointer is. */
  start_drag(event) {
    const point = this.point_of(event);
    const k = this.handles.indexOf(event.target);
    if (k < 0) this.move(this.marks[0], point.x, point.y);
    this.dragged = this.marks[k < 0 ? 1 : k];
    this.move(this.dragged, point.x, point.y);
    this.layer.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  drag(event) {
    if (!this.dragged) return;
    const point = this.point_of(event);
    this.move(this.dragged, point.x, point.y);
  }

  point_of(event) {
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(this.layer.getScreenCTM().inverse());
  }

  move(mark, x, y) {
    mark.x = Math.max(0, Math.min(this.drawn.width - 1, x));
    mark.y = Math.max(0, Math.min(this.drawn.height - 1, y));
    this.update();
  }

  update() {
    const { width, height, speed, gain } = this.drawn;
    this.lines.setAttribute("d", this.marks.map(({ x, y }) => `M${x} 0V${height}M0 ${y}H${width}`).join(""));
    this.handles.forEach((handle, k) => {
      handle.setAttribute("cx", this.marks[k].x);
      handle.setAttribute("cy", this.marks[k].y);
    });
    const seconds = Math.abs(this.marks[1].x - this.marks[0].x) / speed;
    const millivolts = Math.abs(this.marks[1].y - this.marks[0].y) / gain;
    const rate = seconds >= 0.1 ? `, ${Math.round(60 / seconds)} per minute` : "";
    at("reading-of-calipers").textContent =
      `Between the marks: ${Math.round(1000 * seconds)} ms${rate}, ${millivolts.toFixed(2)} mV`;
  }
}
