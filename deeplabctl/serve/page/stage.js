const element = (id) => document.getElementById(id);
const [frame, photo, tint, spot, split, tip] = ["frame", "photo", "tint", "spot", "split", "tip"].map(element);

const MOST_PIXELS = 2e6; // that are painted on the screen, which is not larger

/** Show a photo, its classes over it from the divider on, or one class alone. */
export class Stage {
  #mask = null;
  #small = null; // the mask as it is painted
  #colors = [];
  #names = new Map();
  #clear = -1;

  /** Call `pointed` with the class under the pointer, or null. */
  constructor(pointed) {
    split.addEventListener("input", () => this.#place());
    frame.addEventListener("pointerdown", (event) => {
      if (!this.#mask || event.button) return;
      event.preventDefault(); // the focus goes to the slider, not elsewhere
      frame.setPointerCapture(event.pointerId);
      split.focus({ preventScroll: true });
      this.#drag(event);
    });
    frame.addEventListener("pointermove", (event) => {
      if (frame.hasPointerCapture(event.pointerId)) this.#drag(event);
      if (event.pointerType !== "touch") pointed(this.#point(event));
    });
    frame.addEventListener("pointerleave", () => { tip.hidden = true; pointed(null); });
    photo.draggable = false;
  }

  showPhoto({ url, width, height }, name) {
    this.#mask = null;
    photo.src = url;
    photo.alt = `Your photo ${name}`;
    frame.style.setProperty("--w", width);
    frame.style.setProperty("--h", height);
  }

  /** Show a mask {width, height, ids}; `classes` are those of the network. */
  showMask(mask, classes) {
    this.#mask = mask;
    this.#small = thinned(mask);
    this.#colors = classes.map(({ color }) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
    this.#names = new Map(classes.map((entry) => [entry.id, entry]));
    this.#clear = classes[0].name === "background" ? 0 : -1;
    this.#paintClasses(tint, this.#small);
    this.isolate(null);
    this.#place();
  }

  /** Show one class alone, the others under a veil; null shows all. */
  isolate(id) {
    if (!this.#mask) return;
    frame.classList.toggle("alone", id !== null);
    [tint.hidden, spot.hidden] = [id !== null, id === null];
    if (id === null) return;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const veil = dark ? packed(19, 22, 24, 215) : packed(250, 249, 246, 215);
    const border = packed(...this.#colors[id], 255);
    const outline = (one, other) => (one === id || other === id ? border : null);
    paint(spot, this.#small, (one) => (one === id ? 0 : veil), outline);
  }

  setOpacity(share) {
    frame.style.setProperty("--opacity", share);
  }

  /** Return the PNG of the photo with the classes over it, in the photo's own size. */
  async overlay(opacity) {
    const [canvas, classes] = ["canvas", "canvas"].map((name) => document.createElement(name));
    [canvas.width, canvas.height] = [this.#mask.width, this.#mask.height];
    this.#paintClasses(classes, this.#mask);
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // behind transparent parts, as the server has it
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(photo, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = opacity;
    context.drawImage(classes, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  #paintClasses(canvas, mask) {
    const border = packed(255, 255, 255, 235);
    paint(canvas, mask, (id) => (id === this.#clear ? 0 : packed(...this.#colors[id], 255)), () => border);
  }

  #place() {
    frame.style.setProperty("--split", `${split.value}%`);
    split.setAttribute("aria-valuetext", `${split.value}% photo, ${100 - split.value}% classes`);
  }

  #drag(event) {
    const { left, width } = frame.getBoundingClientRect();
    split.value = Math.round((100 * (event.clientX - left)) / width);
    this.#place();
  }

  /** Name the class under the pointer; returns its id, or null over the photo's own part. */
  #point(event) {
    const { left, top, width, height } = frame.getBoundingClientRect();
    const [x, y] = [(event.clientX - left) / width, (event.clientY - top) / height];
    const shown = frame.classList.contains("alone") ? 0 : split.value / 100; // from here on
    const inside = this.#mask && x >= shown && x < 1 && y >= 0 && y < 1 && !frame.hasPointerCapture(event.pointerId);
    tip.hidden = !inside;
    if (!inside) return null;
    const { ids, width: columns, height: rows } = this.#mask;
    const id = ids[Math.floor(y * rows) * columns + Math.floor(x * columns)];
    tip.textContent = this.#names.get(id).name;
    tip.style.setProperty("--color", this.#names.get(id).color);
    tip.style.left = `${Math.min(Math.max(100 * x, 8), 92)}%`;
    tip.style.top = `${Math.max(100 * y, 12)}%`;
    return id;
  }
}

/** Return a mask for the screen, of a large one every second, third, ... pixel. */
function thinned({ width, height, ids }) {
  const step = Math.ceil(Math.sqrt(ids.length / MOST_PIXELS));
  const small = { width: Math.ceil(width / step), height: Math.ceil(height / step) };
  small.ids = new Uint8Array(small.width * small.height);
  for (let y = 0, at = 0; y < height; y += step) {
    for (let x = 0; x < width; x += step) small.ids[at++] = ids[y * width + x];
  }
  return small;
}

/** Paint each pixel of a canvas by its class, and where two classes meet by `border`, unless that returns null. */
function paint(canvas, { width, height, ids }, fill, border) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colors = new Array(256);
  for (let at = 0, x = 0; at < ids.length; at++, x = x + 1 === width ? 0 : x + 1) {
    const id = ids[at];
    let other = x + 1 < width ? ids[at + 1] : id;
    if (other === id && at + width < ids.length) other = ids[at + width];
    const edge = other === id ? null : border(id, other);
    pixels[at] = edge ?? (colors[id] ??= fill(id));
  }
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Return a color as a canvas has it in memory. */
function packed(red, green, blue, alpha) {
  return new Uint32Array(new Uint8Array([red, green, blue, alpha]).buffer)[0];
}
