// The stage: the picture before, the one after with a slider between them, and the one that forms.
export class Viewer {
  constructor(part) {
    this.part = part;
    this.width = this.height = 1;
    part.split.addEventListener("input", () => this.#cut());
    new ResizeObserver(() => this.#fit()).observe(part.stage);
  }

  // Show one picture, or two to compare. Sources are addresses of blobs.
  show(before, after, size, label) {
    const { part } = this;
    [this.width, this.height] = size;
    part.canvas.hidden = false;
    part.empty.hidden = true;
    part.before.src = before;
    part.after.hidden = !after;
    if (after) part.after.src = after;
    part.tagBefore.hidden = !after;
    part.tagAfter.hidden = !label;
    part.tagAfter.textContent = label ?? "";
    this.formed();
    this.#comparing(Boolean(after));
    this.#fit();
  }

  clear() { this.part.canvas.hidden = true; this.part.empty.hidden = false; }

  compare(on) { this.#comparing(on && !this.part.after.hidden); }

  forming(address) {
    this.part.forming.src = address;
    this.part.forming.hidden = false;
    this.part.split.hidden = this.part.handle.hidden = true;
  }

  formed() { this.part.forming.hidden = true; this.part.forming.removeAttribute("src"); }

  #comparing(on) {
    this.part.split.hidden = this.part.handle.hidden = !on;
    if (!on) this.part.after.style.clipPath = "none";
    else this.#cut();
  }

  #cut() {
    const share = this.part.split.value / 10;
    this.part.after.style.clipPath = `inset(0 0 0 ${share}%)`;
    this.part.handle.style.left = `${share}%`;
  }

  #fit() {
    const style = getComputedStyle(this.part.stage);
    const room = [
      this.part.stage.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight),
      this.part.stage.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom),
    ];
    const scale = Math.min(room[0] / this.width, Math.max(room[1], 240) / this.height);
    this.part.canvas.style.width = `${Math.floor(this.width * scale)}px`;
    this.part.canvas.style.height = `${Math.floor(this.height * scale)}px`;
  }
}
