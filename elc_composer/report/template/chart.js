let clips = 0;
const tip = document.getElementById("tip");

/** A line chart of a panel; it redraws itself for its width and for the runs that are shown. */
function chart(panel) {
  const unit = panel.unit && !panel.small ? make("span", {}, ` ${panel.unit}`) : null;
  const legend = make("ul", { class: "legend" });
  const stage = make("div", {});
  const figure = make("figure", { id: `panel-${panel.id}` }, make("figcaption", {}, panel.title, unit), stage);
  if (!panel.small && (several || panel.lines.filter((line) => line.style !== "faint").length > 1)) figure.append(legend);
  figure.append(valuesOf(panel));
  let width = 0;
  const draw = () => {
    width = stage.clientWidth || width || 320;
    const lines = panel.lines.filter((line) => !hidden.has(line.run));
    // charts drawn for a window are scaled to the paper, and their text with them
    stage.replaceChildren(plot(panel, lines, printing ? (panel.small ? 230 : 700) : width));
    legend.replaceChildren(...legendItems(lines));
  };
  redraws.push(draw);
  new ResizeObserver(() => {
    if (!printing && stage.clientWidth && Math.abs(stage.clientWidth - width) > 1) draw();
  }).observe(stage);
  return figure;
}

/** Curves of one run differ in colour where it is alone; else colours are the runs'. */
function colourOf(line) {
  return colour(several ? line.run : line.style === "dash" ? 1 : line.number || 0);
}

function legendItems(lines) {
  const named = lines.filter((line) => line.style !== "faint");
  return named.map((line) => {
    const mark = make("i", { class: line.style, style: `border-color: ${colourOf(line)}` });
    return make("li", {}, mark, line.label);
  });
}

function extent(panel, lines) {
  if (panel.range) return panel.range;
  const values = [];
  for (const line of lines) {
    let finite = line.y.concat(...line.bands.flat()).filter((value) => value !== null);
    if (line.style === "faint") {
      // one spike must not flatten all the rest; the curve is clipped there
      finite.sort((a, b) => a - b);
      finite = [finite[Math.floor(finite.length * 0.005)], finite[Math.floor((finite.length - 1) * 0.995)]];
    }
    for (const value of finite) if (value !== undefined) values.push(value);
  }
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (!values.length) [low, high] = [0, 1];
  // what differs by rounding alone is one value
  if (high - low < 1e-3 * Math.abs(high)) [low, high] = [low - Math.abs(low) / 10, high + Math.abs(high) / 10];
  if (low === high) [low, high] = [low - 1, high + 1];
  if (low > 0 && low < high * 0.3) low = 0;
  const margin = (high - low) * 0.04;
  return [low === 0 ? 0 : low - margin, high + margin];
}

function plot(panel, lines, width) {
  const height = panel.small ? 130 : Math.round(Math.min(280, Math.max(190, width * 0.42)));
  const box = { left: 50, right: 8, top: 8, bottom: 22 };
  const [low, high] = extent(panel, lines);
  const first = Math.min(...lines.map((line) => line.x[0]), Infinity);
  const last = Math.max(...lines.map((line) => line.x[line.x.length - 1]), -Infinity);
  const [start, end] = first < last ? [first, last] : [Number.isFinite(first) ? first - 1 : 0, Number.isFinite(first) ? first + 1 : 1];
  const x = (step) => box.left + ((step - start) / (end - start)) * (width - box.left - box.right);
  const y = (value) => height - box.bottom - ((value - low) / (high - low)) * (height - box.top - box.bottom);
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": inWords(panel, lines) });
  const clip = `clip-${(clips += 1)}`;
  const clipper = makeSvg("clipPath", { id: clip });
  const inner = { x: box.left - 3, y: box.top - 2, width: width - box.left - box.right + 6, height: height - box.top - box.bottom + 4 };
  clipper.append(makeSvg("rect", inner));
  svg.append(clipper);
  axes(svg, { low, high, start, end, x, y, box, width, height }, panel.small);
  if (panel.rule !== null) rule(svg, box.left, width - box.right, y(panel.rule), y(panel.rule));
  if (!panel.small) marks(svg, lines, { start, end, x, top: box.top, bottom: height - box.bottom });
  const inside = makeSvg("g", { "clip-path": `url(#${clip})` });
  for (const line of lines) for (const band of line.bands) inside.append(shade(line, band, x, y));
  for (const line of lines) inside.append(...curve(line, x, y));
  svg.append(inside);
  point(svg, panel, lines, { start, end, x, box, width, height });
  return svg;
}

function axes(svg, at, small) {
  for (const value of ticks(at.low, at.high, small ? 3 : 5)) {
    const line = { x1: at.box.left, x2: at.width - at.box.right, y1: at.y(value), y2: at.y(value), stroke: "var(--line)" };
    svg.append(makeSvg("line", line));
    svg.append(makeSvg("text", { x: at.box.left - 5, y: at.y(value) + 3.5, "text-anchor": "end" }, write(value)));
  }
  for (const step of ticks(at.start, at.end, Math.max(2, Math.floor(at.width / 90)), true)) {
    const anchor = at.x(step) > at.width - 24 ? "end" : "middle";
    svg.append(makeSvg("text", { x: at.x(step), y: at.height - 6, "text-anchor": anchor }, step.toLocaleString("en")));
  }
}

