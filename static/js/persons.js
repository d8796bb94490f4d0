// Frames are the same for all of a role: what this person may not do, their own page takes away, and says why.
export function persons() {
  const person = document.body.dataset.person;
  for (const button of document.querySelectorAll("button[data-not-for]")) {
    if (!JSON.parse(button.dataset.notFor).includes(person)) continue;
    button.disabled = true;
    button.title = button.dataset.why;
  }
}
