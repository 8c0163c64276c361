const data = JSON.parse(document.getElementById("report-data").textContent);
const several = data.runs.length > 1;
const hidden = new Set();

/** An element with attributes and children; text is never parsed as HTML. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function write(value) {
  if (value === null || value === undefined) return "none";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e7)) return value.toExponential(2);
  if (Number.isInteger(value) || size >= 10000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

/** Index of the last entry of the sorted `steps` at or before `step`; 0 if all come after. */
function placeOf(steps, step) {
  const after = steps.findIndex((each) => each > step);
  return Math.max(0, (after < 0 ? steps.length : after) - 1);
}

/** At most `most` items, evenly spaced, with the first and the last. */
function evenlySpaced(items, most) {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, i) => items[Math.round((i * (items.length - 1)) / (most - 1))]);
}

/** Replace the table in a "Values" element. */
function showTable(details, head, rows) {
  const cells = (row) => row.map((cell, i) => (i ? make("td", {}, cell) : make("th", { scope: "row" }, cell)));
  const top = make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name))));
  const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))));
  const table = make("div", { class: "scroll" }, make("table", {}, top, body));
  details.replaceChildren(details.querySelector("summary"), table);
}
