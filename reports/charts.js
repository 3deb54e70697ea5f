// Charts to zoom and hover, drawn by uPlot from the data in the page; the static figure stays what is printed.
"use strict";
(() => {
  const INKS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A2E", "#7A5C99"];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => value == null ? "–" : Number(value.toPrecision(4)).toLocaleString("en");

  // uPlot wants one ascending x for all series; what a series lacks there is a gap that is bridged.
  const aligned = (lines) => {
    const xs = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const at = new Map(xs.map((x, i) => [x, i]));
    const spread = (x, y) => {
      const out = new Array(xs.length).fill(null);
      x.forEach((value, i) => { out[at.get(value)] = y[i] ?? null; });
      return out;
    };
    return [xs, (line, y) => spread(line.x, y)];
  };

  const chart = (data, [title, lines], box) => {
    const [xs, spread] = aligned(lines);
    const day = (v) => v == null ? "–" : new Date(v * 1000).toISOString().slice(0, 10);
    const series = [{ label: data.x, value: (_, v) => data.time ? day(v) : shown(v) }], columns = [xs], bands = [];
    lines.forEach((line, i) => {
      const ink = INKS[i % INKS.length];
      const style = {
        label: line.name, stroke: ink, spanGaps: true, width: data.dots ? 0 : 1.5, dash: line.dashed ? [6, 4] : [],
        points: { show: data.dots || line.x.length < 20 && !line.dashed, size: 6, fill: ink }, value: (_, v) => shown(v),
      };
      if (data.dots) style.paths = () => null;
      series.push(style);
      columns.push(spread(line, line.y));
      if (line.low.length) {
        const edge = { stroke: "transparent", spanGaps: true, points: { show: false }, value: (_, v) => shown(v) };
        series.push({ ...edge, label: `${line.name}, high` }, { ...edge, label: `${line.name}, low` });
        columns.push(spread(line, line.high), spread(line, line.low));
        bands.push({ series: [series.length - 2, series.length - 1], fill: `${ink}55` });
      }
    });
    const axis = { stroke: css("--ink"), grid: { stroke: css("--rule"), width: 1 }, ticks: { stroke: css("--rule") } };
    const log = data.log_base ? { distr: 3, log: data.log_base } : {};
    return new uPlot({
      title, width: Math.max(260, box.clientWidth), height: 300, series, bands,
      scales: { x: { time: data.time, ...log } }, cursor: { drag: { x: true, y: true, uni: 30 } },
      axes: [{ ...axis, label: data.x, ...(data.time ? {} : { values: (_, ticks) => ticks.map((v) => v == null ? "" : shown(v)) }) },
             { ...axis, label: data.y, size: 64 }],
    }, columns, box);
  };

  for (const block of document.querySelectorAll("script[data-chart]")) {
    const figure = block.closest("figure"), button = figure.querySelector("button.zoom");
    const box = figure.querySelector(".chart"), still = figure.querySelector(".still");
    let drawn = [];
    const draw = () => {
      const data = JSON.parse(block.textContent);
      box.replaceChildren();
      drawn = data.panels.map((panel) => {
        const part = document.createElement("div");
        box.append(part);
        return chart(data, panel, part);
      });
    };
    button.addEventListener("click", () => {
      const open = box.hidden;
      box.hidden = !open;
      still.classList.toggle("behind", open);
      button.setAttribute("aria-pressed", String(open));
      if (open) draw(); else box.replaceChildren();
    });
    addEventListener("resize", () => {
      drawn.forEach((one) => one.setSize({ width: Math.max(260, box.clientWidth), height: 300 }));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (!box.hidden) draw(); });
  }
})();
