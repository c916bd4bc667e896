// A table of very many rows: only those that can be seen are in the page.
"use strict";
globalThis.ForebayGrid = class {
  static HEIGHT = 28;
  static AROUND = 20;

  constructor(place, columns) {
    this.columns = columns;
    this.rows = [];
    this.numeric = columns.map((each) => /^(tinyint|smallint|integer|bigint|real|double|decimal)/.test(each.type));
    this.scroller = element("div", { className: "scroll results grid", tabIndex: 0 });
    this.scroller.setAttribute("role", "region");
    this.scroller.setAttribute("aria-label", "Result");
    this.table = element("table");
    this.widths = element("colgroup");
    const head = element("thead"), names = element("tr");
    names.append(element("th", { className: "n", scope: "col", textContent: "#" }));
    for (const [at, column] of columns.entries()) {
      const cell = element("th", { scope: "col", title: `${column.name}: ${column.type}`, className: this.numeric[at] ? "num" : "" });
      cell.append(column.name, " ", element("span", { className: "sub", textContent: column.type }));
      names.append(cell);
    }
    head.append(names);
    this.body = element("tbody");
    this.table.append(this.widths, head, this.body);
    this.scroller.append(this.table);
    place.replaceChildren(element("div", { className: "card flush" }));
    place.firstChild.append(this.scroller);
    this.scroller.addEventListener("scroll", () => this.soon(), { passive: true });
    this.first = -1;
    this.soon();
  }

  add(rows) {
    const had = this.rows.length;
    for (const row of rows) this.rows.push(row);
    if (!had && rows.length) this.measure();
    this.changed = true;
    this.soon();
  }

  // Widths are the first rows': columns that moved while rows come in could not be read.
  measure() {
    const some = this.rows.slice(0, 200);
    const wide = this.columns.map((column, at) => {
      const longest = some.reduce((most, row) => Math.max(most, row[at] === null ? 4 : row[at].length), column.name.length + column.type.length * 0.9 + 1);
      return Math.min(Math.max(longest, 5), 48) * 7.7 + 28;
    });
    this.widths.replaceChildren(...[String(this.rows.length > 1000 ? 100000 : 9999).length * 8 + 28, ...wide].map((width) => {
      const column = element("col");
      column.style.width = `${Math.round(width)}px`;
      return column;
    }));
  }

  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const { HEIGHT, AROUND } = globalThis.ForebayGrid;
    const seen = Math.ceil((this.scroller.clientHeight || 400) / HEIGHT);
    let first = Math.max(0, Math.floor(this.scroller.scrollTop / HEIGHT) - AROUND);
    first -= first % 2;
    if (first === this.first && !this.changed) return;
    this.first = first;
    this.changed = false;
    const last = Math.min(this.rows.length, first + seen + 2 * AROUND);
    const shown = [fill(first * HEIGHT)];
    for (let at = first; at < last; at++) shown.push(this.row(at));
    shown.push(fill((this.rows.length - last) * HEIGHT));
    this.body.replaceChildren(...shown);
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
  }

  row(at) {
    const row = element("tr");
    row.setAttribute("aria-rowindex", at + 2);
    row.append(element("td", { className: "n", textContent: (at + 1).toLocaleString("en") }));
    this.rows[at].forEach((value, column) => {
      const cell = element("td", { className: this.numeric[column] ? "value num" : "value" });
      if (value === null) cell.append(element("span", { className: "null", textContent: "null" }));
      else {
        cell.textContent = value.length > 500 ? `${value.slice(0, 500)}…` : value;
        if (value.length > 20) cell.title = value.slice(0, 5000);
      }
      row.append(cell);
    });
    return row;
  }
};

function fill(height) {
  const row = element("tr", { className: "fill" }), cell = element("td");
  cell.style.height = `${height}px`;
  row.hidden = !height;
  row.setAttribute("aria-hidden", "true");
  row.append(cell);
  return row;
}

function element(name, values = {}) {
  return Object.assign(document.createElement(name), values);
}
