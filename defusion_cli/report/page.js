"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Two pictures of one view; what is left of the line shows the first. The position is in percent of the width.
class Compare {
  constructor(entry, pair) {
    this.entry = entry;
    this.left = make("img", { className: "left", alt: "", decoding: "async" });
    this.right = make("img", { alt: entry.name, decoding: "async" });
    this.tags = [make("span", { className: "tag l" }), make("span", { className: "tag r" })];
    this.element = make("div", { className: "compare", tabIndex: 0 }, this.right, this.left,
      make("div", { className: "line" }), ...this.tags);
    this.element.style.aspectRatio = entry.size.join(" / ");
    for (const [name, value] of [["role", "slider"], ["aria-valuemin", 0], ["aria-valuemax", 100],
      ["aria-label", `${entry.name}: position of the line between the two pictures`]])
      this.element.setAttribute(name, value);
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.loaded = false;
    this.show(pair);
    this.move(50);
  }

  show(pair) {
    this.pair = pair.every((view) => view in this.entry.views) ? pair : this.entry.pair;
    this.tags.forEach((tag, side) => { tag.textContent = page.labels[this.pair[side]]; });
    if (this.loaded) this.load();
  }

  load() {
    this.loaded = true;
    [this.left, this.right].forEach((image, side) => {
      const source = this.entry.views[this.pair[side]];
      if (image.getAttribute("src") !== source) image.src = source;
    });
  }

  move(percent) {
    this.at = Math.min(100, Math.max(0, percent));
    this.element.style.setProperty("--at", `${this.at}%`);
    this.element.setAttribute("aria-valuenow", Math.round(this.at));
    this.element.setAttribute("aria-valuetext", `${Math.round(this.at)} % ${page.labels[this.pair[0]]}`);
  }

  follow(event) {
    const box = this.element.getBoundingClientRect();
    this.move((100 * (event.clientX - box.left)) / box.width);
  }

  key(event) {
    const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10,
      Home: -100, End: 100 };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.move(this.at + steps[event.key]);
  }

  drag() {
    const { element } = this;
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      this.follow(event);
    });
    element.addEventListener("pointermove", (event) => {
      if (element.hasPointerCapture(event.pointerId)) this.follow(event);
    });
    return this;
  }
}

// Cards

const near = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen)
    if (isIntersecting) { target.compare.load(); near.unobserve(target); }
}, { rootMargin: "800px" });

const text = (value, column) =>
  value === null || value === undefined ? "–"
    : typeof value !== "number" ? value
      : Math.abs(value) >= 1e300 ? (value > 0 ? "∞" : "−∞")
        : value.toFixed(column.decimals) + (column.unit ? ` ${column.unit}` : "");

function makeCard(entry) {
  const card = make("article", { id: `picture-${entry.index}` });
  const top = make("header", {}, make("h2", { textContent: entry.name }));
  card.append(top);
  if (entry.pair) {
    entry.compare = new Compare(entry, pair).drag();
    entry.compare.element.addEventListener("dblclick", () => viewer.open(entry));
    top.append(make("button", { type: "button", textContent: "zoom", onclick: () => viewer.open(entry) }));
    card.append(entry.compare.element);
    card.compare = entry.compare;
    near.observe(card);
  }
  const said = page.columns.filter((column) => entry.values[column.key] !== undefined)
    .map((column) => `${column.title} ${text(entry.values[column.key], column)}`);
  card.append(make("p", { textContent: [...said, ...entry.notes].join(" · ") }));
  if (entry.problem) card.append(make("p", { className: "problem", textContent: entry.problem }));
  return card;
}

// Table

function makeRow(entry) {
  const link = make("a", { href: `#picture-${entry.index}`, textContent: entry.name });
  link.addEventListener("click", () => setTimeout(() => entry.compare?.element.focus({ preventScroll: true })));
  const row = make("tr", {}, make("td", { className: "name" }, link));
  for (const column of page.columns) {
    const value = entry.values[column.key];
    row.append(make("td", { className: column.number ? "number" : "", textContent: text(value, column) }));
  }
  if (entry.problem) row.className = "problem";
  return row;
}

const order = { key: null, falling: false };

function compareBy(key, falling) {
  const sign = falling ? -1 : 1;
  return (a, b) => {
    const [x, y] = key === "name" ? [a.name, b.name] : [a.values[key], b.values[key]];
    if (!a.problem !== !b.problem) return a.problem ? -1 : 1; // what went wrong comes first
    const [noX, noY] = [x, y].map((value) => value === null || value === undefined);
    if (noX || noY) return noX - noY || a.index - b.index; // and what has no value last
    const larger = typeof x === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
    return sign * larger || a.index - b.index;
  };
}

function sort(key, falling) {
  Object.assign(order, { key, falling });
  page.entries.sort(key === null ? (a, b) => a.index - b.index : compareBy(key, falling));
  byId("cards").append(...page.entries.map((entry) => entry.card));
  document.querySelector("tbody").append(...page.entries.map((entry) => entry.row));
  for (const head of document.querySelectorAll("th"))
    head.setAttribute("aria-sort", head.dataset.key === key ? (falling ? "descending" : "ascending") : "none");
}

function makeHead() {
  const columns = [{ key: "name", title: "picture", number: false, worst: "low", help: "" }, ...page.columns];
  for (const column of columns) {
    const button = make("button", { type: "button", textContent: column.title, title: column.help || "" });
    button.addEventListener("click", () =>
      sort(column.key, order.key === column.key ? !order.falling : column.worst === "high"));
    const head = make("th", { className: column.number ? "number" : "", scope: "col" }, button);
    head.dataset.key = column.key;
    document.querySelector("thead tr").append(head);
  }
}

