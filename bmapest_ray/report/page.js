"use strict";
// Draws the charts and keeps their texts in the colour of the page: light, dark or paper.
(() => {
  const root = document.documentElement;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const charts = [];

  const ink = () => getComputedStyle(root).getPropertyValue("--ink").trim();

  const recolour = () => {
    for (const node of charts) {
      Plotly.relayout(node, { "font.color": ink() });
    }
  };

  const setTheme = (theme) => {
    root.dataset.theme = theme;
    recolour();
  };

  root.dataset.theme = prefersDark.matches ? "dark" : "light";
  for (const source of document.querySelectorAll("script[data-chart]")) {
    const node = document.getElementById(source.dataset.chart);
    const figure = JSON.parse(source.textContent);
    figure.layout.font = { ...figure.layout.font, color: ink() };
    Plotly.newPlot(node, figure.data, figure.layout, {
      responsive: true, displaylogo: false, showSendToCloud: false,
    });
    charts.push(node);
  }

  document.getElementById("theme").addEventListener("click", () => {
    setTheme(root.dataset.theme === "dark" ? "light" : "dark");
  });
  prefersDark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));

  let before = root.dataset.theme;
  window.addEventListener("beforeprint", () => { before = root.dataset.theme; setTheme("light"); });
  window.addEventListener("afterprint", () => setTheme(before));
})();
