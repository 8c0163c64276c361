const data = JSON.parse(document.getElementById("report-data").textContent);
const several = data.runs.length > 1;
const hidden = new Set();
const redraws = [];
let printing = false;

function redraw() {
  for (const draw of redraws) draw();
}

for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) {
  window.addEventListener(event, () => {
    printing = on;
    redraw();
  });
}

/** An element with attributes and children; text stays text. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function makeSvg(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function colour(number) {
  return `var(--s${number % 8})`;
}

function write(value) {
  if (value === null || value === undefined) return "none";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e7)) return value.toExponential(2);
  if (Number.isInteger(value) || size >= 10000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

/** Index of the last entry of sorted `steps` at or before `step`; 0 where all come after. */
function placeOf(steps, step) {
  let low = 0;
  let high = steps.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (steps[middle] <= step) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** At most `most` items, evenly spread, the first and the last among them. */
function spread(items, most) {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, i) => items[Math.round((i * (items.length - 1)) / (most - 1))]);
}

/** Round values between two ends, about `count` of them. */
function ticks(low, high, count, whole) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const steps = [0.5, 1, 2, 5, 10].map((factor) => factor * power);
  let place = steps.findIndex((candidate) => candidate >= rough * 0.999);
  // one value alone says nothing about the scale
  if (Math.floor(high / steps[place]) - Math.ceil(low / steps[place]) < 1) place -= 1;
  const step = whole ? Math.max(1, Math.round(steps[place])) : steps[place];
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) {
    found.push(Number(value.toPrecision(12)));
  }
  return found;
}

function tableOf(head, rows) {
  const cells = (row, tag) => row.map((cell, i) => (i ? make(tag, {}, cell) : make("th", { scope: "row" }, cell)));
  return make(
    "div",
    { class: "scroll" },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row, "td")))),
    ),
  );
}
