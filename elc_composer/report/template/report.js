/** Histograms of every unit at the slider's step, all runs in each. */
function histogramCharts() {
  const steps = allSteps(data.histograms);
  if (!steps.length) return [];
  // the order of the run that has most, so that another's layers stand between its own
  const found = data.histograms.filter(Boolean).sort((one, other) => other.units.length - one.units.length);
  const units = [...new Set(found.flatMap((entry) => entry.units))];
  return [slider(steps, "histograms"), make("div", { class: "small" }, ...units.map(histogramChart))];
}

function histogramChart(unit) {
  const stage = make("div", {});
  const found = data.histograms
    .map((entry, run) => ({ run, entry, column: entry ? entry.units.indexOf(unit) : -1 }))
    .filter(({ column }) => column >= 0);
  const all = found.flatMap(({ entry, column }) => entry.frames.map((frame) => frame[column]).filter(Boolean));
  const low = Math.min(...all.map((bars) => bars[0]));
  const high = Math.max(...all.map((bars) => bars[1]));
  const sum = (counts) => counts.reduce((total, count) => total + count, 0) || 1;
  const peak = Math.max(...all.map((bars) => Math.max(...bars[2]) / sum(bars[2])));
  const [width, height, foot] = [240, 110, 16];
  const x = (value) => 4 + ((value - low) / (high - low || 1)) * (width - 8);
  const draw = () => {
    const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    const words = [];
    for (const { run, entry, column } of found) {
      const bars = entry.frames[placeOf(entry.steps, moment.step)][column];
      if (!bars || hidden.has(run)) continue;
      svg.append(outline(bars, sum(bars[2]) * peak, x, height - foot, run));
      words.push(`${data.runs[run].name}: ${write(bars[0])} to ${write(bars[1])}`);
    }
    for (const [value, anchor] of [[low, "start"], [high, "end"]]) {
      svg.append(makeSvg("text", { x: x(value), y: height - 3, "text-anchor": anchor }, write(value)));
    }
    if (low < 0 && high > 0) {
      svg.append(makeSvg("line", { x1: x(0), x2: x(0), y1: 2, y2: height - foot, stroke: "var(--rule)", "stroke-dasharray": "2 3" }));
    }
    svg.setAttribute("aria-label", `Histogram of the weights of ${unit}; ${words.join("; ")}`);
    stage.replaceChildren(svg);
  };
  moment.listeners.push(draw);
  redraws.push(draw);
  return make("figure", {}, make("figcaption", {}, unit), stage);
}

/** A histogram as an outline; `most` is the count that reaches the top. */
function outline([low, high, counts], most, x, ground, run) {
  const bin = (high - low) / counts.length;
  const points = [`${x(low)},${ground}`];
  counts.forEach((count, i) => {
    const top = (ground - Math.sqrt(count / most) * (ground - 4)).toFixed(1);
    points.push(`${x(low + i * bin).toFixed(1)},${top}`, `${x(low + (i + 1) * bin).toFixed(1)},${top}`);
  });
  points.push(`${x(high)},${ground}`);
  const look = { fill: colour(run), "fill-opacity": several ? 0.08 : 0.3, stroke: colour(run), "stroke-width": 1.2 };
  return makeSvg("polygon", { points: points.join(" "), ...look });
}

/** Small charts of one figure at a time, picked from a list. */
function pickedCharts(panels) {
  const groups = Object.entries(data.figures)
    .map(([figure, title]) => ({ title, figure, panels: panels.filter((panel) => panel.figure === figure) }))
    .filter((group) => group.panels.length);
  if (!groups.length) return [];
  const select = make("select", {}, ...groups.map(({ figure, title }) => make("option", { value: figure }, title)));
  const boxes = groups.map(() => make("div", { class: "small" }));
  const title = make("h3", {});
  const pick = () => {
    groups.forEach((group, i) => {
      boxes[i].hidden = group.figure !== select.value;
      boxes[i].style.display = boxes[i].hidden ? "none" : "";
      if (!boxes[i].hidden) title.textContent = `${group.title} over training`;
      if (!boxes[i].hidden && !boxes[i].children.length) {
        boxes[i].append(...group.panels.map(chart));
        redraw();
      }
    });
  };
  select.addEventListener("change", pick);
  pick();
  return [title, make("label", {}, "Figure: ", select), ...boxes];
}

function runSwitches() {
  if (!several) return;
  const box = document.getElementById("shown");
  box.hidden = false;
  data.runs.forEach((run, number) => {
    const input = make("input", { type: "checkbox", checked: "" });
    input.addEventListener("change", () => {
      if (input.checked) hidden.delete(number);
      else hidden.add(number);
      redraw();
    });
    box.append(make("label", {}, input, make("span", { class: "swatch", style: `background: ${colour(number)}` }), run.name));
  });
}

function charts(section) {
  const panels = data.panels.filter((panel) => panel.section === section && !panel.figure);
  const large = panels.filter((panel) => !panel.small).map(chart);
  const small = panels.filter((panel) => panel.small).map(chart);
  const parts = [];
  if (large.length) parts.push(make("div", { class: "wide" }, ...large));
  if (small.length) parts.push(make("div", { class: "small" }, ...small));
  return parts;
}

function fill(section, ...parts) {
  document.querySelector(`#${section} .drawn`).append(...parts);
}

for (const panel of data.panels) {
  panel.lines.filter((line) => line.style !== "faint").forEach((line, number) => {
    line.number = number;
  });
}
runSwitches();
fill("weights", ...heatmaps("weights", "the layer weights"));
fill("mixed", ...heatmaps("mixed", "the mixed inputs"));
fill("distributions", ...histogramCharts());
for (const section of ["loss", "pairs", "mixed", "speed", "gradients", "learning-rate"]) fill(section, ...charts(section));
if (data.grids.length) {
  const grids = make("details", several ? {} : { open: "" }, make("summary", {}, "Every paradigm"));
  grids.append(make("div", { class: "beside roomy" }, ...data.grids.map(accuracyGrid)));
  fill("pairs", grids);
}
fill("distributions", ...pickedCharts(data.panels.filter((panel) => panel.figure)));
redraw();
setStep(moment.step, false);
stepOfAddress();
window.addEventListener("hashchange", stepOfAddress);
dark.addEventListener("change", redraw);
