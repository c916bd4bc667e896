// "Check all" in place: each row tells its state as its check goes on. Without this file the form opens a page of its own.
"use strict";
(() => {
  const form = document.querySelector("form[data-check-all]");
  const table = document.getElementById("connections");
  if (!form || !table) return;
  const rows = new Map([...table.querySelectorAll("tr[data-connection]")].map((row) => [row.dataset.connection, row]));

  const say = (row, state, word) => {
    const badge = document.createElement("span");
    badge.className = `state ${state}`;
    badge.textContent = word;
    row.querySelector(".outcome").replaceChildren(badge);
  };
  const order = ["bad", "warn", "ok"];
  const took = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);

  const tell = (event, count) => {
    const row = rows.get(event.connection_id);
    if (!row) return;
    if (event.step && !row.dataset.server) say(row, "run", event.step.title);
    const report = event.report;
    // Without a place nothing was checked: no worker answered.
    if (!report || !report.where) {
      if (report) row.querySelector(".checked").textContent = "just now, not from a worker";
      return;
    }
    // The first result is the API server's, the second from where tasks run. The worse one stays.
    const before = row.dataset.server;
    if (before) count[before] -= 1;
    const worse = !before || order.indexOf(report.state) <= order.indexOf(before);
    const differ = before && (before === "bad") !== (report.state === "bad");
    if (worse) {
      say(row, report.state, differ ? `from a worker: ${report.word}` : report.word);
      row.querySelector(".took").textContent = took(report.seconds);
    } else if (differ) {
      const badge = row.querySelector(".outcome .state");
      badge.textContent = `from the API server: ${badge.textContent}`;
    }
    row.querySelector(".checked").textContent = before ? "just now" : "just now; a worker…";
    row.dataset.server = worse ? report.state : before;
    count[row.dataset.server] += 1;
  };

  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const button = form.querySelector("button");
    const tally = document.getElementById("tally");
    const count = { ok: 0, warn: 0, bad: 0 };
    rows.forEach((row) => delete row.dataset.server);
    button.disabled = true;
    button.textContent = "Checking…";
    try {
      const answer = await fetch(form.dataset.checkAll, {
        method: "POST",
        credentials: "same-origin",
        headers: { "x-forebay-csrf": form.elements.csrf.value },
      });
      if (!answer.ok) throw new Error((await answer.json()).detail);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) tell(JSON.parse(line), count);
        const all = count.ok + count.warn + count.bad;
        tally.textContent = `${all} checked: ${count.ok} work, ${count.warn} only in part, ${count.bad} do not.`;
      }
      button.textContent = "Check all again";
    } catch (error) {
      tally.textContent = `The check broke off: ${error.message}`;
      button.textContent = "Check all";
    }
    button.disabled = false;
  });
})();
