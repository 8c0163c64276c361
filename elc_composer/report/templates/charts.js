/** Widths on A4 and Letter paper in CSS pixels: one, two or three charts side by side. */
const PRINTED_WIDTHS = { 1: 700, 2: 340, 3: 225 };
const dark = window.matchMedia("(prefers-color-scheme: dark)");
// A finger that moves over a chart scrolls the page; zooming is left to the buttons.
const touch = window.matchMedia("(pointer: coarse)");
const drawings = [];
let printing = false;
let waiting = false;

function theme() {
  return data.themes[printing ? "print" : dark.matches ? "dark" : "light"];
}

/** Draw charts as they come near the window: a page may have hundreds. */
const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const drawing = drawings.find((each) => each.stage === target);
      drawing.near = isIntersecting;
      if (isIntersecting && drawing.stale) draw(drawing);
    }
  },
  { rootMargin: "100px" },
);

/**
 * Register a chart. `beside` of them stand side by side on paper, `figure(width)` gives its traces and layout,
 * `label()` its description for screen readers.
 */
function addDrawing(element, name, beside, figure, label) {
  const small = beside > 2;
  // Fixed for good: in plotly.js 4.1, Plotly.react with a changed config, called twice before its promise is
  // resolved, redraws for ever. So the style sheet hides the buttons on paper, not the config.
  const config = {
    displaylogo: false,
    displayModeBar: small && touch.matches ? false : "hover",
    modeBarButtons: [[...(small ? [] : ["zoomIn2d", "zoomOut2d", "pan2d", "zoom2d"]), "resetScale2d", "toImage"]],
    toImageButtonOptions: { format: "png", scale: 2, filename: name },
  };
  const stage = element.querySelector(".stage");
  const drawing = { element, stage, config, beside, figure, label, near: false, stale: true };
  drawings.push(drawing);
  observer.observe(drawing.stage);
  return drawing;
}

function draw(drawing) {
  const { stage, beside } = drawing;
  const width = printing ? PRINTED_WIDTHS[beside] : stage.clientWidth;
  if (!stage.clientWidth) return; // folded or hidden
  drawing.stale = false;
  drawing.width = stage.clientWidth;
  const { traces, layout } = drawing.figure(width);
  const themed = { width, dragmode: touch.matches ? false : "zoom", ...layout, template: theme().template };
  Plotly.react(stage, traces, themed, drawing.config);
  drawing.element.setAttribute("aria-label", drawing.label());
}

/** Draw again what has changed: at once if it is near the window, else when it comes near. */
function redraw(changed) {
  for (const drawing of changed) {
    drawing.stale = true;
    if (drawing.near || printing) draw(drawing);
  }
}

/** Draw again in the next frame: a slider sends more moves than can be drawn. */
function redrawSoon(drawing) {
  drawing.stale = true;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    for (const each of drawings) if (each.stale && each.near) draw(each);
  });
}

function visible(traces) {
  return traces.filter((trace) => !hidden.has(trace.meta.run));
}

/** The trace in the colours of the theme. */
function coloured(trace) {
  const { colour } = trace.meta;
  const found = typeof colour === "string" ? theme()[colour] : theme().series[colour];
  const own = { ...trace, line: { ...trace.line, color: found } };
  if (trace.fill && trace.fill !== "none") own.fillcolor = `${found}33`;
  return own;
}

function addLineChart(element) {
  const chart = data.charts[element.dataset.chart];
  const named = () => visible(chart.data).filter((trace) => trace.meta.words);
  const figure = () => ({ traces: visible(chart.data).map(coloured), layout: structuredClone(chart.layout) });
  const label = () => `${chart.title}: ${named().map((trace) => trace.meta.words).join("; ")}`;
  addDrawing(element, chart.title, chart.small ? 3 : 1, figure, label);
  const details = element.querySelector("details");
  details.addEventListener("toggle", () => {
    const lines = named();
    const steps = [...new Set(lines.flatMap((trace) => trace.x))].sort((one, other) => one - other);
    const cell = (trace, step) => (trace.x[0] <= step ? write(trace.y[placeOf(trace.x, step)]) : "");
    const row = (step) => [step.toLocaleString("en"), ...lines.map((trace) => cell(trace, step))];
    if (details.open) showTable(details, ["step", ...lines.map((trace) => trace.meta.label)], evenlySpaced(steps, 40).map(row));
  });
}

window.addEventListener("resize", () => {
  if (!printing) redraw(drawings.filter(({ stage, width }) => stage.clientWidth !== width));
});
dark.addEventListener("change", () => redraw(drawings));
for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) {
  window.addEventListener(event, () => {
    printing = on;
    redraw(drawings);
  });
}
