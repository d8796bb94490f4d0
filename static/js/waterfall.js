// A trace of any size: only the rows in sight exist. The server's table stands in until the columns have arrived.
const ROW = 26;
const [ID, PARENT, DEPTH, SERVICE, NAME, OFFSET, DURATION, STATUS, SELF, CRITICAL, SIZE, ERRORS, TOKENS, COST, , KIND, ORPHAN] = Array(17).keys();
const host = document.getElementById("falls");

const words = (us) =>
  us < 1e3 ? `${us} µs` : us < 1e4 ? `${(us / 1e3).toFixed(1)} ms` : us < 1e6 ? `${Math.round(us / 1e3)} ms` : us < 1e7 ? `${(us / 1e6).toFixed(2)} s` : us < 12e7 ? `${(us / 1e6).toFixed(1)} s` : `${(us / 6e7).toFixed(1)} min`;
const dollars = (nusd) => (nusd === 0 ? "" : nusd >= 1e8 ? `$${(nusd / 1e9).toFixed(2)}` : nusd >= 1e5 ? `$${(nusd / 1e9).toFixed(4)}` : "<$0.0001");

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

class Falls {
  constructor(trace, chosen) {
    this.collapsed = new Set();
    this.range = [0, 1];
    this.found = new Set();
    this.pool = new Map();
    this.chosen = chosen;
    this.build();
    this.take(trace);
  }

  take(trace) {
    this.trace = trace;
    this.rows = trace.rows;
    this.place = new Map(this.rows.map((row, number) => [row[ID], number]));
    this.view();
    this.find();
    this.plot();
    this.count.textContent = `${this.rows.length.toLocaleString("en")} span${this.rows.length === 1 ? "" : "s"}`;
  }

  build() {
    this.root = element("section", { class: "falls", "aria-label": "Waterfall" });
    this.count = element("span", { class: "dimmer small" });
    this.search = element("input", { class: "input", type: "search", placeholder: "Find in this trace", "aria-label": "Find in this trace" });
    this.hits = element("span", { class: "small dim", role: "status" });
    const button = (text, act) => {
      const made = element("button", { class: "btn s", type: "button" }, text);
      made.addEventListener("click", () => act(made));
      return made;
    };
    const header = element("header", {}, element("h2", {}, "Waterfall"), this.count, this.search, this.hits,
      element("span", { class: "end" }), button("Critical path", (made) => {
        made.setAttribute("aria-pressed", String(this.root.classList.toggle("critical")));
      }), button("Collapse all", () => this.collapseAll()), button("Expand all", () => { this.collapsed.clear(); this.view(); }),
      this.whole = button("Whole time", () => this.zoom([0, 1])));
    this.whole.hidden = true;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.from = element("span");
    this.to = element("span");
    const head = element("div", { class: "fall-head", "aria-hidden": "true" }, element("span", {}, "Span"), element("span", { class: "scale" }, this.from, this.to),
      element("span", { class: "r" }, "Duration"), element("span", { class: "r" }, "Itself"), element("span", { class: "r" }, "Cost"));
    this.inner = element("div", { role: "presentation" });
    this.body = element("div", { class: "fall-body", role: "treegrid", tabindex: "0", "aria-label": "Spans: arrows move, left and right fold, Enter shows", "aria-colcount": "5" }, this.inner);
    this.root.append(header, this.canvas, head, this.body);
    this.body.addEventListener("scroll", () => this.draw(), { passive: true });
    this.body.addEventListener("click", (event) => this.clicked(event));
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.search.addEventListener("input", () => this.find());
    this.search.addEventListener("keydown", (event) => { if (event.key === "Enter") this.next(event.shiftKey ? -1 : 1); });
    new ResizeObserver(() => { this.plot(); this.draw(); }).observe(this.root);
    document.addEventListener("theme", () => this.plot());
    this.brush();
  }

