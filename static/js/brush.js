// A histogram in which a time is chosen by dragging, and lists that can be held still.
function between(bars, a, b) {
  const [first, last] = [Math.min(a, b), Math.max(a, b)];
  return bars.slice(first, last + 1);
}

function at(bars, clientX) {
  const place = bars.findIndex((bar) => clientX < bar.getBoundingClientRect().right);
  return place < 0 ? bars.length - 1 : place;
}

let from = null;

document.addEventListener("pointerdown", (event) => {
  const chart = event.target.closest?.("[data-brush] svg");
  if (!chart || event.button !== 0) return;
  event.preventDefault();
  const bars = [...chart.querySelectorAll("a")];
  from = { chart, bars, place: at(bars, event.clientX) };
  chart.closest("[data-brush]").setAttribute("data-still", ""); // no frame takes the bars away under the hand
});

document.addEventListener("pointermove", (event) => {
  if (!from) return;
  const chosen = new Set(between(from.bars, from.place, at(from.bars, event.clientX)));
  for (const bar of from.bars) bar.classList.toggle("chosen", chosen.has(bar));
});

document.addEventListener("pointerup", (event) => {
  if (!from) return;
  const chosen = between(from.bars, from.place, at(from.bars, event.clientX));
  const query = new URLSearchParams(from.chart.closest("[data-brush]").dataset.brush);
  from = null;
  query.set("from", chosen[0].dataset.from);
  query.set("to", chosen.at(-1).dataset.to);
  location.search = query;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !from) return;
  for (const bar of from.bars) bar.classList.remove("chosen");
  from.chart.closest("[data-brush]").removeAttribute("data-still");
  from = null;
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-hold]");
  if (!button) return;
  const held = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(held));
  [button.textContent, button.dataset.held] = [button.dataset.held, button.textContent];
  for (const id of button.dataset.hold.split(" ")) document.getElementById(id)?.toggleAttribute("data-still", held);
});
