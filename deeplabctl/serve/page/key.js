/** Ask the server, with the key if it wants one: people are asked for it once, and this browser keeps it. */

const KEPT = `deeplabctl key of ${location.pathname}`;
let given = null; // where the browser keeps nothing: some are told not to
let asking = null; // while people are asked

export function hasKey() {
  return readKey() !== null;
}

function readKey() {
  try {
    return localStorage.getItem(KEPT) ?? given;
  } catch {
    return given;
  }
}

function keep(key) {
  given = key;
  try {
    localStorage.setItem(KEPT, key);
  } catch {
    // it is asked for again after the page is loaded again
  }
}

export async function request(path, options = {}) {
  for (;;) {
    const key = readKey();
    const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
    const response = await fetch(path, { ...options, headers });
    if (response.status !== 401) return response;
    if (key === readKey()) await (asking ??= ask(key !== null));
  }
}

function ask(again) {
  const [form, wrong, input] = ["key-form", "key-wrong", "key"].map((id) => document.getElementById(id));
  wrong.hidden = !again;
  form.hidden = false;
  document.getElementById("with-key").hidden = false;
  input.focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      keep(input.value);
      form.hidden = true;
      asking = null;
      resolve();
    };
  });
}
