import { hasKey, request } from "./key.js";
import { Legend, percentage } from "./legend.js";
import { prepare } from "./photo.js";
import { decodeMask } from "./png.js";
import { Stage } from "./stage.js";

const element = (id) => document.getElementById(id);
const [opacity, crf, picker, saveMask] = ["opacity", "crf", "file", "save-mask"].map(element);
const legend = new Legend((id) => stage.isolate(id));
const stage = new Stage((id) => legend.mark(id));
let model = null; // what the server says of itself
let current = null; // the photo: what was prepared, its name, and its results with and without CRF
let opened = 0; // files so far
let running = new AbortController();

async function start() {
  element("segment").textContent = new URL("api/segment", location);
  for (const id of ["columns", "programs"]) element(id).hidden = false; // without JavaScript they would do nothing
  listen();
  try {
    model = await answer(await request("api/model"));
  } catch (error) {
    return complain(error);
  }
  element("with-key").hidden = !hasKey();
  element("metrics").hidden = hasKey(); // a link cannot bring the key
  crf.checked = model.crf;
  crf.closest("label").hidden = !model.offers_crf;
  element("facts").textContent = `${model.weights}, ${model.architecture}, ${model.classes.length} classes`;
  element("samples").hidden = !model.examples.length;
  element("examples").replaceChildren(...model.examples.map(exampleButton));
}

function listen() {
  for (const button of document.querySelectorAll(".choose")) button.addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    if (picker.files.length) open(picker.files[0]);
    picker.value = "";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    open(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => open(event.clipboardData.files[0]));
  opacity.addEventListener("input", showOpacity);
  crf.addEventListener("change", () => current && segment());
  element("save-overlay").addEventListener("click", saveOverlay);
}

function exampleButton(path, index) {
  const [item, button, image] = ["li", "button", "img"].map((name) => document.createElement(name));
  const file = request(path).then((response) => response.blob());
  file.then((blob) => { image.src = URL.createObjectURL(blob); }, complain);
  image.alt = `Example ${index + 1}`;
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      const blob = await file;
      await open(new File([blob], `example-${index + 1}`, { type: blob.type }));
    } catch (error) {
      complain(error);
    }
  });
  button.append(image);
  item.append(button);
  return item;
}

/** Take a file as the photo to look at. */
async function open(file) {
  if (!file) return;
  const mine = ++opened;
  await started;
  if (!model || mine !== opened) return;
  element("alert").hidden = true;
  const slow = setTimeout(note, 300, "Opening the photo.");
  let prepared, fault;
  try {
    prepared = await prepare(file, model.limits);
  } catch (error) {
    fault = error;
  }
  clearTimeout(slow);
  if (mine !== opened) return; // another file came meanwhile
  if (fault) {
    note(current?.note ?? "");
    return complain(fault);
  }
  if (current) URL.revokeObjectURL(current.url);
  current = { ...prepared, name: file.name.replace(/\.[^.]*$/, "") || "photo", results: {} };
  stage.showPhoto(current, current.name);
  note(current.note);
  await segment();
}

/** Show the result with or without CRF, asking the server for one that is not here yet. */
async function segment() {
  running.abort();
  running = new AbortController();
  const { signal } = running, photo = current, used = crf.checked;
  setState("busy");
  say("Segmenting the photo.");
  try {
    photo.results[used] ??= await ask(photo.blob, used, signal);
    if (!signal.aborted) show(photo.results[used]);
  } catch (error) {
    if (signal.aborted) return;
    setState("error");
    complain(error);
  }
}

async function ask(blob, used, signal) {
  const response = await request(`api/segment?crf=${used}`, {
    method: "POST", body: blob, signal, headers: { "content-type": blob.type },
  });
  const facts = await answer(response);
  const png = Uint8Array.from(atob(facts.mask), (char) => char.charCodeAt(0));
  return { facts, png, mask: await decodeMask(png) };
}

function show({ facts, png, mask }) {
  stage.showMask(mask, model.classes);
  legend.show(facts.classes, model.classes);
  showOpacity();
  note([current.note, facts.note].filter(Boolean).join(" "));
  const seconds = `${facts.seconds.ran.toFixed(2)} s`;
  element("seconds").textContent = seconds;
  URL.revokeObjectURL(saveMask.href);
  saveMask.href = URL.createObjectURL(new Blob([png], { type: "image/png" }));
  saveMask.download = `${current.name}.png`;
  setState("done");
  say(`Done in ${seconds}: ${facts.classes.map(({ name, share }) => `${name} ${percentage(share)}`).join(", ")}.`);
}

function showOpacity() {
  element("opacity-value").textContent = `${opacity.value}%`;
  stage.setOpacity(opacity.value / 100);
}

async function saveOverlay() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await stage.overlay(opacity.value / 100));
  link.download = `${current.name}_overlay.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Return the JSON of an answer; throws an Error with its message where the server refuses. */
async function answer(response) {
  const content = await response.json().catch(() => null);
  if (!response.ok) throw new Error(content?.error?.message ?? `The server answered ${response.status}.`);
  return content;
}

function setState(state) {
  document.body.dataset.state = state;
  element("alert").hidden = true;
  element("drop").hidden = current !== null;
  element("view").hidden = current === null;
  element("samples-title").textContent = current ? "Examples" : "Or take an example";
  element("panel").hidden = state !== "done" && !(state === "busy" && element("legend").childElementCount);
}

function note(text) {
  element("note").textContent = text;
  element("note").hidden = !text;
}

/** Say what went wrong; what is shown stays. */
function complain(error) {
  const text = error instanceof TypeError ? "The server cannot be reached." : error.message;
  element("alert").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  element("alert").hidden = false;
}

function say(text) {
  element("status").textContent = text;
}

const started = start();
