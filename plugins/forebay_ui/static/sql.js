// The worksheet with JavaScript: rows as they come, cancel, parameters as one types. Without it the form does the work.
"use strict";
(() => {
  const form = document.getElementById("worksheet");
  const area = document.getElementById("sql"), status = document.getElementById("status");
  const place = document.getElementById("result"), cancel = document.getElementById("cancel");
  const parameters = document.getElementById("parameters"), workspace = document.getElementById("workspace");
  const SHOWN = 100_000;
  const csrf = form.elements.csrf.value, api = form.dataset.api;
  let running = null, grid = null;

  const editor = globalThis.ForebayEditor?.(area, { run: () => run(false), names }) ?? {
    text: () => area.value,
    selection: () => area.value.slice(area.selectionStart, area.selectionEnd),
    insert: (text) => area.setRangeText(text, area.selectionStart, area.selectionEnd, "end"),
    mark: () => {},
    focus: () => area.focus(),
  };

  async function names(begin) {
    const asked = begin ? `?${new URLSearchParams({ begin })}` : "";
    const answer = await fetch(`${api}/query/tables${asked}`, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    return answer.json();
  }

  form.addEventListener("submit", (event) => {
    const what = event.submitter?.value ?? "run";
    area.value = editor.text();
    if (what !== "run" && what !== "explain") return;
    event.preventDefault();
    run(what === "explain");
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.defaultPrevented && form.contains(event.target)) {
      event.preventDefault();
      run(false);
    }
  });
  // Leaving ends a query, too, but only once everybody on the way has noticed.
  const stop = () => {
    if (running?.query) {
      const place = `${api}/query/${encodeURIComponent(running.query)}`;
      fetch(place, { method: "DELETE", credentials: "same-origin", keepalive: true, headers: { "x-forebay-csrf": csrf } }).catch(() => {});
    }
    running?.abort();
  };
  cancel.addEventListener("click", stop);

  document.querySelector(".tree")?.addEventListener("click", (event) => {
    const name = event.target.closest("[data-insert]")?.dataset.insert;
    if (!name) return;
    event.preventDefault();
    editor.insert(name);
    editor.focus();
  });
  const show = (part) => part.querySelectorAll(".insert").forEach((button) => (button.hidden = false));
  show(document);
  // A namespace's tables come when it is unfolded: there may be thousands of them.
  for (const part of document.querySelectorAll("details[data-tables]")) {
    part.addEventListener("toggle", async () => {
      const place = part.dataset.tables;
      if (!part.open || !place) return;
      delete part.dataset.tables;
      try {
        const answer = await fetch(place, { credentials: "same-origin" });
        if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
        const found = new DOMParser().parseFromString(await answer.text(), "text/html").body;
        part.replaceChildren(part.querySelector("summary"), ...found.childNodes);
        show(part);
      } catch {
        // The link to all of them is still there.
        part.dataset.tables = place;
      }
    });
  }

  async function run(explain) {
    stop();
    const mine = (running = new AbortController());
    const began = performance.now();
    const selected = editor.selection();
    const asked = {
      workspace: workspace.value, sql: selected.trim() ? selected : editor.text(), explain, rows: SHOWN,
      parameters: values(),
    };
    let told = {}, ended = false;
    grid = null;
    editor.mark([]);
    cancel.hidden = false;
    form.classList.add("busy");
    const tick = setInterval(() => tell(), 100);
    const tell = () => {
      const rows = grid?.rows.length ?? 0, percent = told.percent > 0 && told.percent < 100 ? ` · ${told.percent} %` : "";
      const more = told.text ? ` · ${told.text}` : "";
      say("run", "running", `${rows.toLocaleString("en")} rows · ${((performance.now() - began) / 1000).toFixed(1)} s${percent}${more}`);
    };
    tell();
    try {
      const answer = await fetch(`${api}/query`, {
        method: "POST", credentials: "same-origin", signal: mine.signal,
        headers: { "content-type": "application/json", "x-forebay-csrf": csrf }, body: JSON.stringify(asked),
      });
      if (!answer.ok) throw new Refused(await said(answer));
      for await (const line of lines(answer)) {
        if (mine !== running) return;
        if (line.type === "started") mine.query = line.id;
        else if (line.type === "columns") grid = new ForebayGrid(place, line.columns);
        else if (line.type === "rows") grid.add(line.rows);
        else if (line.type === "progress") told = { ...told, ...line };
        else if (line.type === "failed") throw new Refused(line.message);
        else if (line.type === "end") {
          ended = true;
          // The connection closes a moment later; until then the clock would write over what is said here.
          clearInterval(tick);
          done(line, asked, performance.now() - began);
        }
      }
      if (!ended) throw new Refused("The connection broke off before the last row.");
    } catch (error) {
      if (mine !== running) return;
      if (error.name === "AbortError") say("warn", "cancelled", `after ${((performance.now() - began) / 1000).toFixed(1)} s`);
      else {
        say("bad", "failed", "");
        look();
        failed(error instanceof Refused ? error.message : "The server did not answer. Is it up? The query was cancelled.");
      }
    } finally {
      clearInterval(tick);
      if (mine === running) {
        running = null;
        cancel.hidden = true;
        form.classList.remove("busy");
      }
    }
  }

  class Refused extends Error {}

  async function said(answer) {
    try {
      const { detail } = await answer.json();
      return String(detail);
    } catch {
      return `The server answered with ${answer.status}.`;
    }
  }

  async function* lines(answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (held + value).split("\n");
      held = parts.pop();
      for (const part of parts) yield JSON.parse(part);
    }
  }

  function done(end, asked, took) {
    const more = end.more ? ` · there are more: CSV and Parquet hold all that a query may give` : "";
    say("ok", "done", `${grid.rows.length.toLocaleString("en")} rows in ${(took / 1000).toFixed(2)} s${more}`);
    const address = new URLSearchParams({ workspace: asked.workspace, sql: asked.sql });
    for (const [name, each] of Object.entries(asked.parameters)) {
      address.set(`value.${name}`, each.value);
      if (each.type !== "automatic") address.set(`type.${name}`, each.type);
    }
    const url = `${form.dataset.here}?${address}`;
    if (url.length < 6000) status.append(Object.assign(document.createElement("a"), { href: url, textContent: "Link to this query" }));
    if (!asked.explain && grid.rows.length && grid.numeric.some(Boolean)) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "btn", textContent: "Chart" });
      button.addEventListener("click", () => {
        const there = document.getElementById("chart");
        if (there) return there.remove();
        const box = Object.assign(document.createElement("div"), { id: "chart", className: "card flush chart" });
        place.before(box);
        ForebayChart(box, grid);
      });
      status.append(button);
    }
    if (!grid.rows.length) place.append(Object.assign(document.createElement("div"), { className: "empty", textContent: "No rows" }));
  }

  function say(kind, word, text) {
    document.getElementById("chart")?.remove();
    const state = Object.assign(document.createElement("span"), { className: `state ${kind}`, textContent: word });
    const rest = Object.assign(document.createElement("span"), { textContent: text });
    // Ten times a second is too much to be read out.
    if (kind === "run") rest.setAttribute("aria-hidden", "true");
    if (kind === "run" && status.firstChild?.textContent === word) status.lastChild.textContent = text;
    else status.replaceChildren(state, rest);
  }

  function failed(message) {
    const box = Object.assign(document.createElement("div"), { className: "hint bad", id: "failed" });
    const marks = [];
    for (const line of message.split("\n")) {
      const found = /^SQL:(\d+):(\d+): (.*)/.exec(line);
      if (found) marks.push({ line: Number(found[1]), column: Number(found[2]), message: found[3] });
      const shown = document.createElement("div");
      if (found) shown.append(Object.assign(document.createElement("span"), { className: "mono", textContent: `${found[1]}:${found[2]} ` }), found[3]);
      else shown.textContent = line;
      box.append(shown);
    }
    editor.mark(marks);
    place.replaceChildren(box);
  }

  // Parameters: a field for each :name in the text.
  function values() {
    const found = {};
    for (const field of parameters.querySelectorAll("input")) {
      const name = field.name.slice("value.".length);
      found[name] = { value: field.value, type: parameters.querySelector(`[name="type.${CSS.escape(name)}"]`).value };
    }
    return found;
  }

  let timer;
  const changed = () => {
    clearTimeout(timer);
    timer = setTimeout(look, 400);
  };
  area.addEventListener("input", changed);

  async function look() {
    const sql = editor.text();
    if (!sql.trim() || !workspace.value) return;
    const answer = await fetch(`${api}/query/check`, {
      method: "POST", credentials: "same-origin", headers: { "content-type": "application/json", "x-forebay-csrf": csrf },
      body: JSON.stringify({ workspace: workspace.value, sql }),
    }).catch(() => null);
    if (!answer?.ok || sql !== editor.text()) return;
    const found = await answer.json();
    editor.mark(found.mistakes);
    if (!found.mistakes.length) ask(found.parameters);
  }

  function ask(wanted) {
    const there = values();
    if (wanted.join() === Object.keys(there).join()) return;
    const template = (name) => {
      const label = Object.assign(document.createElement("label"), { className: "field" });
      const field = Object.assign(document.createElement("input"), { name: `value.${name}`, maxLength: 10000, value: there[name]?.value ?? "" });
      const type = Object.assign(document.createElement("select"), { name: `type.${name}`, ariaLabel: `Type of ${name}` });
      for (const kind of ["automatic", "string", "integer", "number", "boolean", "date", "datetime"]) type.append(new Option(kind, kind, false, kind === there[name]?.type));
      label.append(Object.assign(document.createElement("span"), { className: "mono", textContent: `:${name}` }), field, type);
      return label;
    };
    parameters.replaceChildren(...wanted.map(template));
    parameters.hidden = !wanted.length;
  }
})();
