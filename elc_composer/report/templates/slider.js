/** The step that all sliders show. */
const moment = { step: Math.max(...data.runs.map((run) => run.step), 0), listeners: [] };

function setStep(step, keep) {
  moment.step = step;
  for (const listen of moment.listeners) listen();
  if (keep) {
    try {
      history.replaceState(null, "", `#step=${step}`);
    } catch {
      // some viewers give pages no address; the slider works without it
    }
  }
}

function stepOfAddress() {
  const found = /step=(\d+)/.exec(location.hash);
  if (found) setStep(Number(found[1]), false);
}

/** Connect a section's slider and its Play button; `entries` hold the steps to stop at. */
function addSlider(section, entries) {
  const [input, output, play] = section.querySelector(".slide").children;
  const steps = [...new Set(entries.flatMap((entry) => (entry ? entry.steps : [])))].sort((one, other) => one - other);
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  input.max = steps.length - 1;
  input.addEventListener("input", () => {
    stop();
    setStep(steps[Number(input.value)], true);
  });
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    play.textContent = "Stop";
    let place = Number(input.value) < steps.length - 1 ? Number(input.value) : -1;
    timer = setInterval(() => {
      place += 1;
      setStep(steps[place], true);
      if (place >= steps.length - 1) stop();
    }, Math.max(60, 6000 / steps.length));
  });
  moment.listeners.push(() => {
    const place = placeOf(steps, moment.step);
    input.value = place;
    input.setAttribute("aria-valuetext", `step ${steps[place]}`);
    output.textContent = `step ${steps[place].toLocaleString("en")}`;
  });
}

function shareText(share) {
  if (share === null) return "?";
  return share >= 0.995 ? "1" : share.toFixed(2).replace(/^0/, "");
}

/** A run's heatmap of layers (rows) and sources (columns) at the slider's step. */
function addHeatmap(element) {
  const run = Number(element.dataset.run);
  const entry = data.heatmaps[element.dataset.heatmap][run];
  const { labels, sources } = entry;
  const frame = () => entry.frames[placeOf(entry.steps, moment.step)];
  const title = () => `${data.runs[run].name}, step ${entry.steps[placeOf(entry.steps, moment.step)].toLocaleString("en")}`;
  const names = Array.from({ length: sources }, (_, i) => (i ? String(i) : "emb"));
  const figure = (available) => {
    const { l, r, t, b } = entry.layout.margin;
    const cell = Math.min(36, (available - l - r) / sources);
    const cells = frame().flatMap((shares, layer) => shares.map((share, source) => ({ share, source, layer })));
    const { colorscale, onPale, onStrong, heatTurn } = theme();
    const heatmap = { type: "heatmap", z: frame(), colorscale, zmin: 0, zmax: 1, showscale: false, xgap: 1, ygap: 1 };
    heatmap.customdata = labels.map((label) => names.map((name) => [label, name]));
    heatmap.hovertemplate = "layer %{customdata[0]} reads %{z:.4f} of source %{customdata[1]}<extra></extra>";
    const numbers = {
      type: "scatter",
      mode: "text",
      x: cells.map((each) => each.source),
      y: cells.map((each) => each.layer),
      text: cells.map((each) => shareText(each.share)),
      textfont: {
        size: Math.max(6, Math.min(12, cell * 0.38)),
        color: cells.map(({ share }) => (Math.sqrt(share) > heatTurn ? onStrong : onPale)),
      },
      hoverinfo: "skip",
    };
    const size = { width: l + r + cell * sources, height: t + b + Math.max(cell, 14) * labels.length };
    return { traces: [heatmap, numbers], layout: { ...structuredClone(entry.layout), ...size } };
  };
  const name = `${data.runs[run].name} ${element.dataset.heatmap}`;
  const drawing = addDrawing(element, name, several ? 2 : 1, figure, () => `Heatmap of ${title()}`);
  const details = element.querySelector("details");
  const values = () => {
    if (details.open) showTable(details, ["layer", ...names], frame().map((shares, i) => [labels[i], ...shares.map(write)]));
  };
  details.addEventListener("toggle", values);
  moment.listeners.push(() => {
    element.querySelector("figcaption").textContent = title();
    values();
    redrawSoon(drawing);
  });
}

/** Histograms of one unit at the slider's step, all runs in one chart. */
function addHistogram(element) {
  const unit = element.dataset.histogram;
  const found = data.histograms
    .map((entry, run) => ({ run, entry, column: entry ? entry.units.indexOf(unit) : -1 }))
    .filter(({ column }) => column >= 0);
  const all = found.flatMap(({ entry, column }) => entry.frames.map((frame) => frame[column]).filter(Boolean));
  const low = Math.min(...all.map((bars) => bars[0]));
  const high = Math.max(...all.map((bars) => bars[1]));
  const share = (bars) => {
    const sum = bars[2].reduce((total, count) => total + count, 0) || 1;
    return bars[2].map((count) => count / sum);
  };
  const peak = Math.sqrt(Math.max(...all.map((bars) => Math.max(...share(bars)))));
  const shown = () =>
    found
      .map(({ run, entry, column }) => ({ run, bars: entry.frames[placeOf(entry.steps, moment.step)][column] }))
      .filter(({ run, bars }) => bars && !hidden.has(run));
  const figure = () => {
    const traces = shown().map(({ run, bars }) => {
      const width = (bars[1] - bars[0]) / bars[2].length;
      const shares = share(bars);
      const colour = theme().series[run % theme().series.length];
      return {
        type: "scatter",
        // a step for each bin, down to the ground at both ends
        x: [bars[0], ...shares.map((_, i) => bars[0] + i * width), bars[1]],
        y: [0, ...shares.map(Math.sqrt), 0],
        customdata: [shares[0], ...shares, shares.at(-1)],
        hovertemplate: "%{customdata:.3~%} from %{x}<extra></extra>",
        line: { shape: "hv", width: 1.2, color: colour },
        fill: "tozeroy",
        fillcolor: `${colour}${several ? "14" : "4d"}`,
      };
    });
    const layout = structuredClone(data.histogramLayout);
    layout.xaxis.range = low < high ? [low, high] : [low - 1, high + 1];
    Object.assign(layout.xaxis, { tickvals: [low, high], ticktext: [write(low), write(high)] });
    layout.yaxis.range = [0, peak * 1.05 || 1];
    return { traces, layout };
  };
  const words = ({ run, bars }) => `${data.runs[run].name}: ${write(bars[0])} to ${write(bars[1])}`;
  const label = () => `Histogram of the weights of ${unit}; ${shown().map(words).join("; ")}`;
  const drawing = addDrawing(element, `histogram ${unit}`, 3, figure, label);
  moment.listeners.push(() => redrawSoon(drawing));
}
