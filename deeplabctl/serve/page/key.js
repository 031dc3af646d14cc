/** Ask the server, with the key if it wants one: people are asked for it once, and this browser keeps it. */

const KEPT = `deeplabctl key of ${location.pathname}`;
let asking = null; // while people are asked

export function hasKey() {
  return localStorage.getItem(KEPT) !== null;
}

export async function request(path, options = {}) {
  for (;;) {
    const key = localStorage.getItem(KEPT);
    const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
    const response = await fetch(path, { ...options, headers });
    if (response.status !== 401) return response;
    if (key === localStorage.getItem(KEPT)) await (asking ??= ask(key !== null));
  }
}

function ask(again) {
  const [form, wrong, input] = ["key-form", "key-wrong", "key"].map((id) => document.getElementById(id));
  wrong.hidden = !again;
  form.hidden = false;
  input.focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      localStorage.setItem(KEPT, input.value);
      form.hidden = true;
      asking = null;
      resolve();
    };
  });
}
