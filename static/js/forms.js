// Confirmations in a dialog, links to copy, secrets to copy, and previews of what a form would do.
export function forms() {
  document.addEventListener("click", confirmed, true);
  document.addEventListener("click", copied);
  for (const form of document.querySelectorAll("form[data-preview]")) preview(form);
  for (const input of document.querySelectorAll("[data-submit-on-change]")) {
    input.addEventListener("change", () => input.form.requestSubmit());
  }
}

function confirmed(event) {
  const button = event.target.closest("button[data-confirm]");
  if (!button || button.dataset.confirmed) return;
  event.preventDefault();
  event.stopPropagation();
  const dialog = document.getElementById("confirm");
  dialog.querySelector("p").textContent = button.dataset.confirm;
  const yes = dialog.querySelector("button[value=yes]");
  yes.textContent = button.dataset.verb || button.textContent;
  yes.classList.toggle("risk", button.classList.contains("risk"));
  dialog.returnValue = "no";
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes") return;
    button.dataset.confirmed = "yes";
    // The button may have been morphed meanwhile; the form and what it says are still the same.
    const form = button.form;
    if (button.isConnected && form) button.click();
    delete button.dataset.confirmed;
  }, { once: true });
  dialog.showModal();
}

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
    target.removeAttribute("aria-busy");
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, wait);
  });
  if ("previewNow" in form.dataset) show();
}

// By POST where the form says so: documents are too long for an address.
function asking(form, query) {
  const headers = { "X-Requested-With": "fetch" };
  if ("previewPost" in form.dataset) return fetch(form.dataset.previewFrom, { method: "POST", body: query, headers });
  query.delete("csrfmiddlewaretoken");
  return fetch(`${form.dataset.previewFrom}?${query}`, { headers });
}
