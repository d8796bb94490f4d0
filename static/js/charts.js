// Analysis charts: plotly is fetched when the first chart comes into sight, and drawn in the page's colours.
const CONFIG = { displayModeBar: false, responsive: true, showSendToCloud: false, plotlyServerURL: "", displaylogo: false };
let loading = null;

function plotly(source) {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error(source));
    };
    document.head.append(script);
  });
  return loading;
}

function paint() {
  const probe = document.createElement("span");
  document.body.append(probe);
  const colour = (token) => {
    probe.style.color = `var(--${token})`;
    return getComputedStyle(probe).color;
  };
  const tokens = ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "stable", "canary", "ink", "ink-2", "ink-3", "line", "line-soft", "raised"];
  const found = Object.fromEntries(tokens.map((token) => [token, colour(token)]));
  probe.remove();
  return found;
}

const ROOM = 500; // px: on a narrower chart the names of what changed would lie on each other; the page lists them

function themed(chart, wide) {
  const colours = paint();
  const font = { family: getComputedStyle(document.body).fontFamily, size: 11, color: colours["ink-3"] };
  const axis = { gridcolor: colours["line-soft"], linecolor: colours.line, zerolinecolor: colours.line, tickfont: font };
  const layout = {
    ...chart.layout,
    font,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: colours.raised, bordercolor: colours.line, font: { ...font, color: colours.ink } },
    xaxis: { ...chart.layout.xaxis, ...axis, showgrid: false, spikecolor: colours["ink-3"] },
    yaxis: { ...chart.layout.yaxis, ...axis },
    legend: { ...chart.layout.legend, font: { ...font, color: colours["ink-2"] } },
    shapes: (chart.layout.shapes ?? []).map((shape) => ({ ...shape, line: { ...shape.line, color: colours["ink-3"] } })),
    annotations: (wide ? (chart.layout.annotations ?? []) : []).map((note) => ({ ...note, font: { ...font, color: colours["ink-2"] } })),
  };
  const data = chart.data.map((trace) => {
    const color = colours[trace.meta?.tone ?? "s1"];
    return { ...trace, marker: { ...trace.marker, color }, line: { ...trace.line, color } };
  });
  return { data, layout };
}

async function draw(element) {
  const found = await Promise.all([plotly(element.dataset.plotly), fetch(element.dataset.chart)]).catch(() => [null, null]);
  const [lib, answer] = found;
  let chart = answer?.ok ? await answer.json() : { dear: "The chart could not be fetched." };
  if (chart.dear) {
    failed(element, chart.dear);
    return;
  }
  element.replaceChildren();
  const show = () => {
    const { data, layout } = themed(chart, element.clientWidth >= ROOM);
    return lib.react(element, data, layout, CONFIG);
  };
  await show();
  element.dataset.drawn = "";
  opens(element);
  zooms(element);
  refreshes(element, (fresh) => {
    chart = fresh;
    show();
  });
  document.addEventListener("theme", show);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
}

// Too dear to draw, or the server is away: it says so, and is tried again by a click.
function failed(element, why) {
  const again = document.createElement("button");
  Object.assign(again, { type: "button", className: "btn s", textContent: "Try again" });
  again.addEventListener("click", () => draw(element), { once: true });
  const words = document.createElement("p");
  words.textContent = why;
  const note = document.createElement("div");
  note.className = "empty";
  note.setAttribute("role", "status");
  note.append(words, again);
  element.replaceChildren(note);
}

// A dot that stands for a trace leads to it.
function opens(element) {
  element.on("plotly_click", ({ points }) => {
    const dot = points.find((point) => point.data.meta?.opens);
    if (dot) location.assign(dot.customdata);
  });
}

// A time that is dragged over becomes the page's; a double click takes it out again.
function zooms(element) {
  if (element.dataset.zoom === undefined) return;
  element.on("plotly_relayout", (changed) => {
    const query = new URLSearchParams(element.dataset.zoom);
    if (changed["xaxis.range[0]"]) {
      for (const [name, value] of [["from", changed["xaxis.range[0]"]], ["to", changed["xaxis.range[1]"]]]) {
        query.set(name, `${String(value).replace(" ", "T").slice(0, 19)}+00:00`);
      }
      location.search = query;
    } else if (changed["xaxis.autorange"] && location.search.includes("from=")) location.search = query;
  });
}

function refreshes(element, take) {
  const every = Number(element.dataset.every);
  if (!every) return;
  setInterval(async () => {
    if (document.hidden || element.matches(":hover")) return; // nothing moves under the hand
    const answer = await fetch(element.dataset.chart).catch(() => null);
    const fresh = answer?.ok ? await answer.json() : null;
    if (fresh?.data) take(fresh);
  }, every * 1000);
}

export function charts() {
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  });
  for (const element of document.querySelectorAll("[data-chart]")) seen.observe(element);
}
