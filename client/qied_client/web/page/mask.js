// The mask: painted over the picture, white where it may change. Strokes are kept, so that each can be undone.
const INK = "#ff2d87";  // shows on nearly every picture

export class Mask {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.size = 48;
    this.feather = 0;
    this.erasing = false;
    this.onChange = () => {};
    this.reset(1, 1);
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#end());
  }

  reset(width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.steps = [];
    this.current = null;
    this.#draw();
  }

  get empty() {
    const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    for (let index = 3; index < data.length; index += 4) if (data[index] > 127) return false;
    return true;
  }

  undo() { this.steps.pop(); this.#draw(); }
  clear() { if (this.steps.length) { this.steps.push({ kind: "clear" }); this.#draw(); } }
  invert() { this.steps.push({ kind: "invert" }); this.#draw(); }

  // A PNG, white on black, feathered; null where nothing is painted.
  async file() {
    if (!this.steps.length || this.empty) return null;
    const flat = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    const context = flat.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, flat.width, flat.height);
    context.filter = this.feather ? `blur(${this.feather}px)` : "none";
    context.drawImage(this.#white(), 0, 0);
    return flat.convertToBlob({ type: "image/png" });
  }

  #white() {
    const white = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    const context = white.getContext("2d");
    context.drawImage(this.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, white.width, white.height);
    return white;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  #begin(event) {
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    const scale = this.canvas.width / this.canvas.getBoundingClientRect().width;
    this.current = { kind: this.erasing ? "erase" : "paint", width: this.size * scale, points: [this.#place(event)] };
    this.steps.push(this.current);
    this.#draw();
  }

  #move(event) {
    if (!this.current) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) this.current.points.push(this.#place(each));
    this.#stroke(this.current);
  }

  #end() { if (this.current) { this.current = null; this.onChange(); } }

  #draw() {
    const { width, height } = this.canvas;
    this.context.clearRect(0, 0, width, height);
    for (const step of this.steps) {
      if (step.kind === "clear") this.context.clearRect(0, 0, width, height);
      else if (step.kind === "invert") {
        this.context.globalCompositeOperation = "source-out";
        this.context.fillStyle = INK;
        this.context.fillRect(0, 0, width, height);
        this.context.globalCompositeOperation = "source-over";
      } else this.#stroke(step);
    }
    this.onChange();
  }

  #stroke(step) {
    const context = this.context;
    context.globalCompositeOperation = step.kind === "erase" ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = INK;
    context.lineWidth = step.width;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...step.points[0]);
    for (const point of step.points) context.lineTo(...point);
    context.stroke();
    context.globalCompositeOperation = "source-over";
  }
}
