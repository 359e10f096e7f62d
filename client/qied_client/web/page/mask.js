// The mask: painted over the picture where it may change. Strokes are kept, so that each can be undone.
const INK = "#ff2d87";  // shows on nearly every picture
const KEPT = 40;  // pictures whose strokes are kept
const MOST_SIDE = 2048;  // pixels of what is painted on; the file has the picture's own size

export class Mask {
  /** @param {HTMLCanvasElement} canvas to paint on @param {HTMLElement} ring shows where and how large the brush is */
  constructor(canvas, ring) {
    this.canvas = canvas;
    this.ring = ring;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.size = 48;     // pixels of the screen
    this.feather = 0;   // pixels of the picture
    this.erasing = false;
    this.boxes = false; // a drag frames a box, in place of a stroke
    this.picture = null;
    this.kept = new Map();  // strokes by the picture's id, for one that is come back to
    this.steps = [];
    this.version = 0;   // counts what was painted, and taken back
    this.painted = () => {};
    this.stroke = null;
    this.pen = null;    // where the brush is, in pixels of the canvas
    canvas.addEventListener("pointerdown", (event) => { event.preventDefault(); canvas.focus(); canvas.setPointerCapture(event.pointerId); this.#begin(this.#place(event)); });
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#end());
    canvas.addEventListener("pointerleave", () => { ring.hidden = true; });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("keyup", (event) => { if (event.key === " ") this.#end(); });
    canvas.addEventListener("blur", () => { this.#end(); ring.hidden = true; });
  }

  /** Paint on another picture; what was painted on it before is there again. */
  of(picture) {
    if (picture === this.picture) return;
    this.picture = picture;
    this.steps = this.kept.get(picture.id) ?? [];
    this.#remember();
    const scale = Math.min(1, MOST_SIDE / Math.max(picture.width, picture.height));
    this.canvas.width = Math.round(picture.width * scale);
    this.canvas.height = Math.round(picture.height * scale);
    this.pen = null;
    this.#draw();
  }

  // Whether something was painted, and not cleared, though it may mark nothing.
  get meant() { return this.steps.length > 0 && this.steps.at(-1).kind !== "clear"; }

  undo() { if (this.steps.pop()) this.#changed(); }
  clear() { if (this.steps.length) { this.steps.push({ kind: "clear" }); this.#changed(); } }
  invert() { this.steps.push({ kind: "invert" }); this.#changed(); }

  /** @returns {Record<string, object[]>} the strokes by the pictures' ids, those painted on last coming last */
  all() { return Object.fromEntries([...this.kept].filter(([, steps]) => steps.length)); }

  /** Have strokes again that ``all`` told. */
  bring(all) {
    this.kept = new Map(Object.entries(all));
    if (!this.picture) return;
    const { picture } = this;
    this.picture = null;
    this.of(picture);
  }

  /** The picture has another id from now on. */
  rename(picture, id) {
    const steps = this.kept.get(picture.id);
    this.kept.delete(picture.id);
    if (steps) this.kept.set(id, steps);
    picture.id = id;
  }

  whenPainted(act) { this.painted = act; }

  resize(size) { this.size = size; this.#showRing(); }

  // What is painted is shown as soft as it will be.
  soften(pixels) { this.feather = pixels; this.#soften(); }

  /** @returns {Promise<Blob | null>} a PNG, white where to edit; null where nothing is painted */
  async file() {
    if (!this.steps.length || this.#empty()) return null;
    const { width, height } = this.picture;
    const flat = new OffscreenCanvas(width, height);
    const context = flat.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    // A shadow of what is painted, out of sight itself: it is white and soft, also where canvases have no filters.
    context.shadowColor = "#fff";
    context.shadowBlur = 2 * this.feather;
    context.shadowOffsetX = 2 * width;
    context.drawImage(this.canvas, -2 * width, 0, width, height);
    return flat.convertToBlob({ type: "image/png" });
  }

  #empty() {
    const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    for (let index = 3; index < data.length; index += 4) if (data[index] > 127) return false;
    return true;
  }

  get #scale() { return this.canvas.width / Math.max(1, this.canvas.getBoundingClientRect().width); }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * this.#scale, (event.clientY - box.top) * this.#scale];
  }

  #begin(place) {
    this.pen = place;
    this.stroke = { kind: this.erasing ? "erase" : "paint", width: this.size * this.#scale, points: [place], ...(this.boxes && { box: true }) };
    this.steps.push(this.stroke);
    this.#paint(this.stroke);
  }

  #move(event) {
    this.pen = this.#place(event);
    if (event.pointerType !== "touch") this.#showRing();
    if (!this.stroke) return;
    this.#drawTo(...(event.getCoalescedEvents?.() ?? [event]).map((each) => this.#place(each)));
  }

  // A box has two corners, of which the second one moves.
  #drawTo(...places) {
    if (!this.stroke.box) { this.stroke.points.push(...places); return this.#paint(this.stroke); }
    this.stroke.points = [this.stroke.points[0], places.at(-1)];
    this.#draw();
  }

  #end() {
    if (!this.stroke) return;
    this.stroke = null;
    this.#changed();  // its edge is that of one stroke, and not of as many as there were moves
  }

  #changed() { this.#draw(); this.#tell(); }

  #tell() { this.version += 1; this.painted(); }

  #remember() {
    this.kept.delete(this.picture.id);
    this.kept.set(this.picture.id, this.steps);
    for (const id of this.kept.keys()) if (this.kept.size > KEPT) this.kept.delete(id);
  }

  #key(event) {
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key !== " " && !x && !y) return;
    event.preventDefault();
    this.pen ??= [this.canvas.width / 2, this.canvas.height / 2];
    if (event.key === " ") { if (!event.repeat) this.#begin(this.pen); } else {
      const step = (event.shiftKey ? 1 : 0.25) * this.size * this.#scale;
      this.pen = [Math.min(this.canvas.width, Math.max(0, this.pen[0] + x * step)), Math.min(this.canvas.height, Math.max(0, this.pen[1] + y * step))];
      if (this.stroke) this.#drawTo(this.pen);
    }
    this.#showRing();
  }

  #showRing() {
    if (!this.pen) return;
    this.ring.hidden = this.boxes;
    this.ring.style.width = this.ring.style.height = `${this.size}px`;
    this.ring.style.left = `${this.pen[0] / this.#scale}px`;
    this.ring.style.top = `${this.pen[1] / this.#scale}px`;
  }

  #soften() {
    const shown = this.picture ? (this.feather * this.canvas.getBoundingClientRect().width) / this.picture.width : 0;
    this.canvas.style.filter = shown ? `blur(${shown}px)` : "none";
  }

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
      } else this.#paint(step);
    }
  }

  #paint(step) {
    const context = this.context;
    context.globalCompositeOperation = step.kind === "erase" ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = INK;
    if (step.box) {
      const [[left, top], [right, bottom]] = [step.points[0], step.points.at(-1)];
      context.fillRect(left, top, right - left, bottom - top);
      context.globalCompositeOperation = "source-over";
      return;
    }
    context.lineWidth = step.width;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    const [[x, y]] = step.points;
    if (step.points.every((point) => point[0] === x && point[1] === y)) {  // a line without length is not drawn
      context.arc(x, y, step.width / 2, 0, 2 * Math.PI);
      context.fill();
    } else {
      for (const point of step.points) context.lineTo(...point);
      context.stroke();
    }
    context.globalCompositeOperation = "source-over";
  }
}
