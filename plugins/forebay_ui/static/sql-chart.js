// A picture of a result: bars, or a line where the first axis is a time.
"use strict";
globalThis.ForebayChart = (place, grid) => {
  const MOST = 400, WIDTH = 800, HEIGHT = 260, LEFT = 64, BOTTOM = 28, TOP = 10;
  const numbers = grid.columns.map((_, at) => at).filter((at) => grid.numeric[at]);
  if (!numbers.length || !grid.rows.length) {
    place.textContent = "A chart needs rows with a column of numbers.";
    return;
  }
  const others = grid.columns.map((_, at) => at).filter((at) => !grid.numeric[at]);
  const choose = (label, chosen, among) => {
    const field = Object.assign(document.createElement("label"), { className: "field", textContent: label });
    const select = document.createElement("select");
    for (const at of among) select.append(new Option(grid.columns[at].name, at, false, at === chosen));
    select.addEventListener("change", draw);
    field.append(select);
    return [field, select];
  };
  const start = others.find((at) => /^(date|timestamp)/.test(grid.columns[at].type)) ?? others[0] ?? 0;
  const [xField, x] = choose("along ", start, grid.columns.map((_, at) => at));
  const [yField, y] = choose("how much ", numbers.find((at) => at !== start) ?? numbers[0], numbers);
  const bar = Object.assign(document.createElement("div"), { className: "bar" });
  const note = Object.assign(document.createElement("span"), { className: "sub" });
  bar.append(xField, yField, note);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  place.replaceChildren(bar, picture);
  draw();

  function draw() {
    const rows = grid.rows.slice(0, MOST), [across, up] = [Number(x.value), Number(y.value)];
    const values = rows.map((row) => (row[up] === null ? NaN : Number(row[up])));
    const real = values.filter(Number.isFinite);
    note.textContent = grid.rows.length > MOST ? `the first ${MOST} rows` : "";
    const low = Math.min(0, ...real), high = Math.max(0, ...real), span = high - low || 1;
    const at = (value) => TOP + (1 - (value - low) / span) * (HEIGHT - BOTTOM - TOP);
    const step = (WIDTH - LEFT) / rows.length;
    const parts = [];
    for (const value of [low, low + span / 2, high]) {
      parts.push(svg("line", { x1: LEFT, x2: WIDTH, y1: at(value), y2: at(value) }));
      parts.push(label(Number(value.toPrecision(4)).toLocaleString("en"), LEFT - 8, at(value) + 4, "end"));
    }
    if (/^(date|timestamp)/.test(grid.columns[across].type)) {
      const points = values.flatMap((value, i) => (Number.isFinite(value) ? [`${LEFT + (i + 0.5) * step},${at(value)}`] : []));
      parts.push(svg("polyline", { points: points.join(" ") }));
    } else {
      values.forEach((value, i) => {
        if (!Number.isFinite(value)) return;
        const box = svg("rect", { x: LEFT + i * step, width: Math.max(step * 0.82, 0.8), y: Math.min(at(value), at(0)), height: Math.max(Math.abs(at(value) - at(0)), 0.5) });
        box.append(svg("title", {}, `${rows[i][across] ?? "null"}: ${rows[i][up]}`));
        parts.push(box);
      });
    }
    const every = Math.max(1, Math.ceil(rows.length / 10));
    for (let i = 0; i < rows.length; i += every) {
      parts.push(label(String(rows[i][across] ?? "null").slice(0, 12), LEFT + (i + 0.45) * step, HEIGHT - 8, "middle"));
    }
    picture.setAttribute("aria-label", `${grid.columns[up].name} by ${grid.columns[across].name}`);
    picture.replaceChildren(...parts);
  }

  function label(text, left, top, anchor) {
    return svg("text", { x: left, y: top, "text-anchor": anchor }, text);
  }

  function svg(name, values, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }
};
