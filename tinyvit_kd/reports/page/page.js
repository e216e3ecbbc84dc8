"use strict";
// Unpacks plotly, draws the charts, and lets the reader choose what they show. Nothing is loaded from anywhere.
(async () => {
  const page = JSON.parse(document.getElementById("drawing").textContent);
  const byId = (id) => document.getElementById(id);
  const media = (query) => window.matchMedia(query);
  const dark = media("(prefers-color-scheme: dark)");
  const choice = { axis: "step", log: false, range: true, smooth: 1, hidden: new Set() };
  const AXES = { step: "step", epoch: "epoch", hours: "hours in training" };
  if (Math.max(0, ...page.places.map((place) => (place.hours || [0]).at(-1))) < 2) {
    AXES.hours = "minutes in training";
    for (const place of page.places) place.hours &&= place.hours.map((each) => each * 60);
  }

  // gzip in base64, a third of its size; the page's policy knows the hash of what comes out.
  async function unpack(id) {
    const packed = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  // Names come from strangers; plotly reads some markup in texts.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function traces(chart) {
    if (chart.scatter) return chart.scatter.flatMap((group) => (choice.hidden.has(group.source) ? [] : points(group)));
    return chart.curves.flatMap((curve) => {
      const source = page.sources[curve.source];
      const place = page.places[curve.place];
      const x = chart.axis ? place.x : place[choice.axis];
      if (choice.hidden.has(curve.source) || !x) return [];
      const smooth = chart.axis ? 1 : choice.smooth;
      const line = {
        type: "scatter",
        x,
        y: smoothed(curve.y, smooth),
        name: plain(source.name),
        mode: x.length > 40 ? "lines" : "lines+markers",
        line: { color: source.colour, dash: source.dashes || "solid", width: x.length > 200 ? 1.5 : 2 },
        cliponaxis: false,
        marker: { color: source.colour, symbol: source.mark, size: 6 },
        hovertemplate: `%{y:.5~g}${chart.unit ? ` ${chart.unit}` : ""}`,
      };
      const behind = smooth > 1 ? faint(curve, x, source) : curve.low && choice.range ? band(curve, x, source) : [];
      return [...behind, line];
    });
  }

  // Means over neighbours on both sides, as many as there are; a gap stays a gap.
  function smoothed(values, size) {
    if (size === 1) return values;
    const half = (size - 1) / 2;
    return values.map((value, place) => {
      const near = values.slice(Math.max(0, place - half), place + half + 1).filter((each) => each !== null);
      return value === null ? null : near.reduce((sum, each) => sum + each, 0) / near.length;
    });
  }

  // What a smoothed curve was made from.
  function faint(curve, x, source) {
    const line = { color: `${source.colour}40`, width: 1 };
    return [{ type: "scatter", x, y: curve.y, mode: "lines", line, hoverinfo: "skip" }];
  }

  // Where both axes have the same value.
  function diagonal() {
    const line = { color: colour("--quiet"), width: 1, dash: "dot" };
    return { type: "scatter", x: [0, 100], y: [0, 100], mode: "lines", line, hoverinfo: "skip" };
  }

  // The smallest and the largest of the values behind each point, as an area behind the line of their means.
  function band(curve, x, source) {
    const edge = { type: "scatter", x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    return [
      { ...edge, y: curve.low },
      { ...edge, y: curve.high, fill: "tonexty", fillcolor: `${source.colour}33` },
    ];
  }

  // Single points with their errors, and a line through those of the front.
  const ROLES = { plain: ["-open", 7], front: ["", 8], base: ["", 12], winner: [null, 17] };
  function points(group) {
    if (group.x.length === 0) return [];
    const source = page.sources[group.source];
    const symbol = (role) => (ROLES[role][0] === null ? "star" : source.mark + ROLES[role][0]);
    const front = group.x.map((x, place) => [x, group.y[place], group.roles[place]]);
    const joined = front.filter((each) => each[2] !== "plain").sort((one, other) => one[0] - other[0]);
    const shared = { type: "scatter", name: plain(source.name), cliponaxis: false };
    const line = { color: source.colour, dash: source.dashes || "solid", width: 1.5 };
    return [
      { ...shared, x: joined.map((each) => each[0]), y: joined.map((each) => each[1]), mode: "lines", line, hoverinfo: "skip" },
      {
        ...shared,
        x: group.x,
        y: group.y,
        mode: "markers",
        error_y: { type: "data", array: group.errors, color: `${source.colour}99`, thickness: 1, width: 2 },
        marker: {
          color: source.colour,
          symbol: group.roles.map(symbol),
          size: group.roles.map((role) => ROLES[role][1]),
          line: { color: source.colour, width: 1.5 },
        },
        text: group.names.map((name, place) => `${plain(name)}<br>${group.y[place]} ± ${group.errors[place]}`),
        hovertemplate: "%{text}",
      },
    ];
  }

  // Vertical lines: limits of rounds in their colours, the last limit, and published networks.
  function marks(chart) {
    const shown = (chart.lines || []).filter((line) => line.source === null || !choice.hidden.has(line.source));
    const grey = "#7d8791"; // which shows on a light and on a dark page
    const shapes = shown.map((line) => {
      const look = line.source !== null ? { dash: "dot", width: 1 } : { dash: line.limit ? "dash" : "solid", width: 1 };
      const colour = line.source === null ? grey : page.sources[line.source].colour;
      return { type: "line", x0: line.at, x1: line.at, y0: 0, y1: 1, yref: "paper", layer: "below", line: { color: colour, ...look } };
    });
    const annotations = shown
      .filter((line) => line.name)
      .map((line) => ({
        x: line.at,
        y: line.limit ? 0 : 1,
        yref: "paper",
        yanchor: line.limit ? "bottom" : "top",
        xanchor: "right",
        text: plain(line.name),
        textangle: -90,
        showarrow: false,
        font: { size: 10, color: grey },
      }));
    return { shapes, annotations };
  }

  // 11k, but not 100μ.
  const large = (chart) => !chart.scatter && chart.curves.some((curve) => curve.y.some((each) => Math.abs(each) >= 1000));

  function layout(chart, box) {
    const axis = { zeroline: false, automargin: true, fixedrange: media("(pointer: coarse)").matches };
    return {
      width: box.clientWidth,
      height: Math.round(Math.min(300, Math.max(210, box.clientWidth * 0.6))),
      margin: { l: 48, r: 12, t: 8, b: 40 },
      font: { family: "inherit", size: 12 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      showlegend: false,
      hovermode: chart.scatter ? "closest" : "x unified",
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { color: colour("--ink") }, namelength: 40 },
      dragmode: axis.fixedrange ? false : "zoom",
      ...marks(chart),
      xaxis: {
        ...axis,
        title: { text: chart.axis || AXES[choice.axis], standoff: 6 },
        rangemode: chart.scatter ? "normal" : "tozero",
        ...(chart.scatter ? { nticks: 6, exponentformat: "SI" } : {}),
      },
      yaxis: { ...axis, type: choice.log && !chart.axis ? "log" : "linear", exponentformat: large(chart) ? "SI" : "e", nticks: 6 },
    };
  }

  // On paper the drawing is scaled to the width that it finds there, by its view box.
  function scalable(box) {
    const inner = box.querySelector(".svg-container");
    const { width, height } = box._fullLayout;
    inner.style.aspectRatio = `${width} / ${height}`;
    for (const svg of box.querySelectorAll(".main-svg")) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  async function draw(box) {
    const chart = page.charts[box.dataset.chart];
    const shown = traces(chart);
    if (chart.diagonal && shown.length) shown.unshift(diagonal());
    box.parentElement.classList.toggle("nothing", shown.length === 0);
    await window.Plotly.react(box, shown, layout(chart, box), { displayModeBar: false, displaylogo: false });
    scalable(box);
  }

  async function drawAll() {
    for (const box of document.querySelectorAll("[data-chart]")) await draw(box);
  }

  function listen() {
    for (const input of document.querySelectorAll("[data-source]")) {
      input.addEventListener("change", () => {
        const number = Number(input.dataset.source);
        choice.hidden[input.checked ? "delete" : "add"](number);
        drawAll();
      });
    }
    for (const button of document.querySelectorAll("[data-all]")) {
      button.addEventListener("click", () => {
        for (const input of document.querySelectorAll("[data-source]")) {
          input.checked = button.dataset.all === "on";
          choice.hidden[input.checked ? "delete" : "add"](Number(input.dataset.source));
        }
        drawAll();
      });
    }
    byId("axis")?.addEventListener("change", (event) => ((choice.axis = event.target.value), drawAll()));
    byId("smooth")?.addEventListener("change", (event) => ((choice.smooth = Number(event.target.value)), drawAll()));
    byId("log")?.addEventListener("change", (event) => ((choice.log = event.target.checked), drawAll()));
    byId("range")?.addEventListener("change", (event) => ((choice.range = event.target.checked), drawAll()));
    dark.addEventListener("change", drawAll);
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      if (window.innerWidth !== width && !media("print").matches) drawAll();
      width = window.innerWidth;
    });
    // What is folded has to be open on paper.
    window.addEventListener("beforeprint", () => {
      for (const each of document.querySelectorAll("details:not([open]):not(.long)")) (each.open = true), (each.dataset.shut = "");
    });
    window.addEventListener("afterprint", () => {
      for (const each of document.querySelectorAll("[data-shut]")) (each.open = false), delete each.dataset.shut;
    });
  }

  try {
    if (Object.keys(page.charts).length) await unpack("plotly");
    listen();
    await drawAll();
    document.documentElement.dataset.drawn = "yes";
  } catch (error) {
    document.documentElement.dataset.drawn = "no";
    for (const note of document.querySelectorAll(".undrawn")) note.hidden = false;
    throw error;
  }
})();