function rule(svg, x1, x2, y1, y2, more) {
  svg.append(makeSvg("line", { x1, x2, y1, y2, stroke: "var(--rule)", "stroke-dasharray": "4 3", ...more }));
}

/** Restarts and stages of the runs shown. */
function marks(svg, lines, at) {
  for (const run of new Set(lines.map((line) => line.run))) {
    for (const event of data.events[run]) {
      if (!["restart", "stage", "fault"].includes(event.kind) || event.step <= at.start || event.step > at.end) continue;
      const look = { stroke: event.kind === "stage" ? "var(--rule)" : "var(--warn)", "stroke-dasharray": "2 3" };
      const mark = makeSvg("g", {});
      mark.append(makeSvg("title", {}, `step ${event.step}: ${event.text}`));
      rule(mark, at.x(event.step), at.x(event.step), at.top, at.bottom, look);
      svg.append(mark);
    }
  }
}

function curve(line, x, y) {
  const parts = [];
  let pen = "M";
  line.x.forEach((step, i) => {
    if (line.y[i] === null) pen = "M";
    else {
      parts.push(`${pen}${x(step).toFixed(1)},${y(line.y[i]).toFixed(1)}`);
      pen = "L";
    }
  });
  const faint = line.style === "faint";
  const look = { fill: "none", stroke: colourOf(line), "stroke-width": faint ? 1 : 1.8, opacity: faint ? 0.3 : 1 };
  if (line.style === "dash") look["stroke-dasharray"] = "6 4";
  const drawn = [makeSvg("path", { d: parts.join(""), ...look })];
  if (line.x.length <= 30) {
    line.x.forEach((step, i) => {
      if (line.y[i] !== null) drawn.push(makeSvg("circle", { cx: x(step), cy: y(line.y[i]), r: 2.4, fill: colourOf(line) }));
    });
  }
  return drawn;
}

function shade(line, [lower, upper], x, y) {
  const there = line.x.map((_, i) => i).filter((i) => lower[i] !== null && upper[i] !== null);
  const corner = (values) => (i) => `${x(line.x[i]).toFixed(1)},${y(values[i]).toFixed(1)}`;
  const points = [...there.map(corner(upper)), ...there.reverse().map(corner(lower))];
  return makeSvg("polygon", { points: points.join(" "), fill: colourOf(line), opacity: 0.2 });
}

/** Values under the pointer. */
function point(svg, panel, lines, at) {
  const cross = makeSvg("line", { y1: at.box.top, y2: at.height - at.box.bottom, stroke: "var(--rule)", visibility: "hidden" });
  svg.append(cross);
  const named = lines.filter((line) => line.style !== "faint" && line.x.length);
  const leave = () => {
    tip.hidden = true;
    cross.setAttribute("visibility", "hidden");
  };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", (event) => {
    const frame = svg.getBoundingClientRect();
    const across = ((event.clientX - frame.left) / frame.width) * at.width;
    const share = (across - at.box.left) / (at.width - at.box.left - at.box.right);
    if (!named.length || share < 0 || share > 1) return leave();
    const wanted = at.start + share * (at.end - at.start);
    const step = nearest(named[0].x, wanted);
    for (const end of ["x1", "x2"]) cross.setAttribute(end, at.x(step));
    cross.setAttribute("visibility", "visible");
    const rows = named.map((line) => `${line.label}: ${write(line.y[line.x.indexOf(nearest(line.x, wanted))])}`);
    tip.textContent = [`step ${step.toLocaleString("en")}`, ...rows].join("\n");
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(4, left) + window.scrollX}px`;
    tip.style.top = `${event.clientY + 14 + window.scrollY}px`;
  });
}

function nearest(steps, wanted) {
  const place = placeOf(steps, wanted);
  const next = steps[place + 1];
  return next !== undefined && next - wanted < wanted - steps[place] ? next : steps[place];
}

function inWords(panel, lines) {
  const named = lines.filter((line) => line.style !== "faint" && line.x.length);
  const ends = named.map((line) => {
    const end = line.x.length - 1;
    return `${line.label} from ${write(line.y[0])} at step ${line.x[0]} to ${write(line.y[end])} at step ${line.x[end]}`;
  });
  return `${panel.title}: ${ends.join("; ")}`;
}

/** The same as a table, made when it is unfolded. */
function valuesOf(panel) {
  const details = make("details", { class: "values" }, make("summary", {}, "Values"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const named = panel.lines.filter((line) => line.style !== "faint");
    const steps = spread([...new Set(named.flatMap((line) => line.x))].sort((a, b) => a - b), 40);
    const cell = (line, step) => (line.x[0] <= step ? write(line.y[placeOf(line.x, step)]) : "");
    const rows = steps.map((step) => [step.toLocaleString("en"), ...named.map((line) => cell(line, step))]);
    details.append(tableOf(["step", ...named.map((line) => line.label)], rows));
  });
  return details;
}
