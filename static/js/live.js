// Frames {"seq", "parts": {id: html}} of the page's parts, morphed in so that focus, scroll and open details survive.
import { Idiomorph } from "../vendor/idiomorph.js";
import { meanwhile } from "./meanwhile.js";
import { origin } from "./origin.js";
import { persons } from "./persons.js";

const STALE_MS = 3500;
const FINAL = new Set([4401, 4404, 4409]); // signed out, no such page, gone: reload to be told why

const morphing = {
  morphStyle: "outerHTML",
  ignoreActiveValue: true,
  callbacks: {
    // What the person did to the page is theirs: open details, dialogs and menus.
    beforeAttributeUpdated: (name, node) => !(name === "open" && (node.tagName === "DETAILS" || node.tagName === "DIALOG")),
    beforeNodeMorphed: (node) => !(node instanceof HTMLElement && node.hasAttribute("data-still")),
  },
};

export function apply(parts) {
  for (const [id, html] of Object.entries(parts)) {
    const element = document.getElementById(id);
    if (element && !selectingIn(element)) Idiomorph.morph(element, html, morphing);
    else if (element) waiting.set(id, html);
  }
  meanwhile();
  origin();
  persons();
}

const waiting = new Map(); // parts whose text is being selected: applied when the selection is let go

function selectingIn(element) {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && selection.containsNode(element, true);
}

document.addEventListener("selectionchange", () => {
  if (!waiting.size || !document.getSelection().isCollapsed) return;
  const parts = Object.fromEntries(waiting);
  waiting.clear();
  apply(parts);
});

export function live() {
  const badge = document.getElementById("live");
  const page = document.body.dataset.page;
  if (!badge || !page) return;
  let socket = null;
  let heard = 0;
  let tries = 0;
  let seq = 0;
  let timer = 0;

  const show = (state, words) => {
    if (badge.dataset.state !== state) badge.dataset.state = state;
    const text = badge.lastElementChild;
    if (text.textContent !== words) text.textContent = words;
  };

  const connect = () => {
    if (socket || document.hidden) return;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const opened = new WebSocket(`${scheme}//${location.host}/ws/page/${page}/?${document.body.dataset.query}`);
    socket = opened;
    opened.onmessage = (event) => {
      if (opened !== socket) return;
      const frame = JSON.parse(event.data);
      heard = performance.now();
      tries = 0;
      seq = frame.seq;
      apply(frame.parts);
      document.body.dataset.seq = String(seq);
      show("live", "Live");
    };
    opened.onclose = (event) => {
      if (opened !== socket) return;
      socket = null;
      if (FINAL.has(event.code)) {
        show("disconnected", event.code === 4401 ? "Signed out" : "Changed: reload");
        return;
      }
      show("disconnected", "Disconnected");
      tries += 1;
      clearTimeout(timer);
      timer = setTimeout(connect, Math.random() * Math.min(15000, 500 * 2 ** tries));
    };
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      const old = socket;
      socket = null;
      old?.close();
      show("paused", "Paused");
    } else {
      tries = 0;
      connect();
    }
  });
  window.addEventListener("pagehide", () => socket?.close());
  setInterval(() => {
    const silent = performance.now() - heard;
    if (socket && heard && silent > STALE_MS) show("delayed", `Delayed ${Math.round(silent / 1000)} s`);
  }, 1000);
  connect();
}
