// A field that says what is in force now, when somebody else changes that: untouched, it says the new value; touched, the person is told,
// and the form is refused until they chose. Frames bring <data data-meanwhile="id of the field" value="…" data-words="…">; the form
// has what its field began from in a hidden field, and a note to show.
export function meanwhile() {
  for (const now of document.querySelectorAll("data[data-meanwhile]")) {
    const field = document.getElementById(now.dataset.meanwhile);
    const seen = field?.form.querySelector("input[name^=seen_]");
    if (seen && seen.value !== now.value) changed(field, seen, now);
  }
}

function changed(field, seen, now) {
  const note = field.form.querySelector(".meanwhile");
  const go = (value) => {
    seen.value = now.value;
    field.value = value;
    note.hidden = true;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  if (field.value === seen.value || field.value === now.value) go(now.value);
  else {
    note.hidden = false;
    note.firstElementChild.textContent = `It was changed to ${now.dataset.words} meanwhile. What you typed is not saved.`;
    note.lastElementChild.onclick = () => go(field.value);
  }
}
