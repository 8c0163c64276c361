/** The step that all sliders show. */
const moment = { step: Math.max(...data.runs.map((run) => run.step), 0), listeners: [] };

function setStep(step, keep) {
  moment.step = step;
  for (const listen of moment.listeners) listen();
  if (keep) {
    try {
      history.replaceState(null, "", `#step=${step}`);
    } catch {
      // some viewers give pages no address of their own; the slider works all the same
    }
  }
}

function stepOfAddress() {
  const found = /step=(\d+)/.exec(location.hash);
  if (found) setStep(Number(found[1]), false);
}

/** A slider over steps, with a button that plays them; `name` says what it moves. */
function slider(steps, name) {
  const input = make("input", { type: "range", min: 0, max: steps.length - 1, step: 1, "aria-label": `Step of ${name}` });
  const output = make("output", {});
  const play = make("button", { type: "button" }, "Play");
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  const move = (place) => setStep(steps[place], true);
  input.addEventListener("input", () => {
    stop();
    move(Number(input.value));
  });
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    play.textContent = "Stop";
    let place = Number(input.value) < steps.length - 1 ? Number(input.value) : -1;
    timer = setInterval(() => {
      place += 1;
      move(place);
      if (place >= steps.length - 1) stop();
    }, Math.max(60, 6000 / steps.length));
  });
  moment.listeners.push(() => {
    const place = placeOf(steps, moment.step);
    input.value = place;
    input.setAttribute("aria-valuetext", `step ${steps[place]}`);
    output.textContent = `step ${steps[place].toLocaleString("en")}`;
  });
  return make("div", { class: "slide" }, input, output, play);
}

function allSteps(found) {
  return [...new Set(found.flatMap((entry) => (entry ? entry.steps : [])))].sort((a, b) => a - b);
}

function shareText(share) {
  if (share === null) return "?";
  return share >= 0.995 ? "1" : share.toFixed(2).replace(/^0/, "");
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** A cell's shade; from some strength on its text is better read in the other ink. */
function paint(cell, strength, tone) {
  const turns = dark.matches && !printing ? { "--heat": 0.605, "--low": 0.585 } : { "--heat": 0.845, "--low": 1 };
  cell.style.background = `color-mix(in srgb, var(${tone}) ${(100 * strength).toFixed(1)}%, var(--card))`;
  cell.style.color = strength > turns[tone] ? "var(--on-strong)" : "var(--on-pale)";
}

/** Layer-by-source tables of all runs, side by side under one slider. */
function heatmaps(key, name) {
  const found = data[key];
  const steps = allSteps(found);
  if (!steps.length) return [];
  const tables = make("div", { class: "beside" });
  found.forEach((entry, run) => {
    if (entry) tables.append(heatmap(entry, run));
  });
  return [slider(steps, name), tables];
}

function heatmap(entry, run) {
  const sources = Math.max(...entry.frames[entry.frames.length - 1].map((row) => row.length));
  const names = Array.from({ length: sources }, (_, i) => (i ? String(i) : "emb"));
  const head = make("tr", {}, make("td", {}), ...names.map((name) => make("th", { scope: "col" }, name)));
  const rows = entry.labels.map((label, layer) => {
    const width = entry.frames[entry.frames.length - 1][layer].length;
    const title = /^\d+$/.test(label) ? `layer ${label}` : label;
    return make("tr", {}, make("th", { scope: "row" }, title), ...Array.from({ length: width }, () => make("td", {})));
  });
  const caption = make("caption", {});
  const size = { class: "heat shares", style: `--sources: ${sources}` };
  const table = make("table", size, caption, make("thead", {}, head), make("tbody", {}, ...rows));
  const whole = make("div", { class: "scroll measured", "data-run": run, tabindex: 0, role: "group", "aria-label": "heatmap" }, table);
  const draw = () => {
    whole.hidden = hidden.has(run);
    const place = placeOf(entry.steps, moment.step);
    caption.textContent = `${data.runs[run].name}, step ${entry.steps[place].toLocaleString("en")}`;
    entry.frames[place].forEach((shares, layer) => {
      shares.forEach((share, source) => {
        const cell = rows[layer].children[source + 1];
        if (!cell) return;
        cell.textContent = shareText(share);
        paint(cell, share === null ? 0 : Math.sqrt(share), "--heat");
      });
    });
  };
  moment.listeners.push(draw);
  redraws.push(draw);
  return whole;
}

/** Accuracies of all paradigms of one set and run: rows paradigms, columns evaluations. */
function accuracyGrid(grid) {
  const head = grid.steps.map((step) => make("th", { scope: "col" }, step.toLocaleString("en")));
  const rows = [];
  const painted = [];
  let group = null;
  for (const row of grid.rows) {
    if (row.group !== group && row.group !== row.name) {
      const title = make("th", { scope: "colgroup", colspan: grid.steps.length + 1 }, row.group.replaceAll("_", " "));
      title.style.textAlign = "left";
      rows.push(make("tr", {}, title));
    }
    group = row.group;
    const cells = row.values.map((value) => {
      const cell = make("td", {}, value === null ? "" : String(Math.round(100 * value)));
      if (value !== null) painted.push([cell, Math.abs(value - 0.5) * 2 * 0.9, value < 0.5 ? "--low" : "--heat"]);
      return cell;
    });
    rows.push(make("tr", {}, make("th", { scope: "row" }, row.name.replaceAll("_", " ")), ...cells));
  }
  const top = make("tr", {}, make("th", { scope: "col" }, "paradigm, % at step"), ...head);
  const caption = make("caption", {}, `${data.runs[grid.run].name}: ${grid.label}`);
  const table = make("table", { class: "heat grid" }, caption, make("thead", {}, top), make("tbody", {}, ...rows));
  const whole = make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "accuracies by paradigm" }, table);
  redraws.push(() => {
    whole.hidden = hidden.has(grid.run);
    for (const [cell, strength, tone] of painted) paint(cell, strength, tone);
  });
  return whole;
}
