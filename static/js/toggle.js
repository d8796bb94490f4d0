// Light, dark, or as the system has it; kept in this browser.
const ORDER = ["", "light", "dark"];
const WORDS = { "": "As the system", light: "Light", dark: "Dark" };

export function theme() {
  const button = document.querySelector("[data-theme-toggle]");
  button?.addEventListener("click", () => {
    const root = document.documentElement;
    const next = ORDER[(ORDER.indexOf(root.dataset.theme ?? "") + 1) % ORDER.length];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    try {
      if (next) localStorage.setItem("theme", next);
      else localStorage.removeItem("theme");
    } catch { /* storage is off: until the next page */ }
    button.title = WORDS[next];
    document.dispatchEvent(new CustomEvent("theme"));
  });
}
