// Confirmations in a dialog, links to copy, secrets to copy, and previews of what a form would do. A form is sent once.
const SENT_MS = 10_000; // an answer that takes longer than this may be asked for again

export function forms() {
  document.addEventListener("click", confirmed, true);
  document.addEventListener("submit", once);
  document.addEventListener("click", copied);
  for (const form of document.querySelectorAll("form[data-preview]")) preview(form);
  for (const input of document.querySelectorAll("[data-submit-on-change]")) {
    input.addEventListener("change", () => input.form.requestSubmit());
  }
}

function confirmed(event) {
  const clicked = event.target.closest("button[data-confirm]");
  if (!clicked || clicked.dataset.confirmed) return;
  event.preventDefault();
  event.stopPropagation();
  const dialog = document.getElementById("confirm");
  const meant = meaning(clicked);
  ask(dialog, clicked.dataset.confirm, clicked.dataset.verb || clicked.textContent, clicked.classList.contains("risk"));
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes") return;
    // A frame may have made another button of this one meanwhile: what was confirmed is done, or nothing.
    const button = [clicked, ...document.querySelectorAll("button[data-confirm]")].find((each) => each.isConnected && meaning(each) === meant);
    if (!button || button.disabled) {
      ask(dialog, "The page has changed meanwhile and this can no longer be done. Look at it again.", "");
      return;
    }
    button.dataset.confirmed = "yes";
    button.click();
    delete button.dataset.confirmed;
  }, { once: true });
}

function meaning(button) {
  return JSON.stringify([button.form?.id, button.formAction, button.name, button.value, button.dataset.confirm]);
}

// Without a verb there is nothing to say yes to.
function ask(dialog, text, verb, risk = false) {
  dialog.querySelector("p").textContent = text;
  const yes = dialog.querySelector("button[value=yes]");
  yes.textContent = verb;
  yes.hidden = !verb;
  yes.classList.toggle("risk", risk);
  dialog.querySelector("button[value=no]").textContent = verb ? "Cancel" : "Close";
  dialog.returnValue = "no";
  dialog.showModal();
}

// A second click, while the first is on its way, is not meant to do it twice.
function once(event) {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (performance.now() - (sent.get(form) ?? -SENT_MS) < SENT_MS) event.preventDefault();
  else sent.set(form, performance.now());
}

const sent = new WeakMap();
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }); // back: as it is now, not as it was

async function copied(event) {
  const button = event.target.closest("[data-copy-link], [data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy ?? location.href);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}

function preview(form) {
  const target = document.getElementById(form.dataset.preview);
  const wait = Number(form.dataset.previewWait ?? 150);
  let timer = 0;
  let asked = 0;
  const show = async () => {
    const number = (asked += 1);
    const query = new URLSearchParams(new FormData(form));
    target.setAttribute("aria-busy", "true");
    const answer = await asking(form, query).catch(() => null);
    if (number !== asked) return;
    if (answer?.ok) target.innerHTML = await answer.text();
    else unknown(target);
    target.removeAttribute("aria-busy");
  };
  form.addEventListener("input", () => {
    for (const button of target.querySelectorAll("button")) button.disabled = true; // it names what was typed before
    clearTimeout(timer);
    timer = setTimeout(show, wait);
  });
  if ("previewNow" in form.dataset) show();
}

function unknown(target) {
  const note = document.createElement("div");
  note.className = "note";
  note.setAttribute("role", "alert");
  note.textContent = "The server does not say what this would do. Type again when it answers.";
  target.replaceChildren(note);
}

// By POST where the form says so: documents are too long for an address.
function asking(form, query) {
  const headers = { "X-Requested-With": "fetch" };
  if ("previewPost" in form.dataset) return fetch(form.dataset.previewFrom, { method: "POST", body: query, headers });
  query.delete("csrfmiddlewaretoken");
  return fetch(`${form.dataset.previewFrom}?${query}`, { headers });
}
