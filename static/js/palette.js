// The palette: pages, tenants, budgets and actions by name, traces by id. The entries come from the server, once per opening.
const MOST = 12;

function rank(entry, words) {
  const text = `${entry.title} ${entry.kind} ${entry.detail}`.toLowerCase();
  if (!words.every((word) => text.includes(word))) return -1;
  return entry.title.toLowerCase().startsWith(words[0] ?? "") ? 0 : 1;
}

function told(text) {
  const item = document.createElement("li");
  item.className = "dimmer small";
  item.setAttribute("role", "option");
  item.setAttribute("aria-disabled", "true");
  item.textContent = text;
  return item;
}

export function palette() {
  const dialog = document.getElementById("palette");
  if (!dialog) return () => {};
  const input = dialog.querySelector("input");
  const list = dialog.querySelector("ul");
  let entries = [];
  let shown = [];
  let chosen = 0;
  let state = "";

  const draw = () => {
    const words = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const ranked = entries.map((entry) => [rank(entry, words), entry]).filter(([order]) => order >= 0);
    shown = ranked.sort(([a], [b]) => a - b).slice(0, MOST).map(([, entry]) => entry);
    if (/^[0-9a-f]{32}$/.test(words[0] ?? "")) shown.unshift({ title: `Trace ${words[0]}`, kind: "Trace", detail: "", href: `/traces/${words[0]}/` });
    chosen = Math.min(chosen, Math.max(0, shown.length - 1));
    list.replaceChildren(...shown.map((entry, number) => {
      const item = document.createElement("li");
      item.id = `palette-${number}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(number === chosen));
      const title = document.createElement("span");
      title.textContent = entry.title;
      const kind = document.createElement("span");
      kind.className = "dimmer small";
      kind.textContent = [entry.kind, entry.detail].filter(Boolean).join(" · ");
      item.append(title, kind);
      item.addEventListener("click", () => { location.href = entry.href; });
      return item;
    }));
    if (!shown.length) list.append(told(state || "Nothing is called so. A trace is found by its whole id."));
    input.setAttribute("aria-activedescendant", shown.length ? `palette-${chosen}` : "");
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  };

  input.addEventListener("input", () => { chosen = 0; draw(); });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      chosen = (chosen + step + shown.length) % Math.max(1, shown.length);
      draw();
    } else if (event.key === "Enter" && shown[chosen]) {
      event.preventDefault();
      location.href = shown[chosen].href;
    }
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  return async () => {
    if (dialog.open) return;
    input.value = "";
    chosen = 0;
    if (!entries.length) state = "Looking …";
    dialog.showModal();
    draw();
    const answer = await fetch(dialog.dataset.source, { headers: { Accept: "application/json" } }).catch(() => null);
    if (answer?.ok) entries = (await answer.json()).entries;
    state = answer?.ok || entries.length ? "" : "The server does not answer.";
    draw();
  };
}
