const list = document.getElementById("legend");
const absent = document.getElementById("absent");

/** Show the classes of a photo with their areas; the one that is pointed at, focused or pressed is isolated. */
export class Legend {
  #isolate;
  #pinned = null;
  #shown = undefined;

  /** Call `isolate` with the id of a class, or null for all. */
  constructor(isolate) {
    this.#isolate = isolate;
    list.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#pin(null);
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const buttons = [...list.querySelectorAll("button")];
      buttons[buttons.indexOf(document.activeElement) + step]?.focus();
    });
  }

  show(areas, classes) {
    this.#pinned = null;
    this.#shown = undefined;
    list.replaceChildren(...areas.map((area) => this.#entry(area)));
    const present = new Set(areas.map(({ id }) => id));
    const missing = classes.filter(({ id }) => !present.has(id)).map(({ name }) => name);
    absent.hidden = !missing.length;
    absent.textContent = `Not in this photo: ${missing.join(", ")}`;
  }

  /** Mark the class that is pointed at in the photo. */
  mark(id) {
    for (const button of list.querySelectorAll("button")) {
      button.classList.toggle("active", Number(button.dataset.id) === id);
    }
  }

  #entry({ id, name, color, share }) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.id = id;
    button.setAttribute("aria-pressed", "false");
    const percent = percentage(share);
    for (const [kind, text] of [["swatch", ""], ["name", name], ["share", percent], ["bar", ""]]) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      button.append(part, " "); // the space keeps the words of its name apart
    }
    button.querySelector(".bar").append(document.createElement("i"));
    button.style.setProperty("--color", color);
    button.style.setProperty("--share", `${100 * share}%`);
    button.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && this.#show(id));
    button.addEventListener("pointerleave", () => this.#show(this.#pinned));
    button.addEventListener("focus", () => button.matches(":focus-visible") && this.#show(id));
    button.addEventListener("blur", () => this.#show(this.#pinned));
    button.addEventListener("click", () => this.#pin(this.#pinned === id ? null : id));
    item.append(button);
    return item;
  }

  #pin(id) {
    this.#pinned = id;
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.id) === id));
    }
    this.#show(id);
  }

  #show(id) {
    if (id === this.#shown) return;
    this.#shown = id;
    this.#isolate(id);
  }
}

export function percentage(share) {
  return share > 0 && share < 0.001 ? "< 0.1%" : `${(100 * share).toFixed(1)}%`;
}
