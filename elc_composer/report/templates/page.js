function each(selector, action) {
  for (const element of document.querySelectorAll(selector)) action(element);
}

/** Show the small charts of the figure that is picked in the list. */
function pickFigure() {
  const select = document.getElementById("figure");
  if (!select) return;
  document.getElementById("figure-title").textContent = select.selectedOptions[0].text;
  each("[data-figure]", (element) => {
    element.hidden = element.dataset.figure !== select.value;
  });
}

each("[data-chart]", addLineChart);
each("[data-heatmap]", addHeatmap);
each("[data-histogram]", addHistogram);
each("#weights, #mixed", (section) => {
  if (section.querySelector(".slide")) addSlider(section, data.heatmaps[section.id]);
});
each("#distributions", (section) => {
  if (section.querySelector(".slide")) addSlider(section, data.histograms);
});
each("[data-switch]", (input) => {
  input.addEventListener("change", () => {
    const run = Number(input.dataset.switch);
    if (input.checked) hidden.delete(run);
    else hidden.add(run);
    each("[data-run]", (element) => {
      element.hidden = hidden.has(Number(element.dataset.run));
    });
    redraw(drawings);
  });
});
each("#figure", (select) => select.addEventListener("change", pickFigure));
pickFigure();
setStep(moment.step, false);
stepOfAddress();
window.addEventListener("hashchange", stepOfAddress);
