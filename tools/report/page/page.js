"use strict";
// Draws the panels: what they show, every text and every colour's name, is in the data.
(async () => {
  const unpack = async (id) => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const data = JSON.parse(await unpack("data"));
  const library = document.createElement("script");
  library.textContent = await unpack("plotly");
  document.head.append(library);

  const root = document.documentElement;
  const asked = new URLSearchParams(location.search);
  const still = asked.has("still"); // for pictures: draw everything at once
  const wanted = asked.get("theme") || root.dataset.theme;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

  const element = (tag, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), attributes);
    made.append(...children);
    return made;
  };
  const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const color = (name) => data.themes[root.dataset.theme][name] || name;
  const alpha = (name, share) => {
    const hex = color(name);
    if (!/^#[0-9a-f]{6}$/i.test(hex)) return hex;
    return `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${share})`;
  };
  // Of texts: the same names, in tones that can be read on the page.
  const ink = (name) => data.inks[root.dataset.theme][name] || color(name);
  // On a coloured cell: dark or light, whichever has more contrast; they are equal at 0.19.
  const readable = (name) => {
    const [r, g, b] = [1, 3, 5].map((at) => (parseInt(color(name).slice(at, at + 2), 16) / 255) ** 2.2);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.19 ? "#111217" : "#fff";
  };
  // Plotly knows no time zones: it gets the local time of the browser as text.
  const local = (seconds) => {
    const at = new Date(seconds * 1000);
    return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 23);
  };
  const grids = new Map();
  const times = (grid) => {
    const key = `${grid.start} ${grid.step} ${grid.count}`;
    if (!grids.has(key)) {
      grids.set(key, Array.from({ length: grid.count }, (_, n) => local(grid.start + n * grid.step)));
    }
    return grids.get(key);
  };

  // ---- Charts ----------------------------------------------------------------------------------
  const layout = (more) => ({
    margin: { l: 8, r: 14, t: 9, b: 22 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "Inter, Helvetica Neue, Arial, sans-serif", size: 11, color: css("dim") },
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: css("panel"), bordercolor: css("line"), font: { color: css("text"), size: 11 } },
    ...more,
  });
  const lines = { gridcolor: "line", zeroline: false, automargin: true, fixedrange: true, ticklabelstandoff: 5 };
  const axisOf = (axis, more = {}) => ({
    ...lines, gridcolor: css("line"), tickvals: axis.ticks, ticktext: axis.texts,
    ...(axis.log ? { type: "log", range: axis.range.map(Math.log10) } : { range: axis.range }), ...more,
  });
  const timeAxis = (grid, width) => ({
    type: "date", range: grid.range.map(local), gridcolor: css("line"), zeroline: false, nticks: Math.max(2, Math.floor(width / 75)),
    ticks: "outside", ticklen: 5, tickcolor: "rgba(0,0,0,0)",
    tickformatstops: [
      { dtickrange: [null, 59999], value: "%H:%M:%S" },
      { dtickrange: [60000, 43200000], value: "%H:%M" },
      { dtickrange: [43200000, null], value: "%b %d" },
    ],
  });
  const marks = (annotations, grid) => {
    const inside = annotations.filter((each) => each.at >= grid.range[0] && each.at <= grid.range[1]);
    return {
      shapes: inside.map((each) => ({
        type: "line", xref: "x", yref: "paper", x0: local(each.at), x1: local(each.at), y0: 0, y1: 1,
        line: { color: color(each.color), width: 1, dash: "dot" },
      })),
      annotations: inside.map((each) => ({
        x: local(each.at), xref: "x", y: 0, yref: "paper", text: "▲", showarrow: false, yanchor: "bottom",
        font: { color: color(each.color), size: 9 }, hovertext: `${each.title}<br>${each.text}`, captureevents: true,
      })),
    };
  };
  const plot = (box, traces, shape) =>
    Plotly.newPlot(box, traces, shape, { displayModeBar: false, responsive: true });

  // The area between two lines: a polygon for each stretch of time in which both are known.
  // Plotly's "tonexty" would fill the gaps as well.
  const band = (x, upper, lower) => {
    const area = { x: [], y: [] };
    let stretch = [];
    const close = () => {
      if (!stretch.length) return;
      const back = [...stretch].reverse();
      area.x.push(...stretch.map((at) => x[at]), ...back.map((at) => x[at]), null);
      area.y.push(...stretch.map((at) => upper[at]), ...back.map((at) => lower[at]), null);
      stretch = [];
    };
    x.forEach((_, at) => (upper[at] === null || lower[at] === null ? close() : stretch.push(at)));
    close();
    return area;
  };

  const timeseries = (view, box, board) => {
    const x = times(view.grid);
    const traces = view.lines.map((line) => ({
      type: "scatter", mode: "lines", x, y: line.y, text: line.texts, name: line.name,
      hovertemplate: `${line.name || "value"}: %{text}<extra></extra>`,
      yaxis: line.right ? "y2" : "y",
      line: {
        color: color(line.color), width: line.width * 1.3,
        dash: line.dash ? "dash" : "solid",
      },
      ...(view.stacked
        ? { stackgroup: "one", fillcolor: alpha(line.color, line.fill / 100) }
        : line.fill && !line.below
          ? { fill: "tozeroy", fillcolor: alpha(line.color, line.fill / 100) }
          : {}),
    }));
    // After the lines, so that a line's number is its trace's.
    const bands = new Map();
    view.lines.forEach((line, number) => {
      if (view.stacked || !line.below || !number) return;
      bands.set(number, traces.length);
      traces.push({
        type: "scatter", mode: "lines", ...band(x, line.y, view.lines[number - 1].y), hoverinfo: "skip",
        yaxis: line.right ? "y2" : "y", line: { width: 0 },
        fill: "toself", fillcolor: alpha(line.color, line.fill / 100),
      });
    });
    const noted = marks(board.annotations, view.grid);
    const limits = view.thresholds.map((each) => ({
      type: "line", xref: "paper", yref: "y", x0: 0, x1: 1, y0: each.value, y1: each.value,
      line: { color: color(each.color), width: 1.2, dash: "dash" },
    }));
    const shape = layout({
      xaxis: timeAxis(view.grid, box.clientWidth), yaxis: axisOf(view.axis),
      ...(view.right ? { yaxis2: axisOf(view.right, { overlaying: "y", side: "right", showgrid: false }) } : {}),
      shapes: [...noted.shapes, ...limits], annotations: noted.annotations,
    });
    const area = element("div", { className: "plot" });
    const shown = view.lines.map((line, number) => ({ line, number })).filter(({ line }) => line.legend);
    const toggle = (number) => (event) => {
      const off = event.currentTarget.classList.toggle("off");
      Plotly.restyle(area, { visible: off ? "legendonly" : true }, [number, bands.get(number)].filter((each) => each !== undefined));
    };
    const swatch = (line) => element("u", { style: `background:${color(line.color)}` });
    if (view.legend === "right") {
      const head = element("tr", {}, element("th", { textContent: "" }), ...view.calcs.map((name) => element("th", { textContent: name })));
      const rows = shown.map(({ line, number }) =>
        element("tr", {}, element("td", { onclick: toggle(number), title: line.name }, swatch(line), line.name),
          ...line.calcs.map((text) => element("td", { textContent: text }))));
      box.append(element("div", { className: "beside" }, area, element("div", { className: "key" }, element("table", {}, head, ...rows))));
    } else {
      box.append(area, element("div", { className: "legend" },
        ...shown.filter(({ line }) => line.name).map(({ line, number }) =>
          element("span", { onclick: toggle(number), title: line.name }, swatch(line), line.name))));
    }
    return plot(area, traces, shape);
  };

  const timeline = (view, box, board) => {
    const texts = [...new Set(view.states.map((each) => each.text))];
    const traces = texts.map((text) => {
      const own = view.states.filter((each) => each.text === text);
      return {
        type: "bar", orientation: "h", name: text, width: 0.8,
        y: own.map((each) => each.name),
        base: own.map((each) => local(each.span[0])),
        x: own.map((each) => (each.span[1] - each.span[0]) * 1000),
        marker: { color: alpha(own[0].color, 0.75) },
        text: own.map((each) => `${each.name}: ${text}<br>${local(each.span[0]).slice(11, 16)} – ${local(each.span[1]).slice(11, 16)}`),
        textposition: "none", hovertemplate: "%{text}<extra></extra>",
      };
    });
    const area = element("div", { className: "plot" });
    box.append(area, element("div", { className: "legend" }, ...texts.map((text) => {
      const state = view.states.find((each) => each.text === text);
      return element("span", {}, element("u", { style: `background:${color(state.color)}` }), text);
    })));
    return plot(area, traces, layout({
      barmode: "overlay", hovermode: "closest", xaxis: timeAxis(view.grid, box.clientWidth), ...marks(board.annotations, view.grid),
      yaxis: { ...lines, gridcolor: "rgba(0,0,0,0)", type: "category", categoryorder: "array", categoryarray: view.names, dtick: 1 },
    }));
  };

  const heatmap = (view, box) => {
    const area = element("div", { className: "plot" });
    box.append(area);
    const dark = root.dataset.theme === "dark";
    const scale = dark ? [[0, "#16283f"], [1, "#8ab8ff"]] : [[0, "#dbe9ff"], [1, "#1f60c4"]];
    return plot(area, [{
      type: "heatmap", x: times(view.grid), y: view.buckets, z: view.z, text: view.texts, colorscale: scale, showscale: false,
      hovertemplate: "≤ %{y}<br>%{x|%H:%M:%S}<br>%{text}<extra></extra>", hoverongaps: false, ygap: 1,
    }], layout({ hovermode: "closest", xaxis: timeAxis(view.grid, box.clientWidth), yaxis: { ...lines, gridcolor: css("line"), type: "category", nticks: 10 } }));
  };

  const barchart = (view, box) => {
    const area = element("div", { className: "plot" });
    box.append(area, element("div", { className: "legend" }, ...view.bars.map((each) =>
      element("span", {}, element("u", { style: `background:${color(each.color)}` }), each.name))));
    const places = view.labels.map((_, number) => number);
    const traces = view.bars.map((each) => ({
      type: "bar", name: each.name, x: places, y: each.y, text: each.texts, textposition: "none", marker: { color: color(each.color) },
      hovertemplate: `${each.name}: %{text}<extra></extra>`,
    }));
    return plot(area, traces, layout({
      bargap: 0.25, margin: { l: 56, r: 14, t: 9, b: 22 }, yaxis: axisOf(view.axis),
      xaxis: { tickvals: places, ticktext: view.short, tickangle: -40, automargin: true, fixedrange: true, showgrid: false, zeroline: false, range: [-0.6, places.length - 0.4] },
    }));
  };

  // ---- Numbers, tables and texts -----------------------------------------------------------------
  const stat = (view, box) => {
    const stats = element("div", { className: "stats" }, ...view.stats.map((each) =>
      element("div", { className: "stat" }, ...(each.name ? [element("i", { textContent: each.name })] : []),
        element("b", { textContent: each.text, style: `color:${ink(each.color)}` }))));
    const line = view.stats.length === 1 && view.stats[0].line;
    if (line) {
      const points = line.map((y, n) => [(100 * n) / (line.length - 1), y]).filter(([, y]) => y !== null);
      const path = points.map(([x, y]) => `${x.toFixed(2)},${(100 - 100 * y).toFixed(1)}`).join(" ");
      stats.classList.add("sparked");
      stats.insertAdjacentHTML("afterbegin", `<svg class="spark" viewBox="0 0 100 100" preserveAspectRatio="none"><polyline points="${path}" fill="none" stroke="${color(view.stats[0].color)}" stroke-width="1.5" vector-effect="non-scaling-stroke"/></svg>`);
    }
    box.append(stats);
    for (const value of stats.querySelectorAll("b")) {
      let size = Math.min(32, box.clientHeight / 2.2);
      value.style.fontSize = `${size}px`;
      while (size > 11 && value.offsetWidth > value.parentElement.clientWidth - 8) value.style.fontSize = `${--size}px`;
    }
  };
  const bargauge = (view, box) => {
    box.append(element("div", { className: "bars" }, ...view.bars.flatMap((each) => [
      element("span", { textContent: each.name, title: each.name }),
      element("u", {}, element("i", { style: `width:${100 * each.share}%;background:${color(each.color)}` })),
      element("b", { textContent: each.text, style: `color:${ink(each.color)}` }),
    ])));
  };
  const table = (view, box) => {
    const head = view.columns.map((each) => element("th", { textContent: each.name, style: `text-align:${each.align};${each.fixed ? `width:${each.width}px` : ""}` }));
    const rows = view.rows.map((row) => element("tr", {}, ...row.map((cell, at) => {
      const { cell: kind, align } = view.columns[at];
      const made = element("td", { style: `text-align:${align}` });
      if (cell.share !== undefined) {
        made.append(element("div", { className: "meter" },
          element("u", {}, element("i", { style: `width:${100 * cell.share}%;background:${color(cell.color)}` })),
          element("b", { textContent: cell.text, style: `color:${ink(cell.color)}` })));
      } else if (cell.href) {
        made.append(element("a", { href: cell.href, textContent: cell.text, ...(cell.href.startsWith("#") ? {} : { target: "_blank", rel: "noopener" }) }));
      } else made.textContent = cell.text;
      if (kind === "color-text") made.style.color = ink(cell.color);
      if (kind === "color-background" && color(cell.color).startsWith("#") && cell.color !== "text") {
        made.style.background = color(cell.color);
        made.style.color = readable(cell.color);
      }
      return made;
    })));
    box.append(element("div", { className: "rows" }, element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))));
  };
  const words = (view, box) => box.append(element("div", { className: "words", innerHTML: view.html }));

  const draw = { timeseries, barchart, heatmap, stat, bargauge, table, "state-timeline": timeline, text: words };

  // ---- The page ----------------------------------------------------------------------------------
  const chosen = {};
  const fill = async (box, panel, board) => {
    for (const old of box.querySelectorAll(".js-plotly-plot")) Plotly.purge(old);
    box.replaceChildren(...panel.notes.map((note) => element("p", { className: "note", textContent: `Not as in Grafana: ${note}` })));
    const view = panel.choice ? panel.views[chosen[panel.choice]] : panel.view;
    if (!view || view.empty !== undefined) {
      box.append(element("div", { className: "empty", textContent: view ? view.empty : "No data" }));
    } else await draw[panel.type](view, box, board);
    box.dataset.drawn = "true";
  };
  let watcher;
  const show = async () => {
    const [uid, ...settings] = location.hash.slice(1).split("&");
    const board = data.boards.find((each) => each.uid === uid) || data.boards[0];
    for (const [name, choice] of Object.entries(board.choices)) chosen[name] ||= choice.chosen;
    let moved = false;
    for (const setting of settings) {
      const [name, value] = setting.split("=").map(decodeURIComponent);
      if (board.choices[name] && board.choices[name].options.includes(value)) {
        chosen[name] = value;
        moved = name;
      }
    }
    for (const tab of document.querySelectorAll("nav a")) tab.classList.toggle("on", tab.hash.startsWith(`#${board.uid}`));
    if (watcher) watcher.disconnect();
    const jobs = [];
    watcher = new IntersectionObserver((seen) => {
      for (const each of seen) if (each.isIntersecting) { watcher.unobserve(each.target); each.target.fill(); }
    }, { rootMargin: "400px" });
    const about = element("div", { className: "about" }, element("span", { textContent: board.description }),
      ...board.variables.filter(({ text }) => text).map(({ label, text }) => element("span", {}, `${label} `, element("b", { textContent: text }))));
    const sections = board.sections.map((section) => {
      const top = Math.min(...section.panels.map((panel) => panel.box.y));
      const grid = element("div", { className: "grid" }, ...section.panels.map((panel) => {
        const body = element("div", { className: "body" });
        const title = element("span", { textContent: panel.choice ? panel.title.replaceAll(`$${panel.choice}`, chosen[panel.choice]) : panel.title });
        const heading = element("h4", {}, title, element("abbr", { textContent: "i", title: panel.description }));
        if (panel.choice) {
          const list = element("select", { title: `Choose the ${panel.choice}`, style: "margin-left:auto" }, ...Object.keys(panel.views).map((name) => element("option", { textContent: name, value: name, selected: name === chosen[panel.choice] })));
          list.onchange = () => { chosen[panel.choice] = list.value; title.textContent = panel.title.replaceAll(`$${panel.choice}`, list.value); fill(body, panel, board); };
          heading.append(list);
        }
        const { x, y, w, h } = panel.box;
        const made = element("section", { className: "panel", style: `grid-column:${x + 1}/span ${w};grid-row:${y - top + 1}/span ${h}` }, heading, body);
        made.dataset.title = panel.title;
        made.dataset.type = panel.type;
        if (panel.choice) made.dataset.choice = panel.choice;
        made.fill = () => fill(body, panel, board);
        jobs.push(made);
        return made;
      }));
      return element("div", { className: "section" }, ...(section.title ? [element("h3", { textContent: section.title })] : []), grid);
    });
    document.getElementById("boards").replaceChildren(about, ...sections);
    if (still) for (const each of jobs) await each.fill();
    else for (const each of jobs) watcher.observe(each);
    if (moved) document.querySelector(`[data-choice="${moved}"]`)?.scrollIntoView({ block: "center" });
    root.dataset.ready = "true";
  };
  const setTheme = (name) => {
    root.dataset.theme = name;
  };
  setTheme(wanted === "auto" ? system : wanted);
  document.getElementById("theme").onclick = () => { setTheme(root.dataset.theme === "dark" ? "light" : "dark"); show(); };
  document.getElementById("tabs").append(...data.boards.map((board) => element("a", { href: `#${board.uid}`, textContent: board.title })));
  addEventListener("hashchange", show);
  await show();
  if (data.refresh && !still) setTimeout(() => location.reload(), data.refresh * 1000);
})().catch((error) => {
  document.getElementById("boards").textContent = `The panels cannot be drawn: ${error.message}`;
  throw error;
});
