// Frames are the same for all, also for who comes by another name: commands to copy name this server as the browser does.
export function origin() {
  for (const place of document.querySelectorAll("[data-origin]")) place.textContent = location.origin;
}
