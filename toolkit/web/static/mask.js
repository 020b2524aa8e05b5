// A mask: one byte a pixel, 255 where it is painted. Strokes have hard edges, so no pixel is half of it.

const MOST_UNDO = 60;

export class Mask {
  constructor(width, height) {
    Object.assign(this, { width, height, data: new Uint8Array(width * height), undone: [], dones: [], version: 0 });
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
    this.before = null;
  }

  get empty() {
    return !this.data.includes(255);
  }

  /** Share of the pixels that are painted. */
  get share() {
    let count = 0;
    for (const value of this.data) count += value;
    return count / 255 / this.data.length;
  }

  /** Begin a change that Undo takes back as one. */
  begin() {
    this.before = this.data.slice();
    this.dirty = null;
  }

  /** End it. */
  commit() {
    if (!this.dirty) return;
    const [x0, y0, x1, y1] = this.dirty;
    const cut = (from) => {
      const piece = new Uint8Array((x1 - x0) * (y1 - y0));
      for (let y = y0; y < y1; y++) piece.set(from.subarray(y * this.width + x0, y * this.width + x1), (y - y0) * (x1 - x0));
      return piece;
    };
    this.dones.push({ at: this.dirty, before: cut(this.before), after: cut(this.data) });
    this.dones.splice(0, Math.max(0, this.dones.length - MOST_UNDO));
    this.undone = [];
    this.before = this.dirty = null;
  }

  undo() {
    this.move(this.dones, this.undone, "before");
  }

  redo() {
    this.move(this.undone, this.dones, "after");
  }

  move(from, to, which) {
    const step = from.pop();
    if (!step) return;
    const [x0, y0, x1, y1] = step.at;
    for (let y = y0; y < y1; y++) {
      this.data.set(step[which].subarray((y - y0) * (x1 - x0), (y - y0 + 1) * (x1 - x0)), y * this.width + x0);
    }
    to.push(step);
    this.draw(x0, y0, x1, y1);
  }

  /** A disc that is moved from one point to another. */
  stroke(x0, y0, x1, y1, radius, value) {
    const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / Math.max(radius / 3, 0.5)));
    for (let i = 0; i <= steps; i++) this.disc(x0 + ((x1 - x0) * i) / steps, y0 + ((y1 - y0) * i) / steps, radius, value);
    const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)];
    const [top, bottom] = [Math.min(y0, y1), Math.max(y0, y1)];
    this.changed(left - radius - 1, top - radius - 1, right + radius + 2, bottom + radius + 2);
  }

  disc(x, y, radius, value) {
    for (let row = Math.max(0, Math.floor(y - radius)); row <= Math.min(this.height - 1, Math.ceil(y + radius)); row++) {
      const away = row + 0.5 - y;
      const half = Math.sqrt(Math.max(0, radius * radius - away * away));
      const first = Math.max(0, Math.round(x - half));
      const last = Math.min(this.width, Math.round(x + half));
      if (last > first && Math.abs(away) <= radius) this.data.fill(value, row * this.width + first, row * this.width + last);
    }
  }

  box(x0, y0, x1, y1, value) {
    const clip = (number, most) => Math.min(Math.max(Math.round(number), 0), most);
    const [left, right] = [clip(Math.min(x0, x1), this.width), clip(Math.max(x0, x1), this.width)];
    const [top, bottom] = [clip(Math.min(y0, y1), this.height), clip(Math.max(y0, y1), this.height)];
    for (let y = top; y < bottom; y++) this.data.fill(value, y * this.width + left, y * this.width + right);
    this.changed(left, top, right, bottom);
  }

  /** All pixels by a function of their index and value. */
  map(change) {
    this.begin();
    for (let i = 0; i < this.data.length; i++) this.data[i] = change(i, this.data[i]);
    this.changed(0, 0, this.width, this.height);
    this.commit();
  }

  changed(x0, y0, x1, y1) {
    x0 = Math.max(0, Math.floor(x0));
    y0 = Math.max(0, Math.floor(y0));
    x1 = Math.min(this.width, Math.ceil(x1));
    y1 = Math.min(this.height, Math.ceil(y1));
    if (x1 <= x0 || y1 <= y0) return;
    const d = this.dirty;
    this.dirty = d ? [Math.min(d[0], x0), Math.min(d[1], y0), Math.max(d[2], x1), Math.max(d[3], y1)] : [x0, y0, x1, y1];
    this.draw(x0, y0, x1, y1);
  }

  /** Bring part of the canvas up to date: the tint where it is painted, nothing elsewhere. */
  draw(x0, y0, x1, y1) {
    const image = new ImageData(x1 - x0, y1 - y0);
    const words = new Uint32Array(image.data.buffer);
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) words[(y - y0) * (x1 - x0) + x - x0] = this.data[y * this.width + x] ? 0xff4b3cff : 0;
    }
    this.context.putImageData(image, x0, y0);
    this.version += 1;
  }

  /** As a PNG: white where it is painted, black elsewhere. */
  async toBlob() {
    const canvas = new OffscreenCanvas(this.width, this.height);
    const image = new ImageData(this.width, this.height);
    const words = new Uint32Array(image.data.buffer);
    this.data.forEach((value, i) => (words[i] = value ? 0xffffffff : 0xff000000));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }
}