function find(part) {
  let shown = 0;
  for (const entry of page.entries) {
    const fits = entry.name.toLowerCase().includes(part.toLowerCase());
    entry.card.hidden = entry.row.hidden = !fits;
    shown += fits;
  }
  byId("count").textContent = `${shown === page.entries.length ? "" : `${shown} of `}${page.entries.length} pictures`;
}

// Viewer: one pair as large as one likes

const viewer = {
  open(entry) {
    this.entry = entry;
    this.compare = new Compare(entry, pair);
    this.compare.move(entry.compare.at);
    this.compare.load();
    const { element } = this.compare;
    [element.style.width, element.style.height] = entry.size.map((side) => `${side}px`);
    byId("stage").replaceChildren(element);
    byId("caption").textContent = entry.name;
    if (!byId("viewer").open) byId("viewer").showModal();
    element.focus();
    this.fit();
  },

  fit() {
    const stage = byId("stage").getBoundingClientRect();
    const [width, height] = this.entry.size;
    this.place(Math.min(stage.width / width, stage.height / height, 4));
  },

  // Scale (screen pixels for one of the picture's) and place of the left upper corner; without one, centred.
  place(scale, x, y) {
    const stage = byId("stage").getBoundingClientRect();
    const inside = (at, room, size) => size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at));
    this.scale = scale;
    this.x = inside(x ?? 0, stage.width, this.entry.size[0] * scale);
    this.y = inside(y ?? 0, stage.height, this.entry.size[1] * scale);
    const { style, classList } = this.compare.element;
    style.transform = `translate(${this.x}px, ${this.y}px) scale(${scale})`;
    style.setProperty("--unscale", 1 / scale);
    classList.toggle("sharp", scale >= 3);
    byId("scale").value = `${Math.round(scale * 100)} %`;
  },

  zoom(factor, clientX, clientY) {
    const stage = byId("stage").getBoundingClientRect();
    const [cx, cy] = [(clientX ?? stage.left + stage.width / 2) - stage.left,
      (clientY ?? stage.top + stage.height / 2) - stage.top];
    const scale = Math.min(32, Math.max(0.05, this.scale * factor)), ratio = scale / this.scale;
    this.place(scale, cx - (cx - this.x) * ratio, cy - (cy - this.y) * ratio);
  },

  step(by) {
    const shown = page.entries.filter((entry) => entry.compare && !entry.card.hidden);
    const next = shown[shown.indexOf(this.entry) + by];
    if (next) this.open(next);
  },

  key(event) {
    const actions = { "+": "in", "=": "in", "-": "out", "0": "fit", n: "next", p: "previous" };
    const pan = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (actions[event.key]) this.do(actions[event.key]);
    else if (event.shiftKey && pan) this.place(this.scale, this.x + pan[0], this.y + pan[1]);
    else return;
    event.preventDefault();
  },

  do(what) {
    ({ in: () => this.zoom(1.5), out: () => this.zoom(1 / 1.5), fit: () => this.fit(), next: () => this.step(1),
      previous: () => this.step(-1), close: () => byId("viewer").close() })[what]();
  },

  listen() {
    const stage = byId("stage"), fingers = new Map();
    let sliding = false;
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      sliding = fingers.size === 1 && event.target.className === "line";
    });
    stage.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
      fingers.set(event.pointerId, event);
      if (other) {
        const [was, is] = [before, event].map(({ clientX, clientY }) => ({
          x: (clientX + other.clientX) / 2, y: (clientY + other.clientY) / 2,
          apart: Math.max(1, Math.hypot(clientX - other.clientX, clientY - other.clientY)) }));
        this.zoom(is.apart / was.apart, was.x, was.y);
        this.place(this.scale, this.x + is.x - was.x, this.y + is.y - was.y);
      } else if (sliding) this.compare.follow(event);
      else this.place(this.scale, this.x + event.clientX - before.clientX, this.y + event.clientY - before.clientY);
    });
    for (const end of ["pointerup", "pointercancel"])
      stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
    byId("viewer").addEventListener("keydown", (event) => this.key(event));
    byId("viewer").addEventListener("close", () => this.entry.compare.element.focus());
    for (const button of document.querySelectorAll("#bar button"))
      button.addEventListener("click", () => this.do(button.dataset.do));
    addEventListener("resize", () => byId("viewer").open && this.fit());
  },
};

// The page

function makePairs() {
  const pairs = page.pairs.filter((views) => page.entries.some((entry) => views.every((view) => view in entry.views)));
  if (pairs.length < 2) return;
  for (const views of pairs) {
    const button = make("input", { type: "radio", name: "pair", checked: views === pairs[0] });
    button.addEventListener("change", () => {
      pair = views;
      for (const { compare } of page.entries) compare?.show(views);
    });
    byId("pairs").append(make("label", {}, button, ` ${views.map((view) => page.labels[view]).join(" | ")}`));
  }
}

function switchTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

let pair = page.pairs[0];
document.querySelector("h1").textContent = page.title;
byId("subtitle").textContent = page.subtitle;
document.querySelector("footer").textContent = page.footer;
byId("facts").append(...page.facts.map(([name, value]) =>
  make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }))));
page.entries.forEach((entry, index) => {
  entry.index = index;
  entry.pair = page.pairs.find((views) => views.every((view) => view in entry.views));
});
makePairs();
makeHead();
for (const entry of page.entries) Object.assign(entry, { card: makeCard(entry), row: makeRow(entry) });
sort(page.first.key, page.first.falling);
find("");
byId("find").addEventListener("input", (event) => find(event.target.value));
byId("theme").addEventListener("click", switchTheme);
viewer.listen();