  view() {
    this.shown = [];
    for (let number = 0; number < this.rows.length; number += 1) {
      this.shown.push(number);
      if (this.collapsed.has(this.rows[number][ID])) number += this.rows[number][SIZE] - 1;
    }
    this.inner.style.height = `${this.shown.length * ROW}px`;
    this.body.setAttribute("aria-rowcount", String(this.shown.length));
    this.clear();
    this.draw();
  }

  clear() {
    for (const made of this.pool.values()) made.remove();
    this.pool.clear();
  }

  draw() {
    if (!this.shown) return;
    const first = Math.max(0, Math.floor(this.body.scrollTop / ROW) - 8);
    const last = Math.min(this.shown.length, Math.ceil((this.body.scrollTop + this.body.clientHeight) / ROW) + 8);
    for (const [at, made] of this.pool) {
      if (at < first || at >= last) {
        made.remove();
        this.pool.delete(at);
      }
    }
    for (let at = first; at < last; at += 1) {
      if (this.pool.has(at)) continue;
      const made = this.row(at);
      this.pool.set(at, made);
      this.inner.append(made);
    }
    this.from.textContent = words(Math.round(this.range[0] * this.trace.whole_us));
    this.to.textContent = words(Math.round(this.range[1] * this.trace.whole_us));
  }

  row(at) {
    const row = this.rows[this.shown[at]];
    const { services, names, kinds } = this.trace;
    const folded = this.collapsed.has(row[ID]);
    const made = element("div", { class: "fall-row", role: "row", id: `row_${row[ID]}`, "data-id": row[ID], "aria-level": row[DEPTH] + 1, "aria-rowindex": at + 1,
      "aria-selected": String(row[ID] === this.chosen) });
    if (row[SIZE] > 1) made.setAttribute("aria-expanded", String(!folded));
    made.classList.toggle("found", this.found.has(this.shown[at]));
    made.classList.toggle("idle", row[CRITICAL] === 0);
    made.style.transform = `translateY(${at * ROW}px)`;
    const name = element("div", { class: "fall-name", role: "gridcell" }, element("b", {}, row[SIZE] > 1 ? (folded ? "▸" : "▾") : ""));
    name.style.paddingLeft = `${8 + Math.min(row[DEPTH], 24) * 12}px`;
    if (row[STATUS] === 2) name.append(element("span", { class: "sig trouble", title: "error" }, "!"));
    if (row[ORPHAN]) name.append(element("span", { class: "sig watch", title: "its parent is missing" }, "?"));
    name.append(element("span", { title: names[row[NAME]] }, names[row[NAME]]), element("em", {}, [services[row[SERVICE]], kinds[row[KIND]]].filter(Boolean).join(" · ")));
    if (folded) name.append(element("em", {}, `+${row[SIZE] - 1}${row[ERRORS] ? `, ${row[ERRORS]} failed` : ""}`));
    const lane = element("div", { class: "fall-lane", role: "gridcell" });
    lane.append(element("i", { class: row[STATUS] === 2 ? "trouble" : `s${(row[SERVICE] % 5) + 1}` }));
    if (row[CRITICAL]) lane.append(element("u", { title: `the trace waits ${words(row[CRITICAL])} for this alone` }));
    this.stretch(lane, row);
    const cell = (text, title = "") => element("div", { class: "r", role: "gridcell", ...(title && { title }) }, text);
    made.append(name, lane, cell(words(row[DURATION])), cell(words(row[SELF])), cell(dollars(row[COST]), row[TOKENS] ? `${row[TOKENS].toLocaleString("en")} tokens with all below` : ""));
    return made;
  }

  // Put the bars of a row where the range has them.
  stretch(lane, row) {
    const whole = this.trace.whole_us;
    const [a, b] = this.range;
    const [bar, waits] = lane.children;
    const left = `${((row[OFFSET] / whole - a) / (b - a)) * 100}%`;
    bar.style.left = left;
    bar.style.width = `${(row[DURATION] / whole / (b - a)) * 100}%`;
    if (!waits) return;
    waits.style.left = left;
    waits.style.width = `${(Math.min(row[CRITICAL], row[DURATION]) / whole / (b - a)) * 100}%`;
  }

