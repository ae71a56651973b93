"use strict";
(() => {
  const PAPER = 680; // pixels: the width of a printed page inside its margins, at 96 to the inch
  const GAP = 32; // between two figures side by side
  const config = {
    responsive: true,
    displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
    displaylogo: false,
    showTips: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };
  const plots = [...document.querySelectorAll("figure.plot")];

  function draw(plot) {
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "yes";
    const { data, layout } = JSON.parse(plot.querySelector("script").textContent);
    const canvas = plot.querySelector(".canvas");
    // A finger scrolls the page; a mouse selects a part of the figure.
    layout.dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;
    if (canvas.clientWidth < 500) {
      layout.font.size = 11;
      for (const axis of [layout.xaxis, layout.yaxis]) if (axis) axis.title.font.size = 11;
    }
    const name = plot.id.replace("fig-", "");
    const image = { format: "svg", filename: name, width: 900, height: canvas.clientHeight };
    return Plotly.newPlot(canvas, data, layout, { ...config, toImageButtonOptions: image });
  }

  // Figures far below are not worth waiting for.
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      seen.unobserve(entry.target);
      draw(entry.target);
    }),
    { rootMargin: "400px" },
  );
  plots.forEach((plot) => seen.observe(plot));

  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((folded) => {
    folded.open = true;
  }));
  addEventListener("beforeprint", () => plots.forEach((plot) => {
    draw(plot);
    const pair = plot.parentElement.classList.contains("pair");
    Plotly.relayout(plot.querySelector(".canvas"), { width: pair ? (PAPER - GAP) / 2 : PAPER });
  }));
  addEventListener("afterprint", () => plots.forEach((plot) => {
    Plotly.relayout(plot.querySelector(".canvas"), { width: null, autosize: true });
  }));

  function key(row, column) {
    const cell = row.cells[column];
    const value = cell.dataset.sort ?? cell.textContent;
    const number = Number(value);
    return value === "" || Number.isNaN(number) ? value : number;
  }

  function compare(a, b) {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[table.tBodies.length - 1];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.ariaSort];
      heads.forEach((other) => { other.ariaSort = "none"; });
      head.ariaSort = order;
      const rows = [...original];
      if (order !== "none") {
        const sign = order === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          const [x, y] = [key(a, column), key(b, column)];
          const unknown = (x === "") - (y === ""); // comes last in either order
          return unknown || sign * compare(x, y);
        });
      }
      body.append(...rows);
    }));
  });
})();
