// The keyboard: g and a letter goes, / filters, ? lists all, Ctrl K or ⌘ K opens the palette.
import { palette } from "./palette.js";

const typing = (node) => node instanceof HTMLElement && (node.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName));

export function keys() {
  const open = palette();
  let going = -Infinity; // when g was pressed
  document.querySelector("[data-palette]")?.addEventListener("click", open);
  document.querySelector("[data-menu]")?.addEventListener("click", (event) => {
    event.preventDefault();
    const rail = document.getElementById("rail");
    rail.classList.toggle("open");
    if (rail.classList.contains("open")) rail.querySelector("a")?.focus();
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.dropdown[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
    const rail = document.getElementById("rail");
    if (rail?.classList.contains("open") && !rail.contains(event.target) && !event.target.closest("[data-menu]")) {
      rail.classList.remove("open");
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      open();
      return;
    }
    if (event.key === "Escape") escape(event);
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
    if (event.timeStamp - going < 1200) {
      going = -Infinity;
      const link = document.querySelector(`.rail-links a[data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); link.click(); }
    } else if (event.key === "g") {
      going = event.timeStamp;
    } else if (event.key === "?") {
      event.preventDefault();
      document.getElementById("keys").showModal();
    } else if (event.key === "/") {
      const filter = document.querySelector("main input[type=search]");
      event.preventDefault();
      if (filter) filter.focus();
      else open();
    }
  });
}

function escape(event) {
  document.getElementById("rail")?.classList.remove("open");
  const menu = document.querySelector("details.dropdown[open]");
  if (menu) { menu.open = false; menu.querySelector("summary").focus(); event.preventDefault(); }
}