  clicked(event) {
    const made = event.target.closest(".fall-row");
    if (!made) return;
    const number = this.place.get(made.dataset.id);
    if (event.target.closest("b") && this.rows[number][SIZE] > 1) this.fold(number);
    else this.choose(number);
  }

  fold(number, folded = !this.collapsed.has(this.rows[number][ID])) {
    if (folded) this.collapsed.add(this.rows[number][ID]);
    else this.collapsed.delete(this.rows[number][ID]);
    this.surface();
    this.view();
  }

  collapseAll() {
    for (const row of this.rows) if (row[SIZE] > 1 && row[DEPTH] > 0) this.collapsed.add(row[ID]);
    this.surface();
    this.view();
  }

  // The chosen row is never inside of a folded one: whoever folds it away stands on what was folded.
  surface() {
    for (let up = this.rows[this.place.get(this.chosen) ?? 0][PARENT]; up >= 0; up = this.rows[up][PARENT]) {
      if (this.collapsed.has(this.rows[up][ID])) this.chosen = this.rows[up][ID];
    }
    this.body.setAttribute("aria-activedescendant", `row_${this.chosen}`);
  }

  choose(number, quiet = false) {
    const row = this.rows[number];
    this.chosen = row[ID];
    for (let up = row[PARENT]; up >= 0; up = this.rows[up][PARENT]) this.collapsed.delete(this.rows[up][ID]);
    this.view();
    const at = this.shown.indexOf(number);
    const top = at * ROW;
    if (top < this.body.scrollTop) this.body.scrollTop = top;
    else if (top + ROW > this.body.scrollTop + this.body.clientHeight) this.body.scrollTop = top + ROW - this.body.clientHeight;
    this.draw();
    this.body.setAttribute("aria-activedescendant", `row_${row[ID]}`);
    if (!quiet) this.show(row[ID]);
  }

  show(id) {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      const answer = await fetch(`${host.dataset.spanFrom}${id}/`, { headers: { "X-Requested-With": "fetch" } }).catch(() => null);
      const drawer = document.getElementById("drawer");
      if (id !== this.chosen) return;
      if (!answer?.ok) {
        drawer.replaceChildren(element("p", { class: "said error", role: "alert" }, "This span could not be fetched. Choose it again when the server answers."));
        return;
      }
      drawer.innerHTML = await answer.text();
      drawer.firstElementChild.setAttribute("data-still", ""); // frames know only the span of the address
      const address = new URL(location);
      address.searchParams.set("span", id);
      history.replaceState(null, "", address);
    }, 80);
  }

  key(event) {
    const at = this.shown.indexOf(this.place.get(this.chosen));
    const number = this.shown[at];
    const row = this.rows[number];
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -this.shown.length, End: this.shown.length }[event.key];
    if (step) this.choose(this.shown[Math.max(0, Math.min(this.shown.length - 1, at + step))]);
    else if (event.key === "ArrowLeft" && row[SIZE] > 1 && !this.collapsed.has(row[ID])) this.fold(number, true);
    else if (event.key === "ArrowLeft" && row[PARENT] >= 0) this.choose(row[PARENT]);
    else if (event.key === "ArrowRight") this.fold(number, false);
    else if (event.key === "Enter") this.choose(number);
    else if (event.key === "[") this.collapseAll();
    else if (event.key === "]") { this.collapsed.clear(); this.view(); }
    else return;
    event.preventDefault();
  }

  find() {
    const text = this.search.value.trim().toLowerCase();
    this.found.clear();
    if (text) {
      this.rows.forEach((row, number) => {
        const { services, names, kinds } = this.trace;
        if (`${names[row[NAME]]} ${services[row[SERVICE]]} ${kinds[row[KIND]]} ${row[ID]}`.toLowerCase().includes(text)) this.found.add(number);
      });
    }
    this.hits.textContent = text ? `${this.found.size} of ${this.rows.length.toLocaleString("en")}, Enter goes on` : "";
    this.clear();
    this.draw();
  }

  next(direction) {
    const found = [...this.found];
    if (!found.length) return;
    const now = this.place.get(this.chosen) ?? -1;
    const after = direction > 0 ? found.find((number) => number > now) ?? found[0] : found.findLast((number) => number < now) ?? found.at(-1);
    this.choose(after);
  }

  // Scroll to what begins in the range that was chosen.
  reach() {
    const from = this.range[0] * this.trace.whole_us;
    const at = this.shown.findIndex((number) => this.rows[number][OFFSET] >= from);
    this.body.scrollTop = Math.max(0, at) * ROW;
  }

  // At most once a frame, however often the hand moves.
  zoom(range) {
    this.range = range;
    this.whole.hidden = range[0] === 0 && range[1] === 1;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      for (const [at, made] of this.pool) this.stretch(made.children[1], this.rows[this.shown[at]]);
      this.draw();
      this.map();
    });
  }

  // All spans are drawn once, aside: what is out of the range is shaded over a copy of that.
  plot() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !this.rows) return;
    const ratio = devicePixelRatio || 1;
    this.plotted = element("canvas", { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const pen = this.plotted.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const colour = (name) => {
      canvas.style.color = `var(--${name})`;
      const found = style.color;
      canvas.style.color = "";
      return found;
    };
    const tones = ["s1", "s2", "s3", "s4", "s5"].map(colour);
    const trouble = colour("trouble");
    const whole = this.trace.whole_us;
    const step = Math.min(10, height / this.rows.length);
    const line = Math.max(0.5, step > 4 ? step - 2 : step);
    const top = (height - step * this.rows.length) / 2; // few spans stand in the middle, no thicker than in the rows below
    this.rows.forEach((row, number) => {
      pen.fillStyle = row[STATUS] === 2 ? trouble : tones[row[SERVICE] % 5];
      pen.fillRect((row[OFFSET] / whole) * width, top + number * step, Math.max(1, (row[DURATION] / whole) * width), line);
    });
    this.shade = colour("bg");
    this.map();
  }

  map() {
    const { canvas, plotted } = this;
    if (!plotted) return;
    const { width, height } = plotted;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    const [a, b] = this.range;
    pen.clearRect(0, 0, width, height);
    pen.drawImage(plotted, 0, 0);
    pen.globalAlpha = 0.55;
    pen.fillStyle = this.shade;
    pen.fillRect(0, 0, a * width, height);
    pen.fillRect(b * width, 0, width, height);
    pen.globalAlpha = 1;
  }

  brush() {
    let start = null;
    const place = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      start = place(event);
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const end = place(event);
      if (Math.abs(end - start) > 0.004) this.zoom([Math.min(start, end), Math.max(start, end)]);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (start !== null && Math.abs(place(event) - start) <= 0.004) {
        const box = this.canvas.getBoundingClientRect();
        this.body.scrollTop = ((event.clientY - box.top) / box.height) * this.inner.clientHeight - this.body.clientHeight / 2;
      }
      else if (start !== null) this.reach();
      start = null;
    });
    this.canvas.addEventListener("dblclick", () => this.zoom([0, 1]));
  }
}

async function columns() {
  const answer = await fetch(host.dataset.falls).catch(() => null); // away: the table of the server stays
  return answer?.ok ? answer.json() : null;
}

async function begin() {
  const trace = await columns();
  if (!trace) return;
  const falls = new Falls(trace, host.dataset.chosen);
  document.getElementById("waterfall").setAttribute("hidden", "");
  document.getElementById("waterfall").setAttribute("data-still", "");
  host.append(falls.root);
  falls.plot();
  falls.choose(falls.place.get(host.dataset.chosen) ?? 0, true);
  // Spans that arrive while one looks: the summary is live, and says how many there are.
  const summary = document.getElementById("trace_summary");
  new MutationObserver(async () => {
    if (Number(summary.dataset.count) === falls.rows.length) return;
    const fresh = await columns();
    if (fresh && fresh.rows.length !== falls.rows.length) falls.take(fresh);
  }).observe(summary, { attributes: true, attributeFilter: ["data-count"] });
}

if (host) begin();
